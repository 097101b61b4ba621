"""What a container can be, as its status shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Waiting:
    reason: str
    message: str = ""

    def render(self) -> dict[str, Any]:
        return {"waiting": _filled(reason=self.reason, message=self.message)}


@dataclass(frozen=True)
class Running:
    started_at: str

    def render(self) -> dict[str, Any]:
        return {"running": {"startedAt": self.started_at}}


@dataclass(frozen=True)
class Terminated:
    exit_code: int
    reason: str
    started_at: str
    finished_at: str
    message: str = ""

    def render(self) -> dict[str, Any]:
        return {
            "terminated": {
                "exitCode": self.exit_code,
                "startedAt": self.started_at,
                "finishedAt": self.finished_at,
                **_filled(reason=self.reason, message=self.message),
            }
        }


State = Waiting | Running | Terminated


def timestamp() -> str:
    """As `metav1.Time` is written: whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _filled(**texts: str) -> dict[str, str]:
    return {key: text for key, text in texts.items() if text}
