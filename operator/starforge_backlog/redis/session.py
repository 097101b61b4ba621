"""One connection to one Redis server, opened the way this operator needs it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis import exceptions as wire
from redis.asyncio.connection import Connection

from starforge_backlog.redis.faults import (
    NoAnswer,
    RedisFault,
    connect_fault,
    lost_fault,
    reply_fault,
)
from starforge_backlog.redis.url import Address, Login, RedisUrl
from starforge_backlog.snapshot import Why
from starforge_backlog.tls import trusting

CLIENT_NAME = "starforge-backlog"  # whose connections these are, in CLIENT LIST

Command = Sequence[str | int | float]
"""The words of one command."""

Answer = Any
"""What Redis answered (RESP 2: text, numbers, lists, None), or the RedisFault of one command."""

_BROKEN = (wire.ConnectionError, wire.TimeoutError, wire.InvalidResponse, OSError)


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server says of itself. Empty where an ACL or a proxy does not let us ask."""

    version: str = ""
    cluster: bool = False
    replica: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """One server to connect to, and how."""

    address: Address
    login: Login
    database: int = 0
    tls: bool = False
    ca: str | None = None
    server_name: str | None = None

    @classmethod
    def of(cls, url: RedisUrl, address: Address) -> Target:
        """A server that holds the URL's data."""
        return cls(address, url.login, url.key.database, url.tls, url.ca, url.server_name)

    @property
    def user(self) -> str:
        """For messages."""
        return self.login.user or "default"


class Session:
    """Runs pipelines, one at a time. After any fault of the connection it is closed for good."""

    def __init__(self, connection: Connection, target: Target, greeting: Greeting) -> None:
        self._connection = connection
        self._target = target
        self.greeting = greeting

    @property
    def closed(self) -> bool:
        """Whether the connection is known to be gone."""
        return not self._connection.is_connected

    async def ended(self) -> bool:
        """Whether the server, or a proxy in between, has ended it while nothing was asked (Redis'
        `timeout`): a pipeline would be lost, once per pass and for good where passes are further
        apart than that. Ask only while no pipeline is under way; nothing is sent."""
        try:
            return await self._connection.can_read()
        except (wire.RedisError, OSError):
            return True

    async def run(self, commands: Sequence[Command], limit: timedelta) -> list[Answer]:
        """All commands in one round trip, and an answer for each, in `limit` at most.

        Raises RedisFault (TIMEOUT, UNREACHABLE) when the answers did not come; the connection is
        closed then, because late answers would be taken for those of other commands.
        """
        where, user = str(self._target.address), self._target.user
        try:
            async with asyncio.timeout(limit.total_seconds()):
                return await _exchange(self._connection, commands, where=where, user=user)
        except TimeoutError:
            await self.close()
            raise NoAnswer(where, limit.total_seconds()) from None
        except wire.BusyLoadingError as error:
            await self.close()
            raise reply_fault(error, where=where, user=user) from None
        except _BROKEN:
            await self.close()
            raise lost_fault(where) from None
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """At once; nothing is waited for."""
        await self._connection.disconnect(nowait=True)


async def open_session(target: Target, within: timedelta) -> Session:
    """Connect, log in and read who is there, in `within` at most. Raises RedisFault."""
    where, user = str(target.address), target.user
    connection = _connection(target, within)
    try:
        async with asyncio.timeout(within.total_seconds()):
            await connection.connect()  # type: ignore[no-untyped-call]  # the library has no hints
            greeting = await _greet(connection, target)
    except (wire.RedisError, OSError, UnicodeError) as error:
        await connection.disconnect(nowait=True)
        # From None: the library's messages hold whatever the server sent.
        raise connect_fault(error, where=where, host=target.address.host, user=user) from None
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return Session(connection, target, greeting)


class _TlsConnection(Connection):
    """TLS with our own context: exactly the policy's authority, and the name in the certificate."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None, **rest: Any) -> None:
        super().__init__(**rest)
        self._context = context
        self._server_name = server_name

    def _connection_arguments(self) -> Mapping[str, Any]:
        given = super()._connection_arguments()
        return {**given, "ssl": self._context, "server_hostname": self._server_name or self.host}


def _connection(target: Target, within: timedelta) -> Connection:
    options: dict[str, Any] = {
        "host": target.address.host,
        "port": target.address.port,
        "socket_connect_timeout": within.total_seconds(),
        "socket_timeout": None,  # one limit for a whole pipeline is ours, see `Session.run`
        "protocol": 2,
        "decode_responses": True,
        # Names of jobs are shown, never written back, so a byte that is no text does no harm.
        "encoding_errors": "replace",
        "driver_info": None,  # CLIENT SETINFO is unknown before Redis 7.2
    }
    if not target.tls:
        return Connection(**options)
    try:
        context = trusting(target.ca)
    except (ssl.SSLError, ValueError):
        message = "The certificates in tls.ca are not PEM; put the authority's certificate there."
        raise RedisFault(Why.SECRET_MALFORMED, message) from None
    return _TlsConnection(context, target.server_name, **options)


async def _exchange(
    connection: Connection, commands: Sequence[Command], *, where: str, user: str
) -> list[Answer]:
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    answers: list[Answer] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response(disconnect_on_error=False))
        except (wire.ResponseError, wire.AuthenticationError) as error:
            answers.append(reply_fault(error, where=where, user=user))
    return answers


async def _greet(connection: Connection, target: Target) -> Greeting:
    """Log in, choose the database, ask who is there. Raises RedisFault."""
    login, first = target.login, list[Command]()
    if login.password or login.user:
        words = (login.user, login.password) if login.user else (login.password,)
        first.append(("AUTH", *words))
    if target.database:
        first.append(("SELECT", target.database))
    commands = [*first, ("HELLO",), ("CLIENT", "SETNAME", CLIENT_NAME)]
    answers = await _exchange(connection, commands, where=str(target.address), user=target.user)
    for command, answer in zip(commands, answers, strict=True):
        if not isinstance(answer, RedisFault):
            continue
        # Not fatal: a password that the server has no use for (Node's driver goes on as well) …
        spare = command[0] == "AUTH" and answer.code in {"ERR", "AUTH"}
        # … and a server that does not let itself be asked, or given a name.
        shy = command in commands[len(first) :] and answer.code not in {"NOAUTH", "DENIED"}
        if not spare and not shy:
            raise answer
    return _greeting(answers[len(first)])


def _greeting(answer: Answer) -> Greeting:
    if not isinstance(answer, list):
        return Greeting()
    said = dict(zip(answer[::2], answer[1::2], strict=False))
    return Greeting(
        version=str(said.get("version", "")),
        cluster=said.get("mode") == "cluster",
        replica=said.get("role") in {"replica", "slave"},
    )
