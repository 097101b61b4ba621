"""Options of a database URL that are other drivers' words. None is dropped in silence: each is
translated, recognised as one that does not concern us, or refused by its name.

The Secret belongs to the application, so its URL is written for the application's driver: Prisma,
JDBC, node-postgres, Rails, SQLAlchemy, Go. What libpq itself knows is passed on to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from psycopg.pq import Conninfo

from starforge_backlog.api.shown import shortened


class RefusedOption(ValueError):
    """An option that cannot be honoured. The text names it and what to do, never its value."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a URL's options come to."""

    pairs: tuple[str, ...]  # `name=value` as libpq knows them, percent-encoded as they came
    schemas: tuple[
        str, ...
    ] = ()  # where tables without a schema are searched for; none: the role's


# Schemas in which tables without one are searched for: Prisma; JDBC; Go (lib/pq, pgx); Rails.
_SCHEMAS = frozenset({"schema", "currentSchema", "search_path", "schema_search_path"})
# TLS of drivers that call it `ssl`; libpq's word for the same.
_SSL = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
_SSLMODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
# node-postgres' word for TLS without a check of the certificate; libpq's `require` is the same.
_NO_VERIFY = {"no-verify": "require"}
# JDBC's words for the kind of server that is wanted among several hosts.
_SERVER_TYPES = {
    "any": "any",
    "primary": "read-write",
    "master": "read-write",
    "secondary": "standby",
    "slave": "standby",
    "preferSecondary": "prefer-standby",
    "preferSlave": "prefer-standby",
}
# Of the application's own pool, cache of statements and time-outs: this operator opens one
# connection, prepares nothing, and each of its statements has limits of its own.
_NOT_OURS = frozenset(
    {
        # Prisma
        "connection_limit",
        "pool_timeout",
        "socket_timeout",
        "pgbouncer",
        "statement_cache_size",
        # JDBC
        "ApplicationName",
        "connectTimeout",
        "loginTimeout",
        "socketTimeout",
        "tcpKeepAlive",
        "prepareThreshold",
        "preparedStatementCacheQueries",
        "preparedStatementCacheSizeMiB",
        "defaultRowFetchSize",
        "reWriteBatchedInserts",
        "stringtype",
        "autosave",
        "preferQueryMode",
        "readOnly",
        "cancelSignalTimeout",
        "hostRecheckSeconds",
        "logUnclosedConnections",
        "assumeMinServerVersion",
        # node-postgres, postgres.js, pools of them
        "max",
        "min",
        "idle_timeout",
        "idleTimeoutMillis",
        "connectionTimeoutMillis",
        "query_timeout",
        "uselibpqcompat",
        "keepAlive",
        "keepAliveInitialDelayMillis",
        "max_lifetime",
        "prepare",
        "fetch_types",
        "supa",  # Supabase's mark of its pooler
        # Rails, Django, Ecto
        "pool",
        "pool_size",
        "timeout",
        "reconnect",
        "charset",
        "queue_target",
        "queue_interval",
        "adapter",
        "encoding",
        "prepared_statements",
        "advisory_locks",
        "statement_limit",
        "reaping_frequency",
        "checkout_timeout",
        "min_messages",
        "conn_max_age",
        "conn_health_checks",
        # SQLAlchemy, asyncpg, sqlx
        "max_overflow",
        "pool_recycle",
        "pool_pre_ping",
        "statement-cache-capacity",
        "prepared_statement_cache_size",
        "command_timeout",
        "async_fallback",
        # Go
        "pool_max_conns",
        "pool_min_conns",
        "pool_max_conn_lifetime",
        "pool_max_conn_lifetime_jitter",
        "pool_max_conn_idle_time",
        "pool_health_check_period",
        "default_query_exec_mode",
        "statement_cache_capacity",
        "statement_cache_mode",
        "description_cache_capacity",
        "binary_parameters",
        # Settings of the session that our statements set themselves, or do not depend on
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "timezone",
        "TimeZone",
        "DateStyle",
        "datestyle",
    }
)
# A name that may be shown: after a slip of the pen something else could stand in its place.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def read_options(query: str) -> Options:
    """The options after the `?` of a URL. Raises RefusedOption."""
    pairs: list[str] = []
    schemas: tuple[str, ...] = ()
    given = [pair.partition("=") for pair in query.split("&") if pair]
    has_sslmode = any(name == "sslmode" for name, _, _ in given)
    for name, _, value in given:
        if name in _SCHEMAS:
            schemas = _schemas(unquote(value))
            continue
        translated = _translated(name, value)
        if name == "ssl" and has_sslmode:
            continue  # as drivers do; libpq takes the last one, and ssl=true would undo verify-full
        if translated:
            pairs.append(translated)
    return Options(tuple(pairs), schemas)


def _translated(name: str, value: str) -> str:
    """One option as libpq knows it; empty for those that do not concern us."""
    if name == "sslmode":
        return f"sslmode={_NO_VERIFY.get(value, value)}"
    if name == "ssl":
        mode = _SSL.get(value.lower(), _NO_VERIFY.get(value, value))
        if mode not in _SSLMODES:
            raise RefusedOption("write sslmode=require (or verify-full) instead of its option ssl")
        return f"sslmode={mode}"
    if name == "sslaccept":  # Prisma
        if value == "accept_invalid_certs":
            return ""
        raise RefusedOption("write sslmode=verify-full instead of its option sslaccept")
    if name == "targetServerType":
        if value in _SERVER_TYPES:
            return f"target_session_attrs={_SERVER_TYPES[value]}"
        raise RefusedOption("write target_session_attrs instead of its option targetServerType")
    if name == "loadBalanceHosts":
        return "load_balance_hosts=random" if value == "true" else ""
    if name in _NOT_OURS:
        return ""
    if name.encode() in {option.keyword for option in Conninfo.get_defaults()}:
        return f"{name}={value}"
    shown = f"option {shortened(name)}" if _NAME.fullmatch(name) else "an option"
    raise RefusedOption(
        f"remove {shown}, which neither PostgreSQL's client library nor the operator knows, or put"
        " a URL of the operator's own into another key"
    )


def _schemas(text: str) -> tuple[str, ...]:
    """`app` or `app,public`; JDBC and Rails allow several, and quotes around each."""
    names = tuple(name.strip().strip('"') for name in text.split(","))
    if not all(names) or "\0" in text:
        raise RefusedOption("name a schema in its option schema (search_path, currentSchema)")
    return names
