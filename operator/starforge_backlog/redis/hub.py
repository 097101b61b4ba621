"""All Redis connections of the operator: found by URL, shared by policies, closed when idle."""

from __future__ import annotations

from datetime import timedelta

from starforge_backlog.connections.pool import IDLE_AFTER, Hub
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.node import Pacing
from starforge_backlog.redis.url import RedisUrl, parse_url


class RedisHub(Hub[RedisUrl, RedisServer]):
    """One `RedisServer` per servers, database and user, however many policies ask for it (P7).

    See `Hub` for who shares a connection with whom.
    """

    def __init__(self, *, pacing: Pacing | None = None, idle_after: timedelta = IDLE_AFTER) -> None:
        super().__init__(lambda url: RedisServer(url, pacing=pacing), idle_after=idle_after)

    def get(
        self, url: str, *, owner: str, ca: str | None = None, server_name: str | None = None
    ) -> RedisServer:
        """The Redis of a URL as it stands in a Secret; `owner` is the policy that asks.

        `ca` (PEM) and `server_name` are the policy's `tls`, of use with rediss only. Nothing is
        opened yet. Raises RedisFault(SECRET_MALFORMED).
        """
        return self.shared(parse_url(url, ca=ca, server_name=server_name), owner=owner)
