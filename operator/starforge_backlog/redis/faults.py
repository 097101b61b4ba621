"""Everything a Redis server can do wrong, as one exception: translated here, at the edge, in
tables.

Messages are ours and never the server's own, but for the names of commands: a server repeats
arguments in its errors.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator

from redis import exceptions as wire

from starforge_backlog.faults import Fault
from starforge_backlog.snapshot import Why
from starforge_backlog.tls import Refused, why_refused


class RedisFault(Fault):
    """Redis did not answer as it should.

    `why` is the reason for conditions, `message` a sentence that says how to fix it. It holds no
    URL, no password and nothing of a job. `code` is the first word of Redis' answer
    ("WRONGTYPE"), empty where it did not answer at all. `instead` is the field of a policy's queue
    by which it is watched without what is missing here; who knows the queue's name adds it to the
    sentence.
    """

    def __init__(self, why: Why, message: str, *, code: str = "", instead: str = "") -> None:
        super().__init__(why, message)
        self.code = code
        self.instead = instead


class NoTurn(RedisFault):
    """Other commands of ours kept the connection busy: the server was not even asked."""

    def __init__(self) -> None:
        super().__init__(
            Why.TIMEOUT,
            "The operator's other commands kept the connection to Redis busy; the next pass tries"
            " again.",
        )


class NoAnswer(RedisFault):
    """The answer did not come in time: Redis is frozen, cut off, or busy with another client's slow
    command. Whether a write happened is not known."""

    def __init__(self, where: str, seconds: float) -> None:
        super().__init__(
            Why.TIMEOUT,
            f"Redis at {where} did not answer within {seconds:g} s; check its load (SLOWLOG GET),"
            " its memory and the network. The connection is opened again with the next pass.",
        )


_MOVING = (
    Why.UNREACHABLE,
    "The Redis Cluster at {where} is moving the slot to another node; the next pass tries again.",
)
# The first word of an error reply → reason and sentence.
_CODES: dict[str, tuple[Why, str]] = {
    "WRONGPASS": (
        Why.WRONG_PASSWORD,
        (
            "Redis at {where} refused the password of user {user}; put the current password into"
            " the Secret."
        ),
    ),
    "NOAUTH": (
        Why.WRONG_PASSWORD,
        (
            "Redis at {where} requires a password and the URL in the Secret has none; add it as in"
            " redis://user:password@host."
        ),
    ),
    "NOPERM": (
        Why.NO_PERMISSION,
        "Redis at {where} does not let user {user} {deed}; run ACL SETUSER {user} {rule}.",
    ),
    "DENIED": (
        Why.NO_PERMISSION,
        (
            "Redis at {where} is in protected mode and accepts no remote clients; give it a"
            " password (requirepass or ACL) or set protected-mode no."
        ),
    ),
    "OOM": (
        Why.OUT_OF_MEMORY,
        (
            "Redis at {where} is at its maxmemory and refuses writes; raise maxmemory, or remove"
            " jobs that are finished. BullMQ needs maxmemory-policy noeviction."
        ),
    ),
    "LOADING": (
        Why.UNREACHABLE,
        "Redis at {where} is still loading its data from disk; the next attempt follows by itself.",
    ),
    "MASTERDOWN": (
        Why.STALE,
        (
            "The replica at {where} has lost its master and answers no reads"
            " (replica-serve-stale-data no); point the URL in the Secret at the master."
        ),
    ),
    "READONLY": (
        Why.READ_ONLY,
        (
            "Redis at {where} is a replica and accepts no writes; point the URL in the Secret at"
            " the master, or use redis+sentinel:// so that a failover is followed."
        ),
    ),
    "MISCONF": (
        Why.READ_ONLY,
        "Redis at {where} cannot save to its disk and refuses writes; check its disk and log.",
    ),
    "NOREPLICAS": (
        Why.READ_ONLY,
        (
            "Redis at {where} has fewer replicas than min-replicas-to-write and refuses writes;"
            " bring the replicas back."
        ),
    ),
    "WRONGTYPE": (
        Why.NOT_BULLMQ,
        (
            "A key at Redis {where} is of another type than expected; something else writes under"
            " the same prefix."
        ),
    ),
    "BUSY": (
        Why.TIMEOUT,
        (
            "Redis at {where} is busy with another client's script; wait for it, or end it with"
            " SCRIPT KILL (it ends only a script that has written nothing)."
        ),
    ),
    "CROSSSLOT": (Why.HASH_TAG_MISSING, "{hash_tag}"),
    "CLUSTERDOWN": (
        Why.UNREACHABLE,
        (
            "The Redis Cluster at {where} is down or a part of its slots has no node; check CLUSTER"
            " INFO."
        ),
    ),
    "MOVED": (
        Why.UNREACHABLE,
        (
            "The Redis Cluster at {where} moved the slot twice in a moment; the next pass tries"
            " again."
        ),
    ),
    "ASK": _MOVING,
    "TRYAGAIN": _MOVING,
}
HASH_TAG = (
    "Redis at {where} is a cluster and the queue's keys lie in different slots of it; give prefix"
    " or name a hash tag, for example prefix {{bull}}, in the application and in the policy."
)
_TOO_MANY_CLIENTS = (
    "Redis at {where} has no free connection (maxclients); close idle ones or raise maxclients."
)
_NO_DATABASE = "Redis at {where} has no database of that number; correct the number in the URL."

# Redis names the command or the key pattern that an ACL forbids in these ways (6.2, 7, 8).
_FORBIDDEN_COMMAND = re.compile(r"no permissions to run the '?([A-Za-z|_-]+)'? command")
# Errors of commands inside of a script, before and since Redis 7, stand behind words of its own.
_IN_SCRIPT = re.compile(r"\b(WRONGTYPE|OOM|READONLY|NOPERM|MASTERDOWN|CROSSSLOT|MISCONF)\b")
_ACL_IN_SCRIPT = re.compile("ACL failure in script|can't run this command or subcommand")


# What servers that are not quite Redis, and those of a plan, say beside a code of no meaning; with
# `RedisFault.instead`.
_ERRORS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"unknown (?:command|subcommand)[^A-Za-z]*([A-Za-z|]+)", re.IGNORECASE),
        (
            "Redis at {where} does not offer the command {command} (rename-command, or a provider's"
            " choice), and the operator needs it: have it offered under its own name."
        ),
        "prometheus",
    ),
    (
        re.compile("undeclared key", re.IGNORECASE),
        (
            "The server at {where} lets scripts use declared keys only, and BullMQ needs more as"
            " well: start Dragonfly with --default_lua_flags=allow-undeclared-keys."
        ),
        "",
    ),
    (
        re.compile(
            r"max (?:daily |monthly )?(?:requests?|bandwidth|commands)\b.*(?:limit|exceeded)"
        ),
        (
            "Redis at {where} refuses commands because a limit of its plan is used up; raise the"
            " plan (BullMQ's workers ask it all the time as well)."
        ),
        "",
    ),
)


def lost_fault(where: str) -> RedisFault:
    """The connection is gone."""
    return RedisFault(
        Why.UNREACHABLE,
        f"The connection to Redis at {where} was lost; it is opened again with the next pass.",
    )


def hash_tag_fault(where: str) -> RedisFault:
    """The keys of a queue do not lie in one slot of a cluster."""
    return RedisFault(Why.HASH_TAG_MISSING, HASH_TAG.format(where=where), code="CROSSSLOT")


def reply_fault(error: Exception, *, where: str, user: str) -> RedisFault:
    """Translate an error reply of the server."""
    text = str(error)
    code = getattr(error, "status_code", None) or text.split(" ", 1)[0]
    if code not in _CODES:
        found = _IN_SCRIPT.search(text)
        if found is not None:
            code = found[1]
        elif _ACL_IN_SCRIPT.search(text):
            code = "NOPERM"
    known = _CODES.get(code)
    if known is not None:
        why, message = known
        deed, rule = _rule(text)
        message = message.format(
            where=where, user=user, deed=deed, rule=rule, hash_tag=HASH_TAG.format(where=where)
        )
        return RedisFault(why, message, code=code)
    if "max number of clients" in text:
        return RedisFault(Why.UNREACHABLE, _TOO_MANY_CLIENTS.format(where=where), code=code)
    if "DB index" in text:
        return RedisFault(Why.DATABASE_NOT_FOUND, _NO_DATABASE.format(where=where), code=code)
    for pattern, message, instead in _ERRORS:
        if (found := pattern.search(text)) is not None:
            said = {"where": where, "command": found[1].upper() if pattern.groups else ""}
            return RedisFault(Why.ERROR, message.format(**said), code=code, instead=instead)
    shown = code if code.isalpha() and code.isupper() else "an error"
    message = f"Redis at {where} refused a command of the operator ({shown}); check its log."
    return RedisFault(Why.ERROR, message, code=code)


def connect_fault(error: Exception, *, where: str, host: str, user: str) -> RedisFault:
    """Translate a failure to connect."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return RedisFault(Why.TLS_FAILED, _tls(cause, where))
        if isinstance(cause, socket.gaierror | UnicodeError):
            message = (
                f"The host {host} of the Redis URL has no address; correct the host in the Secret,"
                " or check DNS in the operator's namespace."
            )
            return RedisFault(Why.HOST_UNKNOWN, message)
    if isinstance(error, wire.InvalidResponse):
        return RedisFault(
            Why.ERROR, f"What answers at {where} does not speak Redis' protocol; correct the URL."
        )
    if isinstance(error, wire.ResponseError | wire.AuthenticationError | wire.BusyLoadingError) or (
        "max number of clients" in str(error)
    ):
        return reply_fault(error, where=where, user=user)
    if isinstance(error, wire.TimeoutError | TimeoutError):
        return RedisFault(
            Why.UNREACHABLE,
            f"Redis at {where} does not answer; check that it runs, and that a NetworkPolicy or"
            " firewall lets the operator through.",
        )
    if "closed by server" in str(error).lower():
        return RedisFault(
            Why.UNREACHABLE,
            f"Redis at {where} closed the connection at once; check that it runs, and write"
            " rediss:// if it speaks TLS.",
        )
    return RedisFault(
        Why.UNREACHABLE,
        f"Nothing answers at {where}; check that Redis runs and that host and port in the Secret"
        " are right.",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


_CERTIFICATES = {
    Refused.EXPIRED: "has expired; renew it.",
    Refused.NOT_YET_VALID: "is not valid yet; check the clocks.",
    Refused.OTHER_NAME: (
        "is for another name; set tls.serverName to the name in it, or correct the host in the"
        " Secret."
    ),
    Refused.UNKNOWN_AUTHORITY: (
        "is signed by an authority that is not trusted; set tls.ca to the authority that signed it."
    ),
}


def _tls(error: ssl.SSLError, where: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The certificate of Redis at {where} {_CERTIFICATES[why_refused(error)]}"
    return (
        f"TLS with Redis at {where} failed; check that the server speaks TLS on this port (redis://"
        " is without) and whether it asks for a client certificate."
    )


def _rule(text: str) -> tuple[str, str]:
    """What an ACL forbids, in words and as the rule that allows it."""
    found = _FORBIDDEN_COMMAND.search(text)
    if found is not None:
        command = found[1].lower()
        if command in {"eval", "evalsha"}:
            return "run scripts", "+eval +evalsha"
        return f"run {command.upper()}", f"+{command}"
    if "key" in text:
        # Not %R~: to Redis a script reads and writes all keys that it is given.
        return "use the queue's keys in scripts", "~<prefix>:<queue>:*"
    return "run the operator's scripts", "+@read +@scripting +info"
