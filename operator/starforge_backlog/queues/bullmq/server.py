"""What a Redis says of itself that decides how far its queues can be believed (INFO)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from starforge_backlog.connections.ttl_cache import TtlCache
from starforge_backlog.decide.numbers import steady
from starforge_backlog.queues.bullmq.keys import Keys
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.snapshot import Unknown, Why

_SECTIONS = ("memory", "stats", "clients")  # one each: Redis before 7 knows no list of them
_NONE_EVICTED = "noeviction"
_ANY_KEY = "allkeys-"  # else only keys with a time to live: locks, but no list of jobs

NO_INFO = (
    "Redis does not allow the operator to read INFO, so whether it evicts keys of the queue is not"
    " known; run ACL SETUSER {user} +info, or see to maxmemory-policy noeviction yourself."
)
_FIX = "set maxmemory-policy noeviction (CONFIG SET, and in its configuration), as BullMQ needs it"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Of one moment. Empty or None: not reported."""

    allowed: bool = True  # to ask
    policy: str = ""  # maxmemory-policy
    limited: bool = True  # whether there is a maxmemory at all; without it nothing is evicted
    evicted: int = 0  # keys, since the server started
    clients: int | None = None  # connections

    @property
    def evicts_lists(self) -> bool:
        """Whether the lists of a queue may go when memory is short."""
        return self.policy.startswith(_ANY_KEY)

    def notes(self, user: str) -> tuple[str, ...]:
        """Sentences about danger, from the first day on."""
        if not self.allowed:
            return (NO_INFO.format(user=user),)
        if not self.policy or self.policy == _NONE_EVICTED:
            return ()
        what = "jobs" if self.evicts_lists else "locks of jobs, which then run twice,"
        when = "" if self.limited else " once a maxmemory is set"
        return (f"Redis' maxmemory-policy is {self.policy}: it may evict {what}{when}; {_FIX}.",)

    def lost(self, where: str, at: datetime) -> Unknown | None:
        """Why counts cannot be believed: what was evicted is not there to be counted."""
        if not self.evicts_lists or not self.evicted:
            return None
        return Unknown(
            Why.KEYS_EVICTED,
            f"Redis at {where} has evicted {steady(self.evicted):,} keys (maxmemory-policy"
            f" {self.policy}), so lists of jobs may be missing and an empty one proves nothing;"
            f" {_FIX}, then search for lost jobs.",
            at,
        )


def meta_lost(keys: Keys, at: datetime) -> Unknown:
    """Every version of the library writes `meta`, and `obliterate` removes the others with it."""
    return Unknown(
        Why.KEYS_EVICTED,
        f"Key {keys.of('meta')} does not exist although the queue's other keys are there: Redis"
        f" evicted it, or it was deleted, and lists of jobs may be missing as well; {_FIX}, and"
        " restart a producer, which writes the key again.",
        at,
    )


def parse_info(texts: list[str]) -> ServerFacts:
    """From the sections of INFO. A line that a server leaves out is unknown."""
    said = dict(
        line.strip().split(":", 1) for text in texts for line in text.splitlines() if ":" in line
    )
    clients = said.get("connected_clients", "")
    return ServerFacts(
        policy=said.get("maxmemory_policy", ""),
        limited=said.get("maxmemory", "1") != "0",
        evicted=_whole(said.get("evicted_keys", "")),
        clients=int(clients) if clients.isdigit() else None,
    )


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0


class AskServer:
    """One INFO for all queues of a server, at most every few seconds."""

    def __init__(
        self, server: RedisServer, *, timer: Callable[[], float], every: timedelta
    ) -> None:
        self._server = server
        self._every = every.total_seconds()
        self._kept: TtlCache[None, ServerFacts] = TtlCache(timer)

    async def read(self, keys: Keys) -> ServerFacts:
        """Raises RedisFault when the server does not answer."""
        return await self._kept.get(None, partial(self._ask, keys), lambda _: self._every)

    async def _ask(self, keys: Keys) -> ServerFacts:
        commands = [("INFO", section) for section in _SECTIONS]
        answers = await self._server.pipeline(commands, keys=[keys.of("id")])
        for answer in answers:
            # NOPERM, or a managed Redis that does not offer it.
            if isinstance(answer, RedisFault):
                if answer.why is Why.NO_PERMISSION or answer.code == "ERR":
                    return ServerFacts(allowed=False)
                raise answer
        return parse_info([str(answer) for answer in answers])
