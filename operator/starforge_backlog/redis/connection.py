"""A Redis, whatever it is made of: one server, a master that Sentinel names, a cluster.

P7: one connection per server however many policies; every call has a time limit. P2: whatever goes
wrong is a `RedisFault`, never an empty answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.decide.pauses import server_identity
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.redis.node import Node, Pacing
from starforge_backlog.redis.scripts import Script
from starforge_backlog.redis.session import Answer, Command, Greeting, Target
from starforge_backlog.redis.topology import Cluster, OneServer, Sentinels, Topology
from starforge_backlog.redis.url import Address, Kind, RedisKey, RedisUrl

# Redis keeps no time limit of its own for us, so this is how long an answer is waited for. What we
# ask takes it milliseconds; it is slow only when something else blocks it.
CALL_LIMIT = timedelta(milliseconds=800)


class RedisServer:
    """The shared connection to one Redis, database and user.

    Calls run one at a time on each server. While a server cannot be reached, callers get the last
    fault at once instead of an attempt each. Nothing is repeated behind the caller's back, but for
    a script that Redis has forgotten and a slot that has moved: both did nothing.
    """

    def __init__(self, url: RedisUrl, *, pacing: Pacing | None = None) -> None:
        self._url = url
        self._pacing = pacing or Pacing()
        self._nodes: dict[Address, Node] = {}
        self._closing: set[asyncio.Task[None]] = set()  # asyncio keeps weak references
        self._topology = self._by_url()

    def __repr__(self) -> str:
        return f"RedisServer({self.where}, {self.key.user})"

    @property
    def key(self) -> RedisKey:
        return self._url.key

    @property
    def where(self) -> str:
        """For people: "redis.example:6379", or the Sentinel's master by name."""
        key, first = self.key, self._url.servers[0]
        if key.kind is Kind.SENTINEL:
            return f"{key.master} (Sentinel {first})"
        return str(first)

    @property
    def place(self) -> ServerPlace:
        """Which Redis and database this is, without the login (`decide/pauses/`)."""
        key = self.key
        return server_identity.redis(key.master, key.database, map(str, key.servers))

    def update_url(self, url: RedisUrl) -> None:
        """Use `url` from the next call on, e.g. after the password was rotated.

        A changed URL may be tried at once; the same one changes nothing. Raises ValueError when
        the URL is of other servers, another database or user.
        """
        if url.key != self.key:
            raise ValueError("another server, database or user needs a RedisServer of its own")
        if url == self._url:
            return
        self._url = url
        for address, node in self._nodes.items():
            node.retarget(Target.of(url, address))
        self._topology = self._by_url()

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[str | int | float] = (),
        *,
        limit: timedelta = CALL_LIMIT,
    ) -> Answer:
        """What a script returns; it runs as one step, and other clients wait for it.

        `keys` are all keys that it touches by a fixed name; a cluster finds the node by them.
        Raises RedisFault. After TIMEOUT or UNREACHABLE a writing script may have run all the same,
        so it must be one that can be repeated.
        """
        return (await self.run_all(script, keys, [args], limit=limit))[0]

    async def run_all(
        self,
        script: Script,
        keys: Sequence[str],
        many_args: Sequence[Sequence[str | int | float]],
        *,
        limit: timedelta = CALL_LIMIT,
    ) -> list[Answer]:
        """The same script once per arguments, in one round trip; other clients get their turn
        between two of them. Raises the first RedisFault; see `run`."""
        by_sha = [("EVALSHA", script.sha, len(keys), *keys, *args) for args in many_args]
        answers = await self.pipeline(by_sha, keys=keys, limit=limit)
        forgotten = [
            number
            for number, answer in enumerate(answers)
            if isinstance(answer, RedisFault) and answer.code == "NOSCRIPT"
        ]
        if forgotten:  # a restart, SCRIPT FLUSH, or the first time: it did not run
            in_full = [
                ("EVAL", script.text, len(keys), *keys, *many_args[number]) for number in forgotten
            ]
            again = await self.pipeline(in_full, keys=keys, limit=limit)
            for number, answer in zip(forgotten, again, strict=True):
                answers[number] = answer
        for answer in answers:
            if isinstance(answer, RedisFault):
                raise answer
        return answers

    async def pipeline(
        self, commands: Sequence[Command], *, keys: Sequence[str], limit: timedelta = CALL_LIMIT
    ) -> list[Answer]:
        """An answer per command, all in one round trip; a refused command's is its RedisFault.

        `keys` are those that the commands touch (a cluster finds the node by them). Raises
        RedisFault when nothing could be asked, HASH_TAG_MISSING before anything is.
        """
        answers = await self._once(commands, keys, limit)
        moved = [a for a in answers if isinstance(a, RedisFault) and a.code == "MOVED"]
        if moved and len(moved) == len(answers):  # none of them was carried out
            self._topology.doubt(moved[0])
            answers = await self._once(commands, keys, limit)
        for answer in answers:
            if isinstance(answer, RedisFault):
                self._topology.doubt(answer)
        return answers

    async def greeting(self, keys: Sequence[str] = ()) -> Greeting:
        """What the server that holds `keys` says of itself. Raises RedisFault."""
        return await (await self._find(keys)).greeting()

    async def close(self) -> None:
        """Close all connections. The object can be used again and then connects again."""
        nodes, self._nodes = list(self._nodes.values()), {}
        self._topology = self._by_url()
        await asyncio.gather(*self._closing, *(node.close() for node in nodes))

    async def _once(
        self, commands: Sequence[Command], keys: Sequence[str], limit: timedelta
    ) -> list[Answer]:
        node = await self._find(keys)
        try:
            return await node.run(commands, limit)
        except RedisFault as fault:
            self._topology.doubt(fault)
            raise

    async def _find(self, keys: Sequence[str]) -> Node:
        try:
            node = await self._topology.find(keys)
            if isinstance(self._topology, OneServer) and (await node.greeting()).cluster:
                # A plain redis:// URL of a cluster's node: its keys may be on another.
                self._topology = Cluster(self._url, self._node_at, self._keep_only)
                node = await self._topology.find(keys)
        except RedisFault as fault:
            self._topology.doubt(fault)
            raise
        return node

    def _by_url(self) -> Topology:
        match self.key.kind:
            case Kind.SINGLE:
                return OneServer(self._node_at(self._url.servers[0]))
            case Kind.SENTINEL:
                return Sentinels(self._url, self._node_at, self._keep_only, self._pacing)
            case Kind.CLUSTER:
                return Cluster(self._url, self._node_at, self._keep_only)

    def _node_at(self, address: Address) -> Node:
        if address not in self._nodes:
            self._nodes[address] = Node(Target.of(self._url, address), self._pacing)
        return self._nodes[address]

    def _keep_only(self, named: Iterable[Address]) -> None:
        """Close the others, without waiting for what runs on them."""
        for address in self._nodes.keys() - set(named):
            closing = asyncio.create_task(self._nodes.pop(address).retire())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
