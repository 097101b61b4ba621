"""The one exception of this package. Its message always ends with what to do about it."""

from __future__ import annotations

from pathlib import Path


class LocalError(RuntimeError):
    """Something on this machine keeps the cluster from running; the message names the fix."""


def log_tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log, for messages: people should not have to open a file first."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return f"(no log at {path})"
    tail = [line[:400] for line in text.splitlines()[-lines:]]
    return "\n".join(f"    {line}" for line in tail) + f"\n  whole log: {path}"
