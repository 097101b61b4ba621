"""One Node.js process that many tests use, one after another."""

from __future__ import annotations

from pathlib import Path

from tests.node.bull import Bull


class BullProcesses:
    """Starts it when it is first asked for, and another when it was lost."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current: Bull | None = None

    def get(self) -> Bull:
        if self._current is None or not self._current.running:
            self._current = Bull.start(self._folder)
        return self._current

    def close(self) -> None:
        if self._current is not None:
            self._current.close()
