"""The keys of a BullMQ queue (majors 4 to 6)."""

from __future__ import annotations

from dataclasses import dataclass

# In the order that queue_state.lua knows them by.
_FIXED = (
    "id",
    "wait",
    "paused",
    "active",
    "delayed",
    "prioritized",
    "completed",
    "failed",
    "waiting-children",
    "meta",
    "marker",
    "events",
    "metrics:completed",
    "metrics:failed",
    "meta-paused",  # of Bull 3 and 4 while they are paused
)


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of one queue's keys."""

    prefix: str
    name: str

    @property
    def base(self) -> str:
        """What all of them begin with; a job's key is this and its id."""
        return f"{self.prefix}:{self.name}:"

    @property
    def fixed(self) -> tuple[str, ...]:
        """Those that do not depend on a job."""
        return tuple(self.base + suffix for suffix in _FIXED)

    def of(self, suffix: str) -> str:
        """One of them."""
        return self.base + suffix
