"""The database URL from a Secret: made readable for libpq, checked, and never shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from starforge_backlog.databases.authorities import readable
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.url_options import RefusedOption, read_options
from starforge_backlog.snapshot import Why

# The Secret belongs to the application, so its URL is written for the application's driver
# (SQLAlchemy's postgresql+asyncpg://, JDBC). libpq takes the same URL without the decoration.
_SCHEME = re.compile(r"^(?:jdbc:)?postgres(?:ql)?(?:\+\w+)?://", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._:,/%\[\]-]+")  # names, addresses, lists, socket folders
_PORT = re.compile(r"[0-9]{0,5}(?:,[0-9]{0,5})*")  # in a list of hosts, empty is the default
_LONGEST = 3600  # seconds; longer than anybody waits
_DIGITS = 9  # that are read; Python refuses numbers of thousands
# A URL that asks for no check of the certificate, and certificates of authorities: one is a slip.
_UNVERIFIED = frozenset({"disable", "allow", "prefer"})
_DEFAULT_PORT = "5432"

_FIX = (
    "write it like postgresql://user:password@host:5432/database, and percent-encode the"
    " characters @ : / ? # % inside the password"
)


@dataclass(frozen=True, slots=True)
class ServerKey:
    """What makes two URLs the same connection. The password is not part of it: it may rotate."""

    host: str
    port: str
    dbname: str
    user: str
    schemas: tuple[
        str, ...
    ] = ()  # where tables without a schema are searched for; none: the role's

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each; one port stands for all hosts."""
        hosts, ports = self.host.split(","), self.port.split(",")
        return [(host, int(ports[min(n, len(ports) - 1)])) for n, host in enumerate(hosts)]


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A checked URL. Its parameters stay out of every representation."""

    key: ServerKey
    parameters: dict[str, str] = field(repr=False)
    ca: str = field(default="", repr=False)  # certificates (PEM) of the authorities to trust

    @property
    def hosts(self) -> int:
        """How many hosts it lists."""
        return self.key.host.count(",") + 1

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each."""
        return self.key.addresses

    @property
    def connect_timeout(self) -> timedelta | None:
        """The time for each host, where the URL has one; 0 means none to libpq."""
        text = self.parameters.get("connect_timeout", "")
        seconds = int(text[:_DIGITS]) if text.isascii() and text.isdecimal() else 0
        return timedelta(seconds=min(seconds, _LONGEST)) if seconds else None


def parse_url(text: str, *, ca: str = "") -> ServerUrl:
    """Read a URL or `key=value` text. With `ca` (PEM) the server's certificate is verified:
    sslmode is verify-full where the URL has none.

    Raises DatabaseFault(SECRET_MALFORMED) with the fix and nothing of the content but the name of
    an option: after one unescaped `@` a piece of the password reads as the host.
    """
    try:
        libpq, schemas = _for_libpq(text.strip())
        raw = conninfo_to_dict(libpq)
    except RefusedOption as refused:
        raise DatabaseFault(
            Why.SECRET_MALFORMED,
            f"The database URL in the Secret cannot be used as it is; {refused}.",
        ) from None
    except (ProgrammingError, UnicodeError):
        # From None: libpq quotes the text that it cannot read.
        raise _malformed("is not a PostgreSQL URL") from None
    parameters = {name: str(value) for name, value in raw.items() if value is not None}
    host = parameters.get("host") or parameters.get("hostaddr", "")
    ports = (parameters.get("port") or _DEFAULT_PORT).split(",")
    port = ",".join(number or _DEFAULT_PORT for number in ports)
    user = parameters.get("user", "")
    dbname = parameters.get("dbname") or user
    if not host:
        raise _malformed("names no host")
    if not user:
        raise _malformed("names no user")
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or "@" in dbname:
        raise _malformed("has characters in host, port or database name that cannot be there")
    if ca:
        parameters["sslmode"] = _verifying(parameters.get("sslmode", "verify-full"), ca)
    return ServerUrl(ServerKey(host, port, dbname, user, schemas), parameters, ca)


def _verifying(sslmode: str, ca: str) -> str:
    """Raises DatabaseFault for a mode that checks no certificate."""
    if sslmode in _UNVERIFIED:
        raise DatabaseFault(
            Why.SECRET_MALFORMED,
            f"The database URL in the Secret says sslmode={sslmode}, which verifies no certificate,"
            " but tls.ca is given; write sslmode=verify-full, or leave tls out.",
        )
    if not readable(ca):
        raise DatabaseFault(
            Why.SECRET_MALFORMED,
            "tls.ca holds no certificates; put PEM text (BEGIN CERTIFICATE) into that key.",
        )
    return sslmode


def _malformed(what: str) -> DatabaseFault:
    return DatabaseFault(Why.SECRET_MALFORMED, f"The database URL in the Secret {what}; {_FIX}.")


def _for_libpq(text: str) -> tuple[str, tuple[str, ...]]:
    """The text as libpq reads it, and the schemas that other drivers put into it. Raises
    RefusedOption."""
    match = _SCHEME.match(text)
    if match is None:
        return text, ()
    text = "postgresql://" + text[match.end() :]
    base, question, query = text.rpartition("?")
    if not question or "@" in query:  # the last "?" is part of a password
        return text, ()
    options = read_options(query)
    return "?".join((base, *filter(None, ["&".join(options.pairs)]))), options.schemas
