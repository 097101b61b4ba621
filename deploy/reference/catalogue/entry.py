"""One row of the reference of a status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NOTHING: Final = "–"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a word means to whoever reads it, in Markdown. Links are relative to docs/reference."""

    meaning: str
    action: str = NOTHING
    # The status that a reason of a condition stands with, or the type of an Event.
    kind: str = ""
