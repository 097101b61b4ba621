"""What goes over the wire to a webhook, and what may come back. Pure.

Nothing of an answer is quoted but an owner of the agreed shape: an API in debug mode answers with
the request that it got, and a token in it may be cut, escaped, encoded or in an address.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from starforge_backlog.http.caller import BODY_BYTES, Answer
from starforge_backlog.snapshot import Why

SIGNATURE = "X-StarForge-Signature"
IDEMPOTENCY = "Idempotency-Key"
# A token of ours is a third of it.
OWNER_CHARACTERS = 256
# Answers after which the same call may go well a moment later.
PASSING = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)


@dataclass(frozen=True, slots=True)
class InForce:
    """What the API says."""

    paused: bool
    owner: str | None  # the token that it keeps; None: it keeps none, or nobody paused it


@dataclass(frozen=True, slots=True)
class Wrong:
    """It is no answer to what was asked."""

    why: Why
    message: str
    passing: bool = False  # worth another attempt in the same pass
    sent: bool = True  # it may have acted
    wait: float = 0.0  # seconds that it asks not to be called for


def signature(secret: str, signed: bytes, at: datetime) -> str:
    """`t=<unix seconds>,v1=<hex>`: HMAC-SHA256 of `<t>.` and what is signed.

    That is the body, or for a GET, which has none, the path. The time keeps a call that another
    client recorded from being of use later.
    """
    seconds = int(at.timestamp())
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + signed, hashlib.sha256)
    return f"t={seconds},v1={digest.hexdigest()}"


def body_of(
    action: str, *, producer: str, policy: str, token: str, at: datetime, reason: str
) -> bytes:
    """The body of a POST, as it is signed and sent."""
    fields = {
        "action": action,
        "producer": producer,
        "policy": policy,
        "token": token,
        "at": at.isoformat(timespec="seconds"),
        "reason": reason,
    }
    return json.dumps(fields).encode()


def headers_of(*, signed: str | None, bearer: str | None, key: str | None) -> Mapping[str, str]:
    """The headers of a call."""
    found = {
        "Accept": "application/json",
        "Content-Type": "application/json" if key is not None else None,
        IDEMPOTENCY: key,
        SIGNATURE: signed,
        "Authorization": f"Bearer {bearer}" if bearer is not None else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def understood(answer: Answer) -> InForce | Wrong:
    """What an answer says, or why it says nothing."""
    status = answer.status
    match status:
        case HTTPStatus.UNAUTHORIZED:
            message = "it refused the credentials (401); check webhook.secret and bearerToken"
            return Wrong(Why.WRONG_PASSWORD, message)
        case HTTPStatus.FORBIDDEN:
            message = "it forbids the call (403); let it take this signature or token for it"
            return Wrong(Why.NO_PERMISSION, message)
        case _ if 300 <= status < 400:  # noqa: PLR2004 - HTTP's own bounds of redirections
            where = f" to {_host(answer.location)}" if answer.location else ""
            message = f"it redirects{where} ({status}), which is not followed; correct webhook.url"
            return Wrong(Why.BAD_ANSWER, message)
        case _ if 400 <= status < 500 and status not in PASSING:  # noqa: PLR2004 - likewise
            message = (
                f"it refuses the call ({status} with {_said(answer)}); check its log, and correct"
                " webhook.url or it"
            )
            return Wrong(Why.BAD_ANSWER, message)
        case _ if not 200 <= status < 300:  # noqa: PLR2004 - likewise
            message = f"it failed ({status} with {_said(answer)}); the next pass tries again"
            if answer.retry_after:
                message = (
                    f"it asks not to be called for {answer.retry_after:.0f} s ({status}); the first"
                    " pass after that tries again"
                )
            return Wrong(Why.BAD_ANSWER, message, passing=True, wait=answer.retry_after)
        case _:
            return _state(answer)


def _state(answer: Answer) -> InForce | Wrong:
    fix = 'it must be {"paused": true|false} and may have an "owner"'
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):  # the second for thousands of brackets
        return Wrong(Why.BAD_ANSWER, f"it answered no JSON ({_said(answer)}); {fix}")
    if not isinstance(found, dict) or not isinstance(found.get("paused"), bool):
        return Wrong(Why.BAD_ANSWER, f"it answered other JSON; {fix}")
    owner = found.get("owner")
    if owner is not None and (not isinstance(owner, str) or len(owner) > OWNER_CHARACTERS):
        message = f"its owner is no text of at most {OWNER_CHARACTERS} characters; {fix}"
        return Wrong(Why.BAD_ANSWER, message)
    return InForce(found["paused"], owner or None)


def _host(location: str) -> str:
    """Of a redirect, without a user, a path or a query."""
    try:
        return urlsplit(location).hostname or "another page"
    except ValueError:
        return "another page"


def _said(answer: Answer) -> str:
    """What kind of body it is, without a word of it."""
    body = answer.body.strip()
    if not body:
        return "nothing"
    if body.startswith(b"<"):
        return "a web page"
    return f"{len(answer.body)} bytes" if len(answer.body) < BODY_BYTES else "a long text"
