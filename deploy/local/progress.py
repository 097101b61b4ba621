"""What a long wait shows: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

PLAIN_EVERY = 10.0


def say(text: str) -> None:
    sys.stderr.write(f"[local] {text}\n")
    sys.stderr.flush()


class Bar(Protocol):
    def update(self, done: int, note: str) -> None: ...


@contextlib.contextmanager
def bar(title: str, total: int) -> Iterator[Bar]:
    if sys.stderr.isatty():
        with _rich_bar(title, total) as fancy:
            yield fancy
    else:
        yield _PlainBar(title, total)


class _PlainBar:
    """For logs and CI: few lines, each complete in itself."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._started = time.monotonic()
        self._next = self._started + PLAIN_EVERY

    def update(self, done: int, note: str) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PLAIN_EVERY
        elapsed = now - self._started
        say(f"{self._title}: {done} of {self._total} packages, {elapsed:.0f} s, {note}")


@contextlib.contextmanager
def _rich_bar(title: str, total: int) -> Iterator[Bar]:
    from rich import progress as rich_progress  # noqa: PLC0415 - only a terminal needs it
    from rich.console import Console  # noqa: PLC0415 - as above

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("[dim]{task.fields[note]}"),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as display:
        task = display.add_task(title, total=total, note="")

        class RichBar:
            def update(self, done: int, note: str) -> None:
                display.update(task, completed=done, note=note[-48:])

        yield RichBar()
