"""The database URL from a Secret: made readable for libpq, checked, and never shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.snapshot import Why

# The Secret belongs to the application, so its URL is written for the application's driver
# (SQLAlchemy's postgresql+asyncpg://, JDBC). libpq takes the same URL without the decoration.
_SCHEME = re.compile(r"^(?:jdbc:)?postgres(?:ql)?(?:\+\w+)?://", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._:,/%\[\]-]+")  # names, addresses, lists, socket folders
_PORT = re.compile(r"[0-9]+(?:,[0-9]+)*")
# node-postgres' word for TLS without a look at the certificate; libpq's `require` is the same.
_SSLMODES = {"no-verify": "require"}
_DEFAULT_PORT = "5432"

_MEND = (
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


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A checked URL. Its parameters stay out of every representation."""

    key: ServerKey
    parameters: dict[str, str] = field(repr=False)


def parse_url(text: str) -> ServerUrl:
    """Read a URL or `key=value` text.

    Raises DatabaseFault(SECRET_MALFORMED) with the mend and nothing of the content: after one
    unescaped `@` a piece of the password looks like the host.
    """
    try:
        raw = conninfo_to_dict(_for_libpq(text.strip()))
    except (ProgrammingError, UnicodeError):
        # From None: libpq quotes the text that it cannot read.
        raise _malformed("is not a PostgreSQL URL") from None
    parameters = {name: str(value) for name, value in raw.items() if value is not None}
    host = parameters.get("host") or parameters.get("hostaddr", "")
    port = parameters.get("port") or _DEFAULT_PORT
    user = parameters.get("user", "")
    dbname = parameters.get("dbname") or user
    if not host:
        raise _malformed("names no host")
    if not user:
        raise _malformed("names no user")
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or "@" in dbname:
        raise _malformed("has characters in host, port or database name that cannot be there")
    return ServerUrl(ServerKey(host, port, dbname, user), parameters)


def _malformed(what: str) -> DatabaseFault:
    return DatabaseFault(Why.SECRET_MALFORMED, f"The database URL in the Secret {what}; {_MEND}.")


def _for_libpq(text: str) -> str:
    match = _SCHEME.match(text)
    if match is None:
        return text
    text = "postgresql://" + text[match.end() :]
    base, question, query = text.rpartition("?")
    if not question or "@" in query:  # the last "?" is part of a password
        return text
    kept = [pair for pair in map(_option, query.split("&")) if pair]
    return base + question + "&".join(kept) if kept else base


def _option(pair: str) -> str:
    """One URL option as libpq knows it; empty for those of other drivers (Prisma's `schema`)."""
    name, _, value = pair.partition("=")
    if name == "sslmode":
        value = _SSLMODES.get(value, value)
    known = name == "ssl" or name.encode() in {option.keyword for option in Conninfo.get_defaults()}
    return f"{name}={value}" if known else ""
