"""Producers that are kept from pass to pass, each with the readings that its policies share."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import Final

from starforge_backlog.connections.kept import Kept
from starforge_backlog.producers.protocol import Pausable
from starforge_backlog.producers.shared import SharedProducer

# Younger readings are shared by the policies that run at the same moment (see scheduler.py): most
# of them pause the same flag, and 200 statements for one row kept the others waiting for a second.
SHARED_FOR: Final = timedelta(seconds=1)


class KeptProducers(Kept):
    """The producers behind one connection. The place is a producer's part of the spec."""

    def shared(self, place: Hashable, make: Callable[[], Pausable]) -> SharedProducer:
        """A producer that is the same to all policies."""
        return self.get(place, lambda: SharedProducer(make(), SHARED_FOR))
