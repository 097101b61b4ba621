"""From a producer in a spec (or a place in a status) to the thing that can be paused."""

from __future__ import annotations

from starforge_backlog.api.policy import FeatureFlag, Producer
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.producers.feature_flag import FeatureFlagProducer
from starforge_backlog.producers.protocol import Pausable


def pausable(producer: Producer, database: Database, clock: Clock) -> Pausable:
    """The one way that the spec names; the schema has seen to it that there is exactly one."""
    assert producer.feature_flag is not None, "the CRD refuses a producer without a way to pause"
    return flag(producer.feature_flag, database, clock)


def flag(place: FeatureFlag, database: Database, clock: Clock) -> Pausable:
    """A row of a flag table."""
    return FeatureFlagProducer(database, place, clock)
