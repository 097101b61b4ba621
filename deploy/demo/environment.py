"""Reading a pod's environment. A missing variable ends the process with a sentence."""

from __future__ import annotations

import os


def text(name: str, default: str | None = None) -> str:
    """The variable, or the default; without either the process cannot run."""
    value = os.environ.get(name, default)
    if value is None:
        msg = f"the environment variable {name} is not set; the Deployment must set it"
        raise SystemExit(msg)
    return value


def integer(name: str, default: int) -> int:
    """A whole number, at least 0."""
    value = text(name, str(default))
    if not value.isdigit():
        msg = f"{name}={value!r} is not a whole number"
        raise SystemExit(msg)
    return int(value)
