"""Calls to one webhook: made, signed, sent, repeated, and their answers checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from starforge_backlog.clock import Clock
from starforge_backlog.http.caller import Call, HttpCaller, Trust, address_of, host_of
from starforge_backlog.http.faults import HttpFault
from starforge_backlog.producers.webhook_wire import (
    InForce,
    Wrong,
    headers_of,
    signature,
    understood,
)
from starforge_backlog.snapshot import Known, Reading, Unknown, Why

# All calls of one pause or resume together; the effects of a pass have 5 s.
EXCHANGE_SECONDS = 4.5
# Wait before the second attempt, and twice that before the third: a restart of one of the API's
# pods is over, or seen by its load balancer, in about that time.
BACKOFF_SECONDS = 0.2
# An attempt with less time than this would only find out that it has none.
SHORTEST_ATTEMPT_SECONDS = 0.1

# Calls to one API at once: a read, and a pause that must not wait for it. One that hangs keeps its
# own callers waiting, and nobody else's.
CALLS_AT_ONCE = 2
_NOT_SENT = "nothing was sent, because the calls before it still wait for an answer"

_TRANSIENT = frozenset({Why.TIMEOUT, Why.UNREACHABLE})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API with everything that a call to it needs, its secrets read."""

    url: str
    readable: bool
    seconds: float
    attempts: int
    trust: Trust
    secret: str | None = field(default=None, repr=False)
    bearer: str | None = field(default=None, repr=False)


class WebhookCalls:
    """One endpoint: makes, signs and sends the calls, and checks what comes back."""

    def __init__(self, caller: HttpCaller, endpoint: Endpoint, clock: Clock) -> None:
        self.clock = clock
        self.readable = endpoint.readable
        self.host = host_of(endpoint.url)
        self._caller = caller
        self._endpoint = endpoint
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._asked_to_wait: tuple[float, Wrong] | None = None  # until when (loop time), and why

    async def read(self) -> Reading[InForce]:
        """What is in force now; one attempt, the next pass is the next."""
        at = self.clock()
        if not self.readable:
            message = f"webhook.readable is false: the API at {self.host} is not asked how it is"
            return Unknown(Why.NOT_CONFIGURED, message, at)
        try:
            return Known(await self.exchange().get(), at)
        except NoAnswer as no:
            return no.unknown

    def exchange(self) -> Exchange:
        """Calls that belong together, under one time limit."""
        return Exchange(self, asyncio.get_running_loop().time() + EXCHANGE_SECONDS)

    def bad(self, what: str) -> Unknown:
        """An answer that says something else than what was asked for."""
        return self._unknown(Why.BAD_ANSWER, what)

    async def attempt(
        self, method: str, body: bytes, key: str | None, seconds: float
    ) -> InForce | Wrong:
        """One signed call, within `seconds`; its own time begins when its turn has come."""
        loop = asyncio.get_running_loop()
        if self._asked_to_wait is not None and loop.time() < self._asked_to_wait[0]:
            return self._asked_to_wait[1]
        until = loop.time() + seconds
        try:
            async with asyncio.timeout_at(until - SHORTEST_ATTEMPT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            return Wrong(Why.TIMEOUT, _NOT_SENT, sent=False)
        try:
            return await self._send(method, body, key, until - loop.time())
        finally:
            self._slots.release()

    async def _send(
        self, method: str, body: bytes, key: str | None, seconds: float
    ) -> InForce | Wrong:
        endpoint = self._endpoint
        limit = min(max(seconds, SHORTEST_ATTEMPT_SECONDS), endpoint.seconds)
        try:
            headers = self._headers(body, key)
            answer = await self._caller.send(
                Call(method, endpoint.url, limit, endpoint.trust, headers, body)
            )
        except HttpFault as fault:
            passing = fault.why in _TRANSIENT
            return Wrong(fault.why, fault.message, passing=passing, sent=fault.sent)
        found = understood(answer)
        # All callers of this API: the limit is on us, not on a producer.
        self._asked_to_wait = None
        if isinstance(found, Wrong) and found.wait > 0:
            until = asyncio.get_running_loop().time() + found.wait
            self._asked_to_wait = until, replace(found, sent=False)
        if isinstance(found, InForce) and self._repeats_a_secret(found.owner):
            message = "its owner holds a secret of the call; let it keep the token of the body"
            return Wrong(Why.BAD_ANSWER, message)
        return found

    def _repeats_a_secret(self, owner: str | None) -> bool:
        """The owner is stored in status, and quoted."""
        secrets = (self._endpoint.secret, self._endpoint.bearer)
        return owner is not None and any(secret and secret in owner for secret in secrets)

    def _headers(self, body: bytes, key: str | None) -> Mapping[str, str]:
        endpoint = self._endpoint
        # A GET has no body; then the path is signed, as it goes over the wire.
        signed = body or address_of(endpoint.url).raw_path.encode()
        sign = signature(endpoint.secret, signed, self.clock()) if endpoint.secret else None
        return headers_of(signed=sign, bearer=endpoint.bearer, key=key)

    @property
    def attempts(self) -> int:
        """Attempts of one POST."""
        return self._endpoint.attempts

    def no_answer(self, wrong: Wrong) -> NoAnswer:
        """The last attempt's fault."""
        return NoAnswer(self._unknown(wrong.why, wrong.message))

    def _unknown(self, why: Why, what: str) -> Unknown:
        return Unknown(why, f"The API at {self.host}: {what}.", self.clock())


@dataclass(frozen=True, slots=True)
class Exchange:
    """The calls of one pause or resume."""

    calls: WebhookCalls
    until: float  # loop time

    async def get(self) -> InForce:
        """What is in force."""
        return await self._call("GET", b"", None, attempts=1)

    async def post(self, body: bytes, key: str) -> InForce:
        """Ask for a change; the answer is what is in force then. Repeated under one key."""
        return await self._call("POST", body, key, attempts=self.calls.attempts)

    async def _call(self, method: str, body: bytes, key: str | None, *, attempts: int) -> InForce:
        before: Wrong | None = None  # an attempt that may have acted
        for number in range(1, attempts + 1):
            got = await self.calls.attempt(method, body, key, self._left())
            if isinstance(got, InForce):
                return got
            pause = max(BACKOFF_SECONDS * number, got.wait)
            enough = self._left() > pause + SHORTEST_ATTEMPT_SECONDS
            if not got.passing or number == attempts or not enough:
                raise self.calls.no_answer(got if got.sent or before is None else before)
            before = got if got.sent else before
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _left(self) -> float:
        return max(self.until - asyncio.get_running_loop().time(), SHORTEST_ATTEMPT_SECONDS)


class NoAnswer(Exception):
    """There is no answer that says what is in force."""

    def __init__(self, unknown: Unknown) -> None:
        super().__init__(unknown.message)
        self.unknown = unknown
