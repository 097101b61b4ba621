"""Which server to ask: the only one, the master that Sentinel names, the node that has the slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Protocol

from redis.crc import key_slot

from starforge_backlog.connections.backoff import Backoff, patiently, retry_delay
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.redis.faults import NoTurn, RedisFault, connect_fault, hash_tag_fault
from starforge_backlog.redis.node import Node, Pacing
from starforge_backlog.redis.session import Answer, Target, open_session
from starforge_backlog.redis.url import Address, RedisUrl
from starforge_backlog.snapshot import Why

# Sentinel and CLUSTER SLOTS answer from memory.
DISCOVERY_LIMIT = timedelta(milliseconds=800)
# All Sentinels are asked at once, and one that hangs must not use up the time of a pass.
SENTINEL_LIMIT = timedelta(seconds=1)
# How long a master that was replaced can be taken for the master: one default interval.
ASK_SENTINEL_EVERY = timedelta(seconds=15)
# Faults after which another server may be the right one.
_ELSEWHERE = frozenset({Why.UNREACHABLE, Why.TIMEOUT, Why.READ_ONLY, Why.STALE})

NodeAt = Callable[[Address], Node]
"""The one shared connection to an address."""

KeepOnly = Callable[[Iterable[Address]], None]
"""Close the connections to all other addresses: they are no part of it any more."""


class Topology(Protocol):
    """Finds the server for keys."""

    async def find(self, keys: Sequence[str]) -> Node:
        """The node that holds them. Raises RedisFault."""

    def doubt(self, fault: RedisFault) -> None:
        """The node that was found did not answer as it should: search again next time, if that may
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

    One question serves all who wait for it. After one that failed, the next follows after a delay,
    and callers get the known fault at once: sixty of them that each asked three hanging Sentinels
    held 180 connections, for seconds, and again with the next pass.

    A master that answers may have been replaced all the same, seen from the other side of a network
    that is cut. So Sentinel is asked again now and then, beside the calls and not before them.
    """

    def __init__(self, url: RedisUrl, node_at: NodeAt, keep_only: KeepOnly, pacing: Pacing) -> None:
        self._url = url
        self._node_at = node_at
        self._keep_only = keep_only
        self._pacing = pacing
        self._master: Node | None = None
        self._ask_again_at = 0.0  # loop time, seconds
        # A master that is dead is not asked for with every call.
        self._question = SharedAnswer(self._ask_all, pacing.retry_first, from_end=True)
        self._backoff: Backoff[RedisFault] = Backoff(partial(retry_delay, pacing=pacing))
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, keys: Sequence[str]) -> Node:
        if self._master is None:
            self._name(await self._named())
        elif _now() >= self._ask_again_at:
            self._ask_again_at = _now() + ASK_SENTINEL_EVERY.total_seconds()
            self._refreshing = asyncio.create_task(self._refresh(self._master))
        master = self._master
        assert master is not None, "it was named just now"
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

    def doubt(self, fault: RedisFault) -> None:
        if _elsewhere(fault):
            self._master = None

    def _name(self, address: Address) -> None:
        self._master = self._node_at(address)
        self._keep_only([address])
        self._ask_again_at = _now() + ASK_SENTINEL_EVERY.total_seconds()

    async def _refresh(self, master: Node) -> None:
        try:
            address = await self._question.get()
        except RedisFault:
            return  # the master that was named last still answers: nothing better is known
        if address != master.target.address and self._master is master:
            self._name(address)

    async def _named(self) -> Address:
        """The master's, of a question under way or a new one. Raises RedisFault."""
        known = self._backoff.fault
        if known is not None and not self._question.under_way and not self._backoff.due:
            raise known
        return await patiently(self._question.get(), known, self._pacing.patience)

    async def _ask_all(self) -> Address:
        """All at once; the first that knows is believed. Raises RedisFault."""
        asked = [asyncio.create_task(self._ask_within(address)) for address in self._url.servers]
        faults: list[RedisFault] = []
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    found = await answer
                except RedisFault as fault:
                    faults.append(fault)
                else:
                    self._backoff.succeeded()
                    return found
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        # One that answers and does not know the master says more than one that is away.
        reported = next((f for f in faults if f.why not in _ELSEWHERE), faults[0])
        self._backoff.failed(reported)
        raise reported

    async def _ask_within(self, address: Address) -> Address:
        try:
            async with asyncio.timeout(SENTINEL_LIMIT.total_seconds()):
                return await self._ask(address)
        except TimeoutError as error:
            user = self._url.sentinel_login.user or "default"
            fault = connect_fault(error, where=str(address), host=address.host, user=user)
            raise fault from None

    async def _ask(self, address: Address) -> Address:
        url, name = self._url, self._url.key.master
        target = replace(Target.of(url, address), login=url.sentinel_login, database=0)
        own = bool(url.sentinel_login.password)
        try:
            session = await open_session(target, self._pacing.connect_within)
        except RedisFault as fault:
            if fault.code != "NOAUTH" or own:
                raise _of_sentinel(fault, address, own=own) from None
            # Most set-ups give Sentinel the password of the servers behind it.
            target = replace(target, login=url.login)
            try:
                session = await open_session(target, self._pacing.connect_within)
            except RedisFault as second:
                raise _of_sentinel(second, address, own=own) from None
        try:
            (answer,) = await session.run(
                [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)], DISCOVERY_LIMIT
            )
        finally:
            await session.close()
        if isinstance(answer, RedisFault):
            if answer.why is Why.WRONG_PASSWORD:
                raise _of_sentinel(answer, address, own=own)
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


def _of_sentinel(fault: RedisFault, address: Address, *, own: bool) -> RedisFault:
    """A login that Sentinel refuses is not that of the servers behind it."""
    if fault.why is not Why.WRONG_PASSWORD:
        return fault
    if own:
        fix = "put the current password into ?sentinelPassword= (and ?sentinelUsername=) of the URL"
    else:
        fix = (
            "it requires a password of its own; add &sentinelPassword= (and &sentinelUsername= for"
            " an ACL user) to the URL, percent-encoded"
        )
    message = f"The Sentinel at {address}, not Redis, refused the login; {fix} in the Secret."
    return RedisFault(fault.why, message, code=fault.code)


class Cluster:
    """The nodes of a Redis Cluster, one connection each. All keys of a call are in one slot."""

    def __init__(self, url: RedisUrl, node_at: NodeAt, keep_only: KeepOnly) -> None:
        self._url = url
        self._node_at = node_at
        self._keep_only = keep_only
        self._slots: list[tuple[int, int, Address]] = []
        # All nodes of the last map, replicas too: the URL may name just the one that died.
        self._others: list[Address] = []

    async def find(self, keys: Sequence[str]) -> Node:
        slots = {key_slot(key.encode()) for key in keys}
        if len(slots) > 1:
            raise hash_tag_fault(str(self._url.servers[0]))
        if not self._slots:
            self._slots = await self._read_slots()
            self._keep_only([*self._url.servers, *(address for _, _, address in self._slots)])
        if not slots:
            return self._node_at(self._slots[0][2])
        (slot,) = slots
        for first, last, address in self._slots:
            if first <= slot <= last:
                return self._node_at(address)
        self._slots = []
        raise RedisFault(
            Why.UNREACHABLE,
            f"No node of the Redis Cluster at {self._url.servers[0]} has the queue's slot; check"
            " CLUSTER INFO.",
            code="CLUSTERDOWN",
        )

    def doubt(self, fault: RedisFault) -> None:
        if _elsewhere(fault) or fault.code == "MOVED":
            self._slots = []

    async def _read_slots(self) -> list[tuple[int, int, Address]]:
        last: RedisFault | None = None
        for address in dict.fromkeys([*self._url.servers, *self._others]):
            try:
                (answer,) = await self._node_at(address).run(
                    [("CLUSTER", "SLOTS")], DISCOVERY_LIMIT
                )
                if isinstance(answer, RedisFault):
                    raise answer
                if found := _slots(answer, address):
                    self._others = _nodes(answer, address)
                    return found
            except RedisFault as fault:
                last = fault
        raise last or RedisFault(
            Why.UNREACHABLE,
            f"The Redis Cluster at {self._url.servers[0]} has no slots; check CLUSTER INFO.",
            code="CLUSTERDOWN",
        )


def _elsewhere(fault: RedisFault) -> bool:
    """Whether another server may be the right one. Our own queue says nothing about a server."""
    return fault.why in _ELSEWHERE and not isinstance(fault, NoTurn)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _slots(answer: Answer, asked: Address) -> list[tuple[int, int, Address]]:
    """Who serves what, from CLUSTER SLOTS."""
    return [(int(first), int(last), _address(master, asked)) for first, last, master, *_ in answer]


def _nodes(answer: Answer, asked: Address) -> list[Address]:
    """Masters first: a replica may be behind."""
    masters = [_address(master, asked) for _, _, master, *_ in answer]
    replicas = [_address(one, asked) for _, _, _, *others in answer for one in others]
    return [*masters, *replicas]


def _address(node: Answer, asked: Address) -> Address:
    """A node that does not know its own name is the one that was asked."""
    host, port, *_ = node
    return Address(str(host) if host and host != "?" else asked.host, int(port))
