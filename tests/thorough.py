"""Whether the long form of tests is asked for: `STARFORGE_TESTS=thorough`, `make test-thorough`.

The short form, with fewer examples, kills or rounds, is what every run of all tests can afford.
"""

from __future__ import annotations

import os
from typing import Final

THOROUGH: Final = os.environ.get("STARFORGE_TESTS") == "thorough"
