"""Which server to ask: the only one, the master that Sentinel names, the node that has the slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from redis.crc import key_slot

from starforge_backlog.redis.faults import RedisFault, hash_tag_fault
from starforge_backlog.redis.node import Node, Pacing
from starforge_backlog.redis.session import Answer, Target, open_session
from starforge_backlog.redis.url import Address, RedisUrl
from starforge_backlog.snapshot import Why

# Sentinel and CLUSTER SLOTS answer from memory.
LOOK_LIMIT = timedelta(milliseconds=800)
# How long a master that was replaced can be taken for the master: one default interval.
ASK_SENTINEL_EVERY = timedelta(seconds=15)
# Faults after which another server may be the right one.
_ELSEWHERE = frozenset({Why.UNREACHABLE, Why.TIMEOUT, Why.READ_ONLY, Why.STALE})

NodeAt = Callable[[Address], Node]
"""The one shared connection to an address."""


class Topology(Protocol):
    """Finds the server for keys."""

    async def find(self, keys: Sequence[str]) -> Node:
        """The node that holds them. Raises RedisFault."""

    def doubt(self, fault: RedisFault) -> None:
        """The node that was found did not answer as it should: look again next time, if that may
        help."""


@dataclass(frozen=True, slots=True)
class OneServer:
    """The URL's own server."""

    node: Node

    async def find(self, keys: Sequence[str]) -> Node:
        return self.node

    def doubt(self, fault: RedisFault) -> None:
        """There is no other."""


class Sentinels:
    """The master, wherever it is now. Sentinels are asked by short connections of their own.

    A master that answers may have been replaced all the same, seen from the other side of a network
    that is cut. So Sentinel is asked again now and then, beside the calls and not before them.
    """

    def __init__(self, url: RedisUrl, node_at: NodeAt, pacing: Pacing) -> None:
        self._url = url
        self._node_at = node_at
        self._pacing = pacing
        self._master: Node | None = None
        self._ask_again_at = 0.0  # loop time, seconds
        self._asking: asyncio.Task[None] | None = None

    async def find(self, keys: Sequence[str]) -> Node:
        if self._master is None:
            self._master = self._node_at(await self._ask_all())
            self._ask_again_later()
        elif asyncio.get_running_loop().time() >= self._ask_again_at:
            self._ask_again_later()
            self._asking = asyncio.create_task(self._look_again(self._master))
        master = self._master
        greeting = await master.greeting()
        if greeting.replica:
            self._master = None
            raise RedisFault(
                Why.READ_ONLY,
                f"Sentinel still names a server that is a replica as master {self._url.key.master};"
                " a failover is under way, and the next pass follows it.",
                code="READONLY",
            )
        return master

    def _ask_again_later(self) -> None:
        now = asyncio.get_running_loop().time()
        self._ask_again_at = now + ASK_SENTINEL_EVERY.total_seconds()

    async def _look_again(self, master: Node) -> None:
        try:
            address = await self._ask_all()
        except RedisFault:
            return  # the master that was named last still answers: nothing better is known
        if address != master.target.address and self._master is master:
            self._master = None

    def doubt(self, fault: RedisFault) -> None:
        if fault.why in _ELSEWHERE:
            self._master = None

    async def _ask_all(self) -> Address:
        """One after the other until one knows. Raises the last one's RedisFault."""
        last: RedisFault | None = None
        for address in self._url.servers:
            try:
                return await self._ask(address)
            except RedisFault as fault:
                last = fault
        assert last is not None, "a URL names at least one server"
        raise last

    async def _ask(self, address: Address) -> Address:
        url, name = self._url, self._url.key.master
        target = replace(Target.of(url, address), login=url.sentinel_login, database=0)
        try:
            session = await open_session(target, self._pacing.connect_within)
        except RedisFault as fault:
            if fault.code != "NOAUTH" or url.sentinel_login.password:
                raise
            # Most set-ups give Sentinel the password of the servers behind it.
            target = replace(target, login=url.login)
            session = await open_session(target, self._pacing.connect_within)
        try:
            (answer,) = await session.run(
                [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)], LOOK_LIMIT
            )
        finally:
            await session.close()
        if isinstance(answer, RedisFault):
            if answer.code == "ERR":
                message = f"The server at {address} is no Sentinel; correct the URL in the Secret."
                raise RedisFault(Why.HOST_UNKNOWN, message)
            raise answer
        if not answer:
            message = (
                f"Sentinel at {address} knows no master of the name in ?master=; correct it in the"
                " Secret (SENTINEL MASTERS lists the names)."
            )
            raise RedisFault(Why.HOST_UNKNOWN, message)
        return Address(str(answer[0]), int(answer[1]))


class Cluster:
    """The nodes of a Redis Cluster, one connection each. All keys of a call are in one slot."""

    def __init__(self, url: RedisUrl, node_at: NodeAt) -> None:
        self._url = url
        self._node_at = node_at
        self._slots: list[tuple[int, int, Address]] = []

    async def find(self, keys: Sequence[str]) -> Node:
        slots = {key_slot(key.encode()) for key in keys}
        if len(slots) > 1:
            raise hash_tag_fault(str(self._url.servers[0]))
        if not self._slots:
            self._slots = await self._look_all()
        if not slots:
            return self._node_at(self._slots[0][2])
        (slot,) = slots
        for first, last, address in self._slots:
            if first <= slot <= last:
                return self._node_at(address)
        self._slots = []
        raise RedisFault(
            Why.UNREACHABLE,
            f"No node of the Redis Cluster at {self._url.servers[0]} has the queue's slot; look at"
            " CLUSTER INFO.",
            code="CLUSTERDOWN",
        )

    def doubt(self, fault: RedisFault) -> None:
        if fault.why in _ELSEWHERE or fault.code == "MOVED":
            self._slots = []

    async def _look_all(self) -> list[tuple[int, int, Address]]:
        last: RedisFault | None = None
        for address in self._url.servers:
            try:
                (answer,) = await self._node_at(address).run([("CLUSTER", "SLOTS")], LOOK_LIMIT)
                if isinstance(answer, RedisFault):
                    raise answer
                if found := _slots(answer, address):
                    return found
            except RedisFault as fault:
                last = fault
        raise last or RedisFault(
            Why.UNREACHABLE,
            f"The Redis Cluster at {self._url.servers[0]} has no slots; look at CLUSTER INFO.",
            code="CLUSTERDOWN",
        )


def _slots(answer: Answer, asked: Address) -> list[tuple[int, int, Address]]:
    """From CLUSTER SLOTS. A node that does not know its own name is the one that was asked."""
    found = []
    for first, last, master, *_ in answer:
        host = master[0] if master[0] and master[0] != "?" else asked.host
        found.append((int(first), int(last), Address(str(host), int(master[1]))))
    return found
