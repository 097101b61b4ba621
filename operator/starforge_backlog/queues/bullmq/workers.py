"""Workers with a connection to a Redis, by the names that BullMQ gives their connections."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from starforge_backlog.connections.ttl_cache import TtlCache
from starforge_backlog.queues.bullmq.keys import Keys
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.snapshot import Why

# `<prefix>:<base64 of the queue's name>`, or that and `:w:<worker's name>`. With `:qe` in its place
# it is a listener and no worker.
_NAMED = ":w:"
_FIELD = re.compile(r" name=(\S+) ")

NOT_ALLOWED = (
    "Redis does not allow the operator to list its clients, so live workers are not counted; run"
    " ACL SETUSER {user} +client|list (a managed Redis may not offer it)."
)


TOO_MANY = (
    "Redis has {clients:,} connections, too many to list (more than {most:,}), so live workers are"
    " not counted."
)


@dataclass(frozen=True, slots=True)
class Clients:
    """Workers by queue. `allowed` is False where the server does not let us ask; `too_many`: there
    are so many connections that we do not."""

    workers: Counter[tuple[str, str]] = field(default_factory=Counter)
    allowed: bool = True
    too_many: int = 0

    def of(self, keys: Keys) -> int | None:
        """Workers of one queue."""
        known = self.allowed and not self.too_many
        return self.workers[keys.prefix, keys.name] if known else None


def parse_clients(lines: Iterable[str]) -> Clients:
    """From CLIENT LIST."""
    found: Counter[tuple[str, str]] = Counter()
    for line in lines:
        name = _FIELD.search(line)
        prefix, colon, encoded = (name[1] if name else "").partition(_NAMED)[0].rpartition(":")
        try:
            queue = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue  # a listener, or none of BullMQ's
        if colon and queue.isprintable():
            found[prefix, queue] += 1
    return Clients(found)


class ClientList:
    """One list for all queues of a server, asked for at most every few seconds."""

    def __init__(
        self,
        server: RedisServer,
        *,
        timer: Callable[[], float],
        every: timedelta,
        duty: int,
        longest_pause: timedelta,
        most: int,
    ) -> None:
        self._server = server
        self._timer = timer
        self._every = every.total_seconds()
        self._duty = duty
        self._longest = longest_pause.total_seconds()
        self._most = most
        self._kept: TtlCache[None, Clients] = TtlCache(timer)

    async def read(self, keys: Keys, connections: int | None) -> Clients:
        """`connections`: as many as the server says it has; None: it does not say. Raises
        RedisFault when the server does not answer."""
        if connections is not None and connections > self._most:
            return Clients(too_many=connections)
        took = 0.0

        async def ask() -> Clients:
            nonlocal took
            started = self._timer()
            found = await self._ask(keys)
            took = self._timer() - started
            return found

        def lasts(_: Clients) -> float:
            return max(self._every, min(took * self._duty, self._longest)) - took

        return await self._kept.get(None, ask, lasts)

    async def _ask(self, keys: Keys) -> Clients:
        (answer,) = await self._server.pipeline(
            [("CLIENT", "LIST", "TYPE", "normal")], keys=[keys.of("id")]
        )
        if not isinstance(answer, RedisFault):
            return parse_clients(str(answer).splitlines())
        # NOPERM, or "unknown command" where a managed Redis does not offer it.
        if answer.why is Why.NO_PERMISSION or answer.code == "ERR":
            return Clients(allowed=False)
        raise answer
