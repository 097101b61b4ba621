"""Producers that are kept from pass to pass, each with the readings that its policies share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import Final, Protocol, TypeVar, cast

from starforge_backlog.producers.protocol import Pausable
from starforge_backlog.producers.shared import SharedProducer

# Younger readings are shared by the policies that run at the same moment (see scheduler.py): most
# of them pause the same flag, and 200 statements for one row kept the others waiting for a second.
SHARED_FOR: Final = timedelta(seconds=1)
# A producer that nobody asked for this long is forgotten: its policies are gone or were changed.
FORGET_AFTER: Final = timedelta(minutes=30)


class Keepable(Protocol):
    """What is kept."""

    def idle_since(self) -> float:
        """Loop time of the last question."""


K = TypeVar("K", bound=Keepable)


class Kept:
    """The producers behind one connection."""

    def __init__(self) -> None:
        self._producers: dict[Hashable, Keepable] = {}

    def shared(self, place: Hashable, make: Callable[[], Pausable]) -> SharedProducer:
        """A producer that looks the same to all policies."""
        return self.get(place, lambda: SharedProducer(make(), SHARED_FOR))

    def get(self, place: Hashable, make: Callable[[], K]) -> K:
        """The one producer at a place. `place` is its part of the spec, so it tells the kind."""
        found = self._producers.get(place)
        if found is None:
            oldest = asyncio.get_running_loop().time() - FORGET_AFTER.total_seconds()
            for idle in [p for p, one in self._producers.items() if one.idle_since() < oldest]:
                del self._producers[idle]
            found = self._producers[place] = make()
        return cast("K", found)
