"""Three Redis nodes that share the slots, and a replica, so that slots can be moved and a failover
can be caused."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.crc import key_slot

from local.processes import wait_until
from local.redis import ALL_SLOTS, RedisServer

MASTERS: Final = 3
SETTLED_WITHIN: Final = 90.0
# Milliseconds without an answer until a node counts as gone. Redis' own 15 s is long for a test.
NODE_TIMEOUT: Final = 1000
MIGRATE_LIMIT: Final = 5000  # milliseconds for a key's way from one node to another


@dataclass(frozen=True)
class RedisCluster:
    """`start` makes one. The replica belongs to the first of the masters, and takes its place when
    that is killed."""

    masters: tuple[RedisServer, ...]
    replica: RedisServer

    @classmethod
    def start(cls, run_dir: Path) -> RedisCluster:
        """Ready when each node sees all slots served and the replica has its master's data."""
        password = secrets.token_urlsafe(18)
        nodes: list[RedisServer] = []
        share = -(-len(ALL_SLOTS) // MASTERS)
        try:
            for number in range(MASTERS + 1):
                node = RedisServer.start(
                    run_dir,
                    name=f"redis-{number}",
                    password=password,
                    slots=ALL_SLOTS[share * number : share * (number + 1)],
                    settings={"cluster-node-timeout": NODE_TIMEOUT},
                )
                nodes.append(node)
            made = cls(tuple(nodes[:MASTERS]), nodes[MASTERS])
            made._join()
        except BaseException:
            for node in nodes:
                node.close()
            raise
        return made

    @property
    def nodes(self) -> tuple[RedisServer, ...]:
        return (*self.masters, self.replica)

    def url(self, *seeds: RedisServer) -> str:
        """`redis+cluster://` of these nodes, or of all."""
        at = ",".join(f"127.0.0.1:{node.port}" for node in seeds or self.nodes)
        return f"redis+cluster://:{self.masters[0].password}@{at}"

    def owner(self, key: str) -> RedisServer:
        """The master that has the key's slot, as the nodes that live see it."""
        slot = key_slot(key.encode())
        with next(node for node in reversed(self.nodes) if node.running).client() as client:
            for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER SLOTS"):
                if int(first) <= slot <= int(last):
                    return next(node for node in self.nodes if node.port == int(port))
        raise LookupError(f"no node has slot {slot}")

    @contextmanager
    def moving(self, key: str, to: RedisServer) -> Iterator[None]:
        """The key's slot moves: inside, its keys are there already and the slot is not."""
        slot, source = key_slot(key.encode()), self.owner(key)
        with source.client() as here, to.client() as there:
            here_id, there_id = (c.execute_command("CLUSTER MYID") for c in (here, there))
            there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", here_id)
            here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", there_id)
            for name in here.execute_command("CLUSTER GETKEYSINSLOT", slot, 10_000):
                address = ("127.0.0.1", to.port, name, 0, MIGRATE_LIMIT)
                here.execute_command("MIGRATE", *address, "AUTH", source.password)
            yield
            for client in (there, here):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", there_id)

    def kill_first(self) -> RedisServer:
        """As a machine that is gone: the others have to find out. Who took its place."""
        self.masters[0].kill()
        wait_until(
            lambda: (
                self.replica.info("replication")["role"] == "master"
                and self.replica.cluster_is_up()
            ),
            timeout=SETTLED_WITHIN,
            what="the failover in the Redis cluster",
        )
        return self.replica

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def _join(self) -> None:
        first = self.masters[0]
        for node in self.nodes[1:]:
            with node.client() as client:
                address = ("127.0.0.1", first.port, first.bus_port)
                client.execute_command("CLUSTER MEET", *address)
        wait_until(
            lambda: all(self._knows_all(node) for node in self.nodes),
            timeout=SETTLED_WITHIN,
            what="the meeting of the Redis cluster's nodes",
        )
        with first.client() as client:
            first_id = client.execute_command("CLUSTER MYID")
        with self.replica.client() as client:
            client.execute_command("CLUSTER REPLICATE", first_id)
        wait_until(
            lambda: all(node.cluster_is_up() for node in self.nodes) and self.replica.linked(),
            timeout=SETTLED_WITHIN,
            what="the Redis cluster",
        )

    def _knows_all(self, node: RedisServer) -> bool:
        with node.client() as client:
            known = client.execute_command("CLUSTER INFO")["cluster_known_nodes"]
        return int(known) == len(self.nodes)
