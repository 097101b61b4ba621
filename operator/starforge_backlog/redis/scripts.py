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
def load_script(package: str, name: str, *, bounded: bool = False) -> Script:
    """The script in `name` beside the modules of `package` (pass `__package__`).

    `bounded`: with the functions of `bounded.lua` in front, for what reads jobs' own text.
    Raises FileNotFoundError when the wheel was built without the file.
    """
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    if bounded:
        text = files(__package__).joinpath("bounded.lua").read_text(encoding="utf-8") + text
    return Script(name, text)
