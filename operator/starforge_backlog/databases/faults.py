"""Everything a database can do wrong, as one exception: translated here, at the edge, in tables.

Messages are ours and never the server's own (except names from its catalog): a server repeats
values of the statement in its errors, libpq repeats the URL in its own.
"""

from __future__ import annotations

import re

import psycopg

from starforge_backlog.faults import Fault
from starforge_backlog.snapshot import Why
from starforge_backlog.tls import Refused


class DatabaseFault(Fault):
    """The database did not answer as it should.

    `why` is the reason for conditions, `message` a sentence that says how to fix it. It holds no
    URL, no password and no row value; `sqlstate` is empty where the server did not answer at all.
    """

    def __init__(self, why: Why, message: str, *, sqlstate: str = "") -> None:
        super().__init__(why, message)
        self.sqlstate = sqlstate


class NoTurn(DatabaseFault):
    """Other statements of ours kept the connection busy: the server was not even asked."""

    def __init__(self) -> None:
        super().__init__(
            Why.TIMEOUT,
            "The operator's other statements kept the connection busy; the next pass tries again.",
        )


class NoAnswer(DatabaseFault):
    """The server did not even say that its time limit was over: frozen, or cut off. That is no
    sign of work that we gave it, so nobody has to spare it: `Database` paces the way back."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            Why.TIMEOUT,
            f"The database did not answer within {seconds:g} s; check its load, its disk and the"
            " network. The connection is opened again with the next pass.",
        )


_FULL = (
    Why.DATABASE_FULL,
    (
        "The database has no free connection slot for role {user}; free one (fewer replicas, a"
        " smaller PG_POOL_MAX, end idle sessions) or raise max_connections. On PostgreSQL 16 and"
        " later set reserved_connections and GRANT pg_use_reserved_connections to this role."
    ),
)
_WRONG_PASSWORD = (
    Why.WRONG_PASSWORD,
    "The database refused the password of role {user}; put the current password into the Secret.",
)
_NO_DATABASE = (
    Why.DATABASE_NOT_FOUND,
    "The server has no database of the name in the URL; correct the URL in the Secret.",
)

_OTHER_NAME = (
    "The certificate of {host} is for another name; set the host in the URL to the name in the"
    " certificate (verify-ca checks only the authority)."
)
_EXPIRED = (
    "The certificate of {host} has expired, or one of the authorities above it; renew it on the"
    " server, or the bundle in the Secret of spec.database.tls.ca."
)
_CERTIFICATES = {
    Refused.UNKNOWN_AUTHORITY: (
        "The certificate of {host} is signed by an authority that is not trusted here; put the"
        " authority's certificate (of RDS or Cloud SQL: the provider's bundle) into a Secret and"
        " name it in spec.database.tls.ca."
    ),
    Refused.EXPIRED: _EXPIRED,
    Refused.NOT_YET_VALID: _EXPIRED,
    Refused.OTHER_NAME: _OTHER_NAME,
}
# libpq's words for each of them.
_CERTIFICATE_REFUSED = re.compile("certificate verify failed")

# At connect there is no SQLSTATE, so the text decides. The first row that
# matches wins: with several hosts, or after a retry without TLS, libpq joins several messages, and
# the row higher up says more. Servers with translated messages (lc_messages) end in
# `_NO_CONNECTION`, which is as unknown as the others.
_AT_CONNECT: tuple[tuple[re.Pattern[str], tuple[Why, str]], ...] = (
    (
        re.compile("too many connections for role"),
        (
            Why.ROLE_LIMIT,
            (
                "Role {user} has all connections that its CONNECTION LIMIT allows; run ALTER ROLE …"
                " CONNECTION LIMIT … for it, or give the operator a role of its own."
            ),
        ),
    ),
    (
        re.compile("too many connections for database"),
        (
            Why.DATABASE_FULL,
            (
                "The database has all connections that its CONNECTION LIMIT allows; run ALTER"
                " DATABASE … CONNECTION LIMIT …, or free one (fewer replicas, a smaller"
                " PG_POOL_MAX)."
            ),
        ),
    ),
    (
        # The first two are PostgreSQL's, then PgBouncer's max_client_conn.
        re.compile(
            "remaining connection slots are reserved|too many clients already"
            "|no more connections allowed"
        ),
        _FULL,
    ),
    (
        re.compile("authentication failed|no password supplied|password is required"),
        _WRONG_PASSWORD,
    ),
    (
        re.compile(r"no pg_hba\.conf entry|pg_hba\.conf rejects"),
        (
            Why.NO_PERMISSION,
            (
                "The server's pg_hba.conf does not let role {user} in from this network or without"
                " TLS; add an entry for the operator's pods, or put sslmode=require into the URL."
            ),
        ),
    ),
    (
        re.compile("is not permitted to log in|permission denied for database"),
        (
            Why.NO_PERMISSION,
            "Role {user} may not connect; run ALTER ROLE … LOGIN and GRANT CONNECT ON DATABASE ….",
        ),
    ),
    (re.compile('database ".*" does not exist'), _NO_DATABASE),
    (
        re.compile('role ".*" does not exist'),
        (
            Why.WRONG_PASSWORD,
            "The server has no role {user}; create it or correct the user in the Secret's URL.",
        ),
    ),
    (
        re.compile(
            "name or service not known|name resolution|nodename nor servname|no address associated"
            "|could not translate host name|failed to resolve host|name does not resolve"
        ),
        (
            Why.HOST_UNKNOWN,
            (
                "The host {host} of the database URL has no address; correct the host in the"
                " Secret, or check DNS in the operator's namespace."
            ),
        ),
    ),
    (
        re.compile("session is read-only|session is not read-only|in hot standby mode"),
        (
            Why.READ_ONLY,
            (
                "No host of the database URL is of the kind that its target_session_attrs asks for;"
                " wait for the failover to finish or correct the URL in the Secret."
            ),
        ),
    ),
    (
        re.compile("starting up|shutting down|recovery mode|accepting connections"),
        (
            Why.UNREACHABLE,
            "The database is starting or stopping; the next attempt follows by itself.",
        ),
    ),
    (
        re.compile("connection refused|no such file or directory"),
        (
            Why.UNREACHABLE,
            (
                "Nothing answers at {host} port {port}; check that the database runs and that host"
                " and port in the Secret are right."
            ),
        ),
    ),
    (
        re.compile("root certificate file .*does not exist|could not read root certificate"),
        (
            Why.TLS_FAILED,
            (
                "The sslmode or sslrootcert of the URL needs a file that the operator's pod does"
                " not have; put the certificates of the authorities (PEM) into a Secret and name it"
                " in spec.database.tls.ca, or write sslrootcert=system for public ones."
            ),
        ),
    ),
    (
        re.compile("does not match host name"),
        (Why.TLS_FAILED, _OTHER_NAME),
    ),
    (
        re.compile("server does not support ssl"),
        (
            Why.TLS_FAILED,
            (
                "{host} offers no TLS, which sslmode asks for; set ssl = on in the server (or its"
                " connection pooler), or correct host and port in the Secret."
            ),
        ),
    ),
    (
        # By libpq, by the server, by a PgBouncer.
        re.compile(
            r"invalid (?!sslmode)\S+ value|invalid port number|invalid integer value"
            r"|could not match \d+|definition of service|invalid value for parameter"
            r"|unrecognized configuration parameter|invalid command-line argument"
            r"|permission denied to set parameter|unsupported startup parameter"
            r"|method requirement .* failed"
        ),
        (
            Why.SECRET_MALFORMED,
            (
                "The port or an option of the database URL has a value that is refused by"
                " PostgreSQL's client library, by the server, or by its connection pooler"
                " (PgBouncer refuses options= that its ignore_startup_parameters does not list);"
                " correct the URL in the Secret, or put one of the operator's own into another key."
            ),
        ),
    ),
    (
        re.compile("ssl error|support ssl|ssl negotiation|sslmode|certificate|sslrootcert"),
        (
            Why.TLS_FAILED,
            (
                "TLS with {host} failed; check sslmode and sslrootcert in the URL against what the"
                " server offers (its certificate may have expired or carry another name)."
            ),
        ),
    ),
)
_NO_CONNECTION = (
    "The database at {host} port {port} does not answer; check that it runs, and that a"
    " NetworkPolicy or firewall lets the operator through."
)

# One row is enough. A server_encoding of SQL_ASCII takes any bytes; in other encodings it is a
# letter that the other side has not got.
_NO_TEXT = (
    Why.BAD_SHAPE,
    (
        "A text cannot be converted between the database's encoding and UTF-8: bytes in a row that"
        " are no text (server_encoding SQL_ASCII takes any), or a character in the policy that the"
        " database cannot store; correct those rows (status, type), or the words in the policy."
    ),
)

# The server's answer to a statement, by SQLSTATE.
_STATES: dict[str, tuple[Why, str]] = {
    "57014": (
        Why.TIMEOUT,
        (
            "A statement was ended by its time limit; the database is slow, or the table needs the"
            " index that the documentation recommends."
        ),
    ),
    "55P03": (
        Why.LOCK_BUSY,
        (
            "Another session holds a lock on it, and the operator does not wait for locks; the next"
            " pass tries again."
        ),
    ),
    "40P01": (Why.LOCK_BUSY, "The statement lost a deadlock; the next pass tries again."),
    "40001": (Why.LOCK_BUSY, "Another session wrote at the same time; the next pass tries again."),
    "42P01": (
        Why.TABLE_NOT_FOUND,
        (
            "{detail}; correct the table name in the policy, create the table, or set the role's"
            " search_path."
        ),
    ),
    "3F000": (Why.TABLE_NOT_FOUND, "{detail}; correct the schema in the policy's table name."),
    "42703": (
        Why.COLUMN_NOT_FOUND,
        "{detail}; map the column's name in the policy, or add the column.",
    ),
    "42501": (Why.NO_PERMISSION, "{detail} to role {user}; GRANT it the right."),
    "25006": (
        Why.READ_ONLY,
        (
            "The database accepts no writes (a standby, or default_transaction_read_only is on);"
            " point the URL in the Secret at the primary."
        ),
    ),
    "22021": _NO_TEXT,
    "22P05": _NO_TEXT,
    "53300": _FULL,
    "28P01": _WRONG_PASSWORD,
    "28000": _WRONG_PASSWORD,
    "3D000": _NO_DATABASE,
}
# Whole classes of SQLSTATE that mean that the connection is gone: connection exceptions, operator
# intervention (admin shutdown, crash, starting up, idle limit), system error.
_LOST_CLASSES = ("08", "57", "58")
_LOST = "The connection to the database was lost; it is opened again with the next pass."
# Their message names only objects of the catalog, never a value of the statement.
_NAMES_ONLY = frozenset({"42P01", "3F000", "42703", "42501"})


def lost_fault() -> DatabaseFault:
    """The connection is gone and no caller got the reason, e.g. one gave up in mid-statement."""
    return DatabaseFault(Why.UNREACHABLE, _LOST)


def connect_fault(error: Exception, *, host: str, port: str, user: str) -> DatabaseFault:
    """Translate a failure to connect. `host`, `port` and `user` are shown to the reader."""
    names = {"host": host, "port": port, "user": user}
    text = str(error).lower()
    for pattern, (why, message) in _AT_CONNECT:
        if pattern.search(text):
            return DatabaseFault(why, message.format(**names))
    return DatabaseFault(Why.UNREACHABLE, _NO_CONNECTION.format(**names))


def is_certificate_refused(error: Exception) -> bool:
    """Whether libpq did not accept the server's certificate, of which it does not say why."""
    return _CERTIFICATE_REFUSED.search(str(error).lower()) is not None


def certificate_fault(refused: Refused, *, host: str) -> DatabaseFault:
    """The server's certificate was not accepted."""
    return DatabaseFault(Why.TLS_FAILED, _CERTIFICATES[refused].format(host=host))


def statement_fault(error: psycopg.Error, *, user: str) -> DatabaseFault:
    """Translate a failure of a statement on an open connection."""
    state = error.sqlstate or ""
    known = _STATES.get(state)
    if known is not None:
        why, message = known
        detail = (error.diag.message_primary or "") if state in _NAMES_ONLY else ""
        detail = detail[:1].upper() + detail[1:]
        return DatabaseFault(why, message.format(detail=detail, user=user), sqlstate=state)
    no_answer = not state and isinstance(error, psycopg.OperationalError)
    if no_answer or state.startswith(_LOST_CLASSES):
        return DatabaseFault(Why.UNREACHABLE, _LOST, sqlstate=state)
    kind = type(error).__name__
    message = (
        f"PostgreSQL refused a statement of the operator ({kind}, SQLSTATE {state or 'none'})."
    )
    return DatabaseFault(Why.ERROR, message, sqlstate=state)
