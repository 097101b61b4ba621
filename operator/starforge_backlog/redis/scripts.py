"""Lua from `.lua` files: each file is one script, with the promise it keeps on top."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name that Redis keeps it under."""

    name: str
    text: str = field(repr=False)

    @property
    def sha(self) -> str:
        """SHA-1 of the text: Redis' own key of its script cache."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def load_script(package: str, name: str) -> Script:
    """The script in `name` beside the modules of `package` (pass `__package__`).

    Raises FileNotFoundError when the wheel was built without the file.
    """
    return Script(name, files(package).joinpath(name).read_text(encoding="utf-8"))
