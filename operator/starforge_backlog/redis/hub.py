"""All Redis connections of the operator: found by URL, shared by policies, closed when idle."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from starforge_backlog.connections import IDLE_AFTER, SharedConnections
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.node import Pacing
from starforge_backlog.redis.url import RedisUrl, parse_url

T = TypeVar("T")


class RedisHub:
    """One `RedisServer` per servers, database and user, however many policies ask for it (P7).

    See `SharedConnections` for who shares a connection with whom.
    """

    def __init__(self, *, pacing: Pacing | None = None, idle_after: timedelta = IDLE_AFTER) -> None:
        self._shared: SharedConnections[RedisUrl, RedisServer] = SharedConnections(
            lambda url: RedisServer(url, pacing=pacing), idle_after=idle_after
        )

    def get(
        self, url: str, *, owner: str, ca: str | None = None, server_name: str | None = None
    ) -> RedisServer:
        """The Redis of a URL as it stands in a Secret; `owner` is the policy that asks.

        `ca` (PEM) and `server_name` are the policy's `tls`, of use with rediss only. Nothing is
        opened yet. Raises RedisFault(SECRET_MALFORMED).
        """
        return self._shared.get(parse_url(url, ca=ca, server_name=server_name), owner=owner)

    def attached(self, server: RedisServer, kind: type[T], make: Callable[[], T]) -> T:
        """What somebody keeps beside a connection (readers with their samples): made once, and
        gone with the connection."""
        return self._shared.attached(server, kind, make)

    def release(self, owner: str) -> None:
        """`owner` is gone (its policy was deleted): close what only it used."""
        self._shared.release(owner)

    async def close(self) -> None:
        """Close everything. The hub can be used again and then connects anew."""
        await self._shared.close()
