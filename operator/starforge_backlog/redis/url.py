"""The Redis URL from a Secret: read, checked, and never shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote

from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.snapshot import Why

_PORT = 6379
_SENTINEL_PORT = 26379
_DEFAULT_USER = "default"  # whom Redis itself takes a login without a name for

_HOST = re.compile(r"[A-Za-z0-9._%-]+|\[[0-9A-Fa-f:.%]+\]")
_NUMBER = re.compile(r"[0-9]{1,9}")
_MOST_DATABASES = 16384  # far above any server's; a number beyond is a piece of something else

# What the operator reads of a query; names as in Sentinel's own drivers.
_OPTIONS = frozenset({"db", "master", "sentinelUsername", "sentinelPassword"})
# What only the application's own driver has a use for: its waits, its pool, how it shows answers,
# whom it trusts (the operator: `tls`). Every other option may mean another place or login.
_OF_DRIVERS = frozenset(
    {
        *("family", "protocol", "encoding", "encoding_errors", "decode_responses"),
        *("timeout", "connectTimeout", "commandTimeout", "keepAlive", "noDelay"),
        *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval"),
        *("retry_on_timeout", "maxRetriesPerRequest", "max_connections", "lazyConnect"),
        *("enableReadyCheck", "enableOfflineQueue", "enableAutoPipelining"),
        *("allowUsernameInURI", "showFriendlyErrorStack", "retry_on_error", "socket_read_size"),
        *("dial_timeout", "read_timeout", "write_timeout", "pool_timeout", "max_retries"),
        *("pool_size", "min_idle_conns", "max_idle_conns", "conn_max_idle_time"),
        *("clientName", "client_name", "connectionName"),
        *("ssl_cert_reqs", "ssl_ca_certs", "ssl_check_hostname", "ssl_certfile", "ssl_keyfile"),
        *("ssl_min_version", "skip_verify", "rejectUnauthorized"),
    }
)
_OPTION = re.compile(r"[A-Za-z_]{1,40}")

_FIX = (
    "write it like redis://user:password@host:6379/0 (rediss:// with TLS,"
    " redis+sentinel://user:password@host:26379/0?master=name, redis+cluster://user:password@host)"
    " and percent-encode the characters @ : / ? # % inside the password"
)


class Kind(StrEnum):
    """How the servers behind a URL stand together."""

    SINGLE = "redis"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Host and port of one server."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisKey:
    """What makes two URLs the same connection, however they are spelt. The password is not part of
    it: it may rotate."""

    kind: Kind
    servers: tuple[Address, ...]  # in order of name: the order in the URL means nothing
    database: int
    user: str
    master: str = ""  # the name that Sentinel knows the master by


@dataclass(frozen=True, slots=True)
class Login:
    """User and password; both empty: none is sent."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A checked URL and whom to trust."""

    key: RedisKey
    servers: tuple[Address, ...]  # in the URL's order: the first is asked first
    login: Login
    sentinel_login: Login = Login()
    tls: bool = False
    ca: str | None = field(default=None, repr=False)  # PEM
    server_name: str | None = None


def parse_url(text: str, *, ca: str | None = None, server_name: str | None = None) -> RedisUrl:
    """Read a URL; `ca` and `server_name` are the policy's `tls`.

    Raises RedisFault(SECRET_MALFORMED) with the fix and nothing of the content: after one
    unescaped `/` a piece of the password reads as the host.
    """
    scheme, separator, rest = text.strip().partition("://")
    kind, tls = _kind(scheme.lower())
    if not separator or kind is None:
        raise _malformed("is not a Redis URL")
    rest, _, query = rest.partition("?")
    place, _, path = rest.partition("/")
    login, _, hosts = place.rpartition("@")
    if any(mark in path + query for mark in "@#"):
        raise _malformed("has characters where they cannot be")
    options = _options(query)
    default_port = _SENTINEL_PORT if kind is Kind.SENTINEL else _PORT
    servers = tuple(_address(host, default_port) for host in hosts.split(","))
    if kind is Kind.SINGLE and len(servers) > 1:
        raise _malformed("names several servers but neither redis+sentinel:// nor redis+cluster://")
    user, colon, password = login.partition(":")
    if login and not colon:
        # Some drivers take it for a user, some for a password.
        raise _malformed(
            "has a login without ':', which may be a user or a password (redis://user:@host is a"
            " user without a password, redis://:password@host the default user)"
        )
    database = _database(path.strip("/") or options.get("db", "0"))
    if kind is Kind.CLUSTER and database:
        raise _malformed("names a database, but a Redis Cluster has only 0")
    master = options.get("master", "")
    if kind is Kind.SENTINEL and not master:
        raise _malformed("does not say which master to ask Sentinel for (?master=name)")
    key = RedisKey(
        kind=kind,
        servers=tuple(sorted(set(servers))),
        database=database,
        user=unquote(user) or _DEFAULT_USER,
        master=master if kind is Kind.SENTINEL else "",
    )
    return RedisUrl(
        key=key,
        servers=servers,
        login=Login(unquote(user), unquote(password)),
        sentinel_login=Login(
            options.get("sentinelUsername", ""), options.get("sentinelPassword", "")
        ),
        tls=tls,
        ca=ca if tls else None,
        server_name=server_name if tls else None,
    )


def _kind(scheme: str) -> tuple[Kind | None, bool]:
    tls = scheme.startswith("rediss")
    plain = scheme.replace("rediss", "redis", 1)
    return next((kind for kind in Kind if kind == plain), None), tls


def _options(query: str) -> dict[str, str]:
    """Of `a=1&b=2`, percent-decoded; a `+` is a `+`, as in the rest of a URL."""
    found = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in _OPTIONS | _OF_DRIVERS:
            shown = f"an option {name}" if _OPTION.fullmatch(name) else "an option"
            known = ", ".join(sorted(_OPTIONS))
            raise _malformed(
                f"has {shown} that the operator does not know; it reads {known} and ignores what"
                " concerns the driver alone. Leave it out, and"
            )
        found[name] = unquote(value)
    return found


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    known_port = _NUMBER.fullmatch(port) is not None and 0 < int(port) < 2**16
    if not _HOST.fullmatch(host) or not known_port:
        raise _malformed("has a host or port that cannot be one")
    return Address(host.strip("[]").lower(), int(port))


def _database(text: str) -> int:
    # Python refuses to read numbers of thousands of digits.
    if not _NUMBER.fullmatch(text) or int(text) >= _MOST_DATABASES:
        raise _malformed("has something else than a number where the database is")
    return int(text)


def _malformed(what: str) -> RedisFault:
    return RedisFault(Why.SECRET_MALFORMED, f"The Redis URL in the Secret {what}; {_FIX}.")
