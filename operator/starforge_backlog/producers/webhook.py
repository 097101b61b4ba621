"""Pausing by a signed HTTP call to an API that pauses itself (P4).

| GET says (where readable)  | pause          | resume                                           |
|----------------------------|----------------|--------------------------------------------------|
| it runs                    | POST           | NOT_PAUSED                                       |
| paused, owner: our token   | ALREADY_OURS   | POST                                             |
| paused, another owner      | ALREADY_PAUSED | NOT_OURS                                         |
| paused, no owner           | ALREADY_PAUSED | POST if our pause had none; CHANGED_SINCE if it  |
|                            |                | had; NOT_OURS if only the intent is known        |
| no answer                  | Unknown        | Unknown                                          |

If an API keeps no owner, our pause may be a person's as well after a crash; it is then left to
people, like a flag without a mark. Where it cannot be read either, the API has to keep the token
itself and let nobody resume under another one: every call carries it.

A failed call is never taken for one that did nothing: it stays intended, and is settled later under
the same token.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.webhook_calls import NoAnswer, WebhookCalls
from starforge_backlog.producers.webhook_wire import InForce, body_of
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown

# Version of a pause by an API that keeps no owner. Not empty: an empty one was lost in a crash.
UNOWNED = "unowned"


class WebhookProducer:
    """A `Pausable`: one API, as one producer of one policy calls it.

    `shared` is the endpoint's reading, which all policies that name it share. `invalidate` gets
    each fault, so that a Secret that may be its cause is read again.
    """

    def __init__(
        self,
        calls: WebhookCalls,
        shared: SharedAnswer[Reading[InForce]],
        *,
        policy: str,
        producer: str,
        invalidate: Callable[[Unknown], None],
    ) -> None:
        self._calls = calls
        self._shared = shared
        self._policy = policy
        self._producer = producer
        self._invalidate = invalidate

    async def read(self) -> Reading[ProducerReading]:
        """What the API says now. NOT_CONFIGURED where the policy says that it cannot be read."""
        found = await self._shared.get()
        if isinstance(found, Unknown):
            self._invalidate(found)
            return found
        value = FlagValue.PAUSED if found.value.paused else FlagValue.RUNNING
        owner = found.value.owner
        return Known(ProducerReading(value, owner, owner or UNOWNED), found.at)

    async def where(self) -> ServerPlace | Unknown | None:
        """The spec itself says where it is."""
        return None

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str = "", plan: str | None = None
    ) -> Paused | Unknown:
        """Pause unless another client did. `owner` is not sent: the policy's name is."""
        exchange = self._calls.exchange()
        try:
            if self._calls.readable:
                found = await exchange.get()
                if found.paused and found.owner == token:
                    return Paused(PauseOutcome.ALREADY_OURS, token)
                if found.paused:
                    return Paused(PauseOutcome.ALREADY_PAUSED, message=self._theirs(found))
            found = await exchange.post(self._body("pause", token, at, why), f"{token}/pause")
        except NoAnswer as no:
            self._invalidate(no.unknown)
            return no.unknown
        finally:
            self._shared.forget()
        if not found.paused:
            return self._calls.bad(
                "it answered that it still runs; let it pause, or refuse the call"
            )
        if found.owner not in {None, token}:
            return Paused(PauseOutcome.ALREADY_PAUSED, message=self._theirs(found))
        return Paused(PauseOutcome.PAUSED, found.owner or UNOWNED)

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        """Resume if the pause is ours, as far as the API can be asked; else it must know."""
        exchange = self._calls.exchange()
        try:
            if self._calls.readable:
                found = await exchange.get()
                if (left := self._left_alone(found, token, version)) is not None:
                    return left
            at = self._calls.clock()
            body = self._body(
                "resume", token, at, "the backlog has recovered, or the policy was deleted"
            )
            found = await exchange.post(body, f"{token}/resume")
        except NoAnswer as no:
            self._invalidate(no.unknown)
            return no.unknown
        finally:
            self._shared.forget()
        if not found.paused:
            return Resumed(ResumeOutcome.RESUMED)
        if found.owner not in {None, token}:
            return Resumed(ResumeOutcome.NOT_OURS, self._theirs(found))
        return self._calls.bad(
            "it answered that it is still paused; let it resume, or resume it by hand"
        )

    def _left_alone(self, found: InForce, token: str, version: str) -> Resumed | None:
        """What the reading forbids to resume; None: it may be ours."""
        host = self._calls.host
        if not found.paused:
            message = f"The API at {host} is no longer paused; another client resumed it."
            return Resumed(ResumeOutcome.NOT_PAUSED, message)
        if found.owner == token:
            return None
        if found.owner is not None or not version:
            return Resumed(ResumeOutcome.NOT_OURS, self._theirs(found))
        if version == UNOWNED:
            return None
        message = (
            f"The API at {host} is paused, but no longer with the operator's token, so the pause"
            " may belong to another client; resume it by hand when it is safe."
        )
        return Resumed(ResumeOutcome.CHANGED_SINCE, message)

    def _theirs(self, found: InForce) -> str:
        whose = f"under the owner {found.owner!r}" if found.owner else "by another client"
        return f"The API at {self._calls.host} is paused {whose}; the operator does not resume it."

    def _body(self, action: str, token: str, at: datetime, reason: str) -> bytes:
        return body_of(
            action,
            producer=self._producer,
            policy=self._policy,
            token=token,
            at=at,
            reason=reason,
        )
