"""A master, its replica and a Sentinel that watches both, so that a failover can be caused.

Who lost the place comes back as a replica about ten seconds later: so often the Sentinel checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from local.processes import wait_until
from local.redis import RedisServer
from local.redis_programs import RedisProgram
from local.server import LocalServer

MASTER_NAME = "main"
SETTLED_WITHIN = 90.0


class RedisSentinel(LocalServer):
    """One alone (quorum 1), which is enough to decide on one machine. It has no password."""

    def __init__(
        self, program: RedisProgram, run_dir: Path, master: RedisServer, down_after: float
    ) -> None:
        super().__init__("sentinel", run_dir, run=master.run)
        self._program = program
        self._master = master
        self._down_after = down_after

    @classmethod
    def start(cls, run_dir: Path, master: RedisServer, *, down_after: float = 0.5) -> RedisSentinel:
        """`down_after`: seconds without an answer until the master counts as gone."""
        sentinel = cls(master.program, run_dir, master, down_after)
        sentinel.data.mkdir(parents=True)
        try:
            sentinel._start_on_free_port()
        except BaseException:
            sentinel.close()
            raise
        return sentinel

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self, *, timeout: float = 5.0) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=timeout, decode_responses=True)

    def master_port(self) -> int:
        with self.client() as client:
            _, port = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
            return int(port)

    def _configure(self) -> None:
        lines = [
            "bind 127.0.0.1",
            "protected-mode no",
            f"port {self.port}",
            f"dir {self.data}",
            f"sentinel monitor {MASTER_NAME} 127.0.0.1 {self._master.replication_port} 1",
            f"sentinel down-after-milliseconds {MASTER_NAME} {round(self._down_after * 1000)}",
            f"sentinel failover-timeout {MASTER_NAME} 3000",
        ]
        if self._master.password:
            lines.append(f"sentinel auth-pass {MASTER_NAME} {self._master.password}")
        path = self.data / "sentinel.conf"
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n")

    def _command(self) -> Sequence[str | Path]:
        return (self._program.path, self.data / "sentinel.conf", "--sentinel")

    def _answers(self) -> bool:
        try:
            with self.client(timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@dataclass(frozen=True)
class RedisFailover:
    """`start` makes one. Clients ask `sentinel.url` for the master called `MASTER_NAME`."""

    servers: tuple[RedisServer, RedisServer]
    sentinel: RedisSentinel

    @classmethod
    def start(
        cls, run_dir: Path, *, down_after: float = 0.5, program: RedisProgram | None = None
    ) -> RedisFailover:
        """Ready when the Sentinel knows the replica too: before that it could promote nobody."""
        started: list[LocalServer] = []
        try:
            master = RedisServer.start(run_dir, name="redis-a", program=program)
            started.append(master)
            replica = RedisServer.start(
                run_dir, name="redis-b", replica_of=master, program=master.program, run=master.run
            )
            started.append(replica)
            sentinel = RedisSentinel.start(run_dir, master, down_after=down_after)
            started.append(sentinel)
            pair = cls((master, replica), sentinel)
            wait_until(
                pair._knows_replica, timeout=SETTLED_WITHIN, what="the Sentinel's first check"
            )
        except BaseException:
            for server in reversed(started):
                server.close()
            raise
        return pair

    @property
    def master(self) -> RedisServer:
        """Whom the Sentinel takes for it now."""
        port = self.sentinel.master_port()
        return next(server for server in self.servers if server.replication_port == port)

    @property
    def replica(self) -> RedisServer:
        master = self.master
        return next(server for server in self.servers if server is not master)

    def fail_over(self) -> RedisServer:
        """Both servers live; they change places. The new master."""
        before = self.master
        with self.sentinel.client() as client:
            client.execute_command("SENTINEL FAILOVER", MASTER_NAME)
        return self._wait_for_other(before)

    def kill_master(self) -> RedisServer:
        """As a machine that is gone: the Sentinel has to find out. The new master."""
        before = self.master
        before.kill()
        return self._wait_for_other(before)

    def close(self) -> None:
        for server in (self.sentinel, *self.servers):
            server.close()

    def _wait_for_other(self, before: RedisServer) -> RedisServer:
        wait_until(
            lambda: (
                self.master is not before and self.master.info("replication")["role"] == "master"
            ),
            timeout=SETTLED_WITHIN,
            what="the failover to the other Redis",
        )
        return self.master

    def _knows_replica(self) -> bool:
        """From its own INFO, without which the Sentinel promotes nobody."""
        with self.sentinel.client() as client:
            replicas = client.execute_command("SENTINEL REPLICAS", MASTER_NAME)
        return [_pairs(replica).get("master-link-status") for replica in replicas] == ["ok"]


def _pairs(answer: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    """Older protocols have no mappings: names and values take turns."""
    if isinstance(answer, Mapping):
        return answer
    return dict(zip(answer[::2], answer[1::2], strict=True))
