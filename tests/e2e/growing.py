"""A file that only grows, such as a log: each line is parsed once, however often it is asked for.

Ten stories that read ten times a second a log of some megabytes cost more than the operator.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class GrowingFile(Generic[T]):
    """Whole lines; one that is being written is not there yet. For several threads."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self.path = path
        self._parse = parse
        self._lock = threading.Lock()
        self._read = 0  # bytes
        self._starts: list[int] = []
        self._lines: list[T] = []

    def size(self) -> int:
        """A mark: what comes later is `since` it."""
        return self.path.stat().st_size if self.path.exists() else 0

    def since(self, mark: int = 0) -> list[T]:
        """The lines that begin at a mark or later. Raises what `parse` raises."""
        with self._lock:
            self._catch_up()
            return self._lines[bisect_left(self._starts, mark) :]

    def _catch_up(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                if line.strip():
                    self._lines.append(self._parse(line))
                    self._starts.append(self._read)
                self._read += len(line)
