"""How large a status can become, and what keeps each of its texts within that (P6, P7).

The API server refuses an object of more than about 1.5 MB, and with a refused status goes all that
the operator has to remember. So every field of a status model that holds text says what it is:

- `Shown(characters, items)`: for people. Cut by `api/fitting.py` before each write.
- `KEPT`: what a decision or a resume compares. Never cut: a pause whose memory does not fit
  is refused before it is made (`decide/pauses/memory.py`).

These bounds are no part of the CRD: it must not be able to refuse a write of the operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starforge_backlog.api.shown import SHOWN_CHARACTERS

# A status as the API server stores it. The rest of 1.5 MB is for spec, annotations and the record
# of who wrote which field, which repeats the keys of a status.
MOST_STATUS_BYTES: Final = 512 * 1024
# Of these, all that is remembered of pauses: what a resume puts back, and where. Some 50 pauses of
# 40 backfills each; an ordinary pause takes 300 bytes.
MOST_MEMORY_BYTES: Final = 256 * 1024
# What one value that a pause replaces (a flag, a key of a ConfigMap, a concurrency) may be long.
# It is known only when the pause is made, so this much is kept free for it before.
MOST_PREVIOUS_BYTES: Final = 4 * 1024
# What a host list of a Secret may take in the text that says where a pause was made.
MOST_WHERE_CHARACTERS: Final = 2_000

# A word of our own, a rounded number, an age.
WORD: Final = 40
# A sentence with its numbers.
SENTENCE: Final = 500
# A sentence that lists things, each with its fix.
PARAGRAPH: Final = 2_000


@dataclass(frozen=True, slots=True)
class Shown:
    """Text for people: at most so many characters each, in at most so many items of a list."""

    characters: int = SHOWN_CHARACTERS
    items: int | None = None


class Kept:
    """Memory: what it holds is bounded where it is made, and is never cut."""


KEPT: Final = Kept()


class Remembered:
    """What no person needs to read: it is in `status.memory`, see `api/memory.py`."""


REMEMBERED: Final = Remembered()
