"""From a producer in a spec (or a place in a status) to the thing that can be paused."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from starforge_backlog.api.policy import FeatureFlag, Producer
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.url import ServerKey
from starforge_backlog.producers.feature_flag import FeatureFlagProducer
from starforge_backlog.producers.shared import SharedProducer

# Younger readings are shared by the policies that run at the same moment (see passes.py): most of
# them pause the same flag, and 200 statements for one row kept the others waiting for a second.
SHARED_FOR = timedelta(seconds=1)
# A flag that nobody asked for this long is forgotten: its policies are gone or were changed.
FORGET_AFTER = timedelta(minutes=30)


class ProducerRooms:
    """What is shared between policies: one reading per flag and connection."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # By what the connection leads to, as in `QueueRooms`: the readers hold the connection.
        self._flags: dict[ServerKey, tuple[Database, dict[FeatureFlag, SharedProducer]]] = {}

    def pausable(self, producer: Producer, database: Database) -> SharedProducer:
        """The one way that the spec names; the schema has seen to it that there is exactly one."""
        assert producer.feature_flag is not None, "the CRD refuses a producer without a way"
        return self.flag(producer.feature_flag, database)

    def flag(self, place: FeatureFlag, database: Database) -> SharedProducer:
        """A row of a flag table."""
        known = self._flags.get(database.key)
        # The hub closes a connection that no policy asks for, and may open another later.
        if known is None or known[0] is not database:
            known = (database, {})
            self._flags[database.key] = known
        flags = known[1]
        if place not in flags:
            self._forget_idle(flags)
            flag = FeatureFlagProducer(database, place, self._clock)
            flags[place] = SharedProducer(flag, SHARED_FOR)
        return flags[place]

    @staticmethod
    def _forget_idle(flags: dict[FeatureFlag, SharedProducer]) -> None:
        oldest = asyncio.get_running_loop().time() - FORGET_AFTER.total_seconds()
        for place in [p for p, flag in flags.items() if flag.idle_since() < oldest]:
            del flags[place]
