"""A private Redis on a free loopback port, with the means to make its life hard."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis

from local.certificates import ServerTls
from local.ports import free_ports
from local.processes import wait_until
from local.redis_programs import RedisProgram, find_redis
from local.server import LocalServer
from local.tls_proxy import TlsProxy

DATABASES = 64
ALL_SLOTS = range(16384)
HIGHEST_PORT = 65535
# Where Redis has no setting for it, its cluster bus is this far above its port.
BUS_OFFSET = 10_000
LINKED_WITHIN = 90.0

Setting = str | int | bool


class RedisServer(LocalServer):
    """`start` makes one. Its data survives `restart` only with `appendonly` (or `save`)."""

    def __init__(
        self,
        program: RedisProgram,
        name: str,
        run_dir: Path,
        *,
        run: str | None,
        password: str,
        users: Mapping[str, str],
        settings: Mapping[str, Setting],
        master: RedisServer | None,
        tls: ServerTls | None,
        slots: range | None,
    ) -> None:
        super().__init__(name, run_dir, run=run)
        self.program = program
        self.password = password
        self.tls = tls
        self.cluster = slots is not None
        self._slots = slots or range(0)
        self._users = dict(users)
        self._settings = dict(settings)
        self._master = master
        self._bus_port = 0
        self._plain_port = 0
        """What Redis listens on behind the proxy."""
        self._proxy: TlsProxy | None = None

    @classmethod
    def start(
        cls,
        run_dir: Path,
        *,
        name: str = "redis",
        password: str | None = None,
        users: Mapping[str, str] | None = None,
        settings: Mapping[str, Setting] | None = None,
        replica_of: RedisServer | None = None,
        tls: ServerTls | None = None,
        slots: range | None = None,
        program: RedisProgram | None = None,
        run: str | None = None,
    ) -> RedisServer:
        """`password` is one by chance unless given; `""` is none.

        `users`: name → ACL rules, as in `{"watcher": "on >secret ~bull:* +@read"}`.
        `settings`: lines of redis.conf, as in `{"appendonly": True, "maxmemory": "20mb"}`.
        `slots`: cluster mode, with these slots on this node (`ALL_SLOTS`: on the only one; several
        nodes are a `RedisCluster`).
        `tls`: clients must speak it; where Redis itself cannot, a `TlsProxy` does it for it (and
        replicas talk in the clear).
        A replica has its master's password and is linked when this returns.
        """
        if password is None:
            password = replica_of.password if replica_of else secrets.token_urlsafe(18)
        server = cls(
            program or find_redis(),
            name,
            run_dir,
            run=run,
            password=password,
            users=users or {},
            settings=settings or {},
            master=replica_of,
            tls=tls,
            slots=slots,
        )
        server.data.mkdir(parents=True)
        try:
            server._start_on_free_port()
            server._take_slots()
            if replica_of is not None:
                wait_until(server.linked, timeout=LINKED_WITHIN, what="linking the replica")
        except BaseException:
            server.close()
            raise
        return server

    def url(self, db: int = 0, *, user: str = "", password: str | None = None) -> str:
        """`rediss://` with TLS; the authority to verify it by is `tls.authority`."""
        secret = self.password if password is None else password
        scheme = "rediss" if self.tls else "redis"
        login = f"{quote(user, safe='')}:{quote(secret, safe='')}@" if user or secret else ""
        return f"{scheme}://{login}127.0.0.1:{self.port}/{db}"

    def client(self, db: int = 0, *, timeout: float = 5.0) -> redis.Redis:
        """As the administrator, with text answers; to be closed, so `with server.client() as …`."""
        tls: dict[str, Any] = {}
        if self.tls is not None:
            # A test may have asked for a certificate that nobody should trust.
            tls = {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
            tls |= {"ssl_certfile": str(self.tls.pair.certificate)}
            tls |= {"ssl_keyfile": str(self.tls.pair.key)}
        return redis.Redis.from_url(
            self.url(db), socket_timeout=timeout, decode_responses=True, **tls
        )

    @property
    def replication_port(self) -> int:
        return self._plain_port if self._proxied else self.port

    def kill(self) -> None:
        self._close_proxy()
        super().kill()

    def stop(self) -> None:
        self._close_proxy()
        super().stop()

    def linked(self) -> bool:
        """Whether a replica has its master and all of its data."""
        return self.info("replication").get("master_link_status") == "up"

    def cluster_is_up(self) -> bool:
        """Whether this node sees all slots served."""
        with self.client() as client:
            return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")

    @property
    def bus_port(self) -> int:
        """Where nodes of a cluster talk to each other."""
        return self.port + BUS_OFFSET if self._bus_is_offset() else self._bus_port

    def info(self, section: str) -> dict[str, Any]:
        with self.client() as client:
            answer: dict[str, Any] = client.info(section)
            return answer

    def _choose_ports(self) -> None:
        (self.port, self._bus_port, self._plain_port) = free_ports(3)
        while self._bus_is_offset() and self.port + BUS_OFFSET > HIGHEST_PORT:
            (self.port,) = free_ports(1)

    @property
    def _proxied(self) -> bool:
        return self.tls is not None and not self.program.tls

    def _bus_is_offset(self) -> bool:
        return self.cluster and self.program.version < (7, 0)

    @property
    def _configuration(self) -> Path:
        """Sentinel rewrites it, so that a restarted server keeps the role it was given."""
        return self.data / "redis.conf"

    def _configure(self) -> None:
        settings: dict[str, Setting] = {
            "bind": "127.0.0.1",
            "dir": str(self.data),
            "databases": 1 if self.cluster else DATABASES,
            "save": "",
            "appendonly": False,
            # By default a master waits for more replicas than the one that asks.
            "repl-diskless-sync-delay": 0,
            **({"enable-debug-command": "local"} if self.program.version >= (7, 0) else {}),
            **self._port_settings(),
            **self._settings,
        }
        if self.password:
            # Every server may become a replica of another.
            settings |= {"requirepass": self.password, "masterauth": self.password}
        if self._master is not None:
            settings["replicaof"] = f"127.0.0.1 {self._master.replication_port}"
        if self.cluster:
            settings |= {"cluster-enabled": True, "cluster-announce-ip": "127.0.0.1"}
            if not self._bus_is_offset():
                settings["cluster-port"] = self._bus_port
        lines = [f"{key} {_setting(value)}" for key, value in settings.items()]
        lines += [f"user {name} {rules}" for name, rules in self._users.items()]
        self._configuration.touch(mode=0o600)
        self._configuration.write_text("\n".join(lines) + "\n")

    def _port_settings(self) -> dict[str, Setting]:
        if self.tls is None or self._proxied:
            return {"port": self.replication_port}
        return {
            "port": 0,
            "tls-port": self.port,
            "tls-cert-file": str(self.tls.pair.certificate),
            "tls-key-file": str(self.tls.pair.key),
            "tls-ca-cert-file": str(self.tls.authority),
            "tls-auth-clients": self.tls.client_certificates,
            "tls-replication": True,
            "tls-cluster": self.cluster,
        }

    def _command(self) -> Sequence[str | Path]:
        return (self.program.path, self._configuration)

    def _answers(self) -> bool:
        try:
            with self.client(timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _launch(self) -> None:
        if self.tls is not None and self._proxied:
            self._proxy = TlsProxy(self.port, self._plain_port, self.tls)
        super()._launch()

    def _close_proxy(self) -> None:
        proxy, self._proxy = self._proxy, None
        if proxy is not None:
            proxy.close()

    def _take_slots(self) -> None:
        if not self._slots:
            return
        with self.client() as client:
            client.execute_command("CLUSTER ADDSLOTS", *self._slots)
        if self._slots == ALL_SLOTS:
            wait_until(
                self.cluster_is_up,
                timeout=LINKED_WITHIN,
                what="taking all slots of the Redis cluster",
            )


def _setting(value: Setting) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or '""'
