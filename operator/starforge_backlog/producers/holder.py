"""Who asks, and what it remembers: for producers whose rows have no place for a token."""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.api.status import PauseStatus


@dataclass(frozen=True, slots=True)
class Holder:
    """One policy and its entry for the producer in status; None: it has none."""

    owner: str  # the first part of its tokens: the policy's uid
    producer: str
    entry: PauseStatus | None = None

    @property
    def name(self) -> str:
        """Owner and producer as they stand in a token, also after the producer was renamed."""
        if self.entry is not None and self.entry.token:
            return named_in(self.entry.token)
        return f"{self.owner}/{self.producer}"


def named_in(token: str) -> str:
    """Owner and producer: what two pauses by one policy of one producer have in common."""
    return token.rpartition("/")[0]
