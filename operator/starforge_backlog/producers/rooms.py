"""From a producer in a spec (or a place in a status) to the thing that can be paused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from starforge_backlog.api.policy import FeatureFlag, Producer
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.producers.feature_flag import FeatureFlagProducer
from starforge_backlog.producers.shared import SharedProducer

# Younger readings are shared by the policies that run at the same moment (see passes.py): most of
# them pause the same flag, and 200 statements for one row kept the others waiting for a second.
SHARED_FOR = timedelta(seconds=1)
# A flag that nobody asked for this long is forgotten: its policies are gone or were changed.
FORGET_AFTER = timedelta(minutes=30)


class ProducerRooms:
    """What is shared between policies: one reading per flag and connection, gone with it."""

    def __init__(self, databases: DatabaseHub, clock: Clock) -> None:
        self._databases = databases
        self._clock = clock

    def pausable(self, producer: Producer, database: Database) -> SharedProducer:
        """The one way that the spec names; the schema has seen to it that there is exactly one."""
        assert producer.feature_flag is not None, "the CRD refuses a producer without a way"
        return self.flag(producer.feature_flag, database)

    def flag(self, place: FeatureFlag, database: Database) -> SharedProducer:
        """A row of a flag table."""
        return self._databases.attached(database, _Flags, _Flags).get(
            place, lambda: FeatureFlagProducer(database, place, self._clock)
        )


class _Flags:
    """The flags of one connection."""

    def __init__(self) -> None:
        self._flags: dict[FeatureFlag, SharedProducer] = {}

    def get(self, place: FeatureFlag, make: Callable[[], FeatureFlagProducer]) -> SharedProducer:
        """The shared reading of a flag."""
        if place not in self._flags:
            oldest = asyncio.get_running_loop().time() - FORGET_AFTER.total_seconds()
            for idle in [p for p, flag in self._flags.items() if flag.idle_since() < oldest]:
                del self._flags[idle]
            self._flags[place] = SharedProducer(make(), SHARED_FOR)
        return self._flags[place]
