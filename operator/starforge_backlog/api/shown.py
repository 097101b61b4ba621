"""Text from outside (job names, error messages, session names), cut to what status can hold (P7).

A BullMQ job may be added with its payload as the name, and PostgreSQL's `text` holds a gigabyte.
The API server refuses a status of more than 1.5 MB, and with it everything that the operator has
to remember (P6). So every such text passes through here where it enters a reading.
"""

from __future__ import annotations

import hashlib
from typing import Final

SHOWN_CHARACTERS: Final = 100
"""Characters of a name that are shown: longer than any name that a person chose."""

_DIGEST_BYTES: Final = 4  # distinguishes names with the same beginning; not a security boundary


def shortened(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """`text` on one line and in at most `most` characters (at least 20).

    What is cut ends in `…#` and eight hexadecimal digits of a digest of the whole text, so that two
    long names that begin alike stay two names. Control characters and halves of surrogate pairs,
    which JSON or etcd refuse, become spaces and question marks.
    """
    clean = "".join(character if character.isprintable() else " " for character in text[: most + 1])
    clean = clean.encode(errors="replace").decode()
    if len(text) <= most:
        return clean
    whole = text.encode(errors="surrogatepass")
    ending = "…#" + hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).hexdigest()
    return clean[: most - len(ending)] + ending
