"""What Redis says, and what the messages say."""

from __future__ import annotations

import socket
import ssl

import pytest
from redis import exceptions as wire
from redis._parsers.base import BaseParser

from starforge_backlog.redis.faults import connect_fault, reply_fault
from starforge_backlog.snapshot import Why


@pytest.mark.parametrize(
    ("reply", "why", "says"),
    [
        (
            "WRONGPASS invalid username-password pair or user is disabled.",
            Why.WRONG_PASSWORD,
            "put",
        ),
        ("NOAUTH Authentication required.", Why.WRONG_PASSWORD, "add it"),
        (
            "NOPERM User w has no permissions to run the 'evalsha' command",
            Why.NO_PERMISSION,
            "ACL SETUSER w +eval +evalsha",
        ),
        (
            "NOPERM this user has no permissions to run the 'client|list' command",
            Why.NO_PERMISSION,
            "ACL SETUSER w +client|list",
        ),
        (
            (
                "ERR Error running script (call to f_9): @user_script:1: NOPERM this user has no"
                " permissions to access one of the keys used as arguments"
            ),
            Why.NO_PERMISSION,
            "ACL SETUSER w ~<prefix>:<queue>:*.",
        ),
        (
            (
                "ERR ACL failure in script: User w has no permissions to run the 'time' command"
                " script: 5, on @user_script:1."
            ),
            Why.NO_PERMISSION,
            "+time",
        ),
        ("OOM command not allowed when used memory > 'maxmemory'.", Why.OUT_OF_MEMORY, "raise"),
        ("LOADING Redis is loading the dataset in memory", Why.UNREACHABLE, "loading"),
        ("MASTERDOWN Link with MASTER is down", Why.STALE, "lost its master"),
        ("READONLY You can't write against a read only replica.", Why.READ_ONLY, "sentinel"),
        ("MISCONF Redis is configured to save RDB snapshots", Why.READ_ONLY, "disk"),
        ("WRONGTYPE Operation against a key", Why.NOT_BULLMQ, "another type"),
        (
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value script: 5, on"
                " @user_script:1."
            ),
            Why.NOT_BULLMQ,
            "another type",
        ),
        ("BUSY Redis is busy running a script.", Why.TIMEOUT, "script"),
        ("CROSSSLOT Keys in request don't hash to the same slot", Why.HASH_TAG_MISSING, "{bull}"),
        ("CLUSTERDOWN Hash slot not served", Why.UNREACHABLE, "CLUSTER INFO"),
        ("ERR max number of clients reached", Why.UNREACHABLE, "maxclients"),
        ("ERR DB index is out of range", Why.DATABASE_NOT_FOUND, "number"),
        ("DENIED Redis is running in protected mode", Why.NO_PERMISSION, "requirepass"),
        (
            "ERR unknown command 'EVALSHA', with args beginning with: 'hunter2'",
            Why.ERROR,
            "does not offer the command EVALSHA",
        ),
        ("ERR unknown command `eval`", Why.ERROR, "does not offer the command EVAL"),
        ("ERR Unknown subcommand or wrong number of arguments for 'list'", Why.ERROR, "offer"),
        (
            "ERR script tried accessing undeclared key bull:etl:hunter2",
            Why.ERROR,
            "allow-undeclared-keys",
        ),
        ("ERR max requests limit exceeded. Limit: 500000", Why.ERROR, "limit of its plan"),
        ("ERR max daily request limit exceeded.", Why.ERROR, "limit of its plan"),
        ("ERR value 'hunter2' is not an integer", Why.ERROR, "log"),
    ],
)
def test_an_error_reply(reply: str, why: Why, says: str) -> None:
    error = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]  # the library's own
    fault = reply_fault(error, where="h:6379", user="w")
    assert fault.why is why
    assert says in fault.message
    assert "h:6379" in fault.message
    assert "hunter2" not in fault.message


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__context__ = cause
    return error


def _certificate(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "why", "says"),
    [
        (_caused(wire.ConnectionError("x"), socket.gaierror()), Why.HOST_UNKNOWN, "DNS"),
        (_caused(wire.ConnectionError("x"), _certificate(10)), Why.TLS_FAILED, "expired"),
        (_caused(wire.ConnectionError("x"), _certificate(19)), Why.TLS_FAILED, "tls.ca"),
        (_caused(wire.ConnectionError("x"), _certificate(62)), Why.TLS_FAILED, "tls.serverName"),
        (_caused(wire.ConnectionError("x"), ssl.SSLError()), Why.TLS_FAILED, "speaks TLS"),
        (wire.TimeoutError("Timeout connecting"), Why.UNREACHABLE, "NetworkPolicy"),
        (wire.ConnectionError("Connection closed by server."), Why.UNREACHABLE, "rediss://"),
        (wire.ConnectionError("Error 111"), Why.UNREACHABLE, "Nothing answers"),
        (wire.InvalidResponse("Protocol error: HTTP"), Why.ERROR, "protocol"),
        (wire.BusyLoadingError("loading", status_code="LOADING"), Why.UNREACHABLE, "loading"),
    ],
)
def test_a_failure_to_connect(error: Exception, why: Why, says: str) -> None:
    fault = connect_fault(error, where="h:6379", host="h", user="w")
    assert fault.why is why
    assert says in fault.message
