"""The shared connection to one server: one pipeline at a time, nothing that can hang."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from starforge_backlog.connections.backoff import retry_delay
from starforge_backlog.redis.faults import NoTurn, RedisFault, lost_fault
from starforge_backlog.redis.session import (
    Answer,
    Command,
    Greeting,
    Session,
    Target,
    open_session,
)
from starforge_backlog.shared_tasks import await_shared, retrieve_exception

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pacing:
    """How long we wait for a server that misbehaves, and how often we reconnect."""

    connect_within: timedelta = timedelta(seconds=2)
    turn_within: timedelta = timedelta(seconds=2)  # for the pipelines of others before ours
    # Attempts to connect are at least this far apart (every client of a restarted server
    # reconnects at once; we must not be one more in that stampede) …
    retry_first: timedelta = timedelta(seconds=2)
    # … and never further than one default interval, so that recovery is seen with the next pass.
    retry_most: timedelta = timedelta(seconds=15)
    retry_jitter: float = 0.3  # share of the delay that is random, upwards
    # A server that comes back is connected to in milliseconds. Nobody waits longer for an attempt
    # while it is known what is wrong: a pass that ran out of time would know no mend.
    patience: timedelta = timedelta(milliseconds=100)


class Node:
    """One connection to one server, for all who ask it something.

    While the server cannot be reached, callers get the last fault at once instead of an attempt
    each.
    """

    def __init__(self, target: Target, pacing: Pacing) -> None:
        self.target = target
        self._pacing = pacing
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[object]] = set()  # asyncio keeps weak references
        self._session: Session | None = None
        self._session_target: Target | None = None  # what the session was opened with
        self._fault: RedisFault | None = None  # why there is no session
        self._failures = 0  # attempts that failed, since the last that did not
        self._retry_at = 0.0  # loop time of the next attempt, seconds
        self._retired = False

    def retarget(self, target: Target) -> None:
        """Use other credentials from the next pipeline on; they may be tried at once."""
        if target != self.target:
            self.target = target
            self._fault, self._failures, self._retry_at = None, 0, 0.0

    async def run(self, commands: Sequence[Command], limit: timedelta) -> list[Answer]:
        """See `Session.run`. Raises RedisFault."""
        return await self._in_turn(lambda session: session.run(commands, limit))

    async def greeting(self) -> Greeting:
        """What the server says of itself, after connecting where need be. Raises RedisFault."""
        session = self._session
        if session is not None and not session.closed and self._session_target == self.target:
            busy = self._turn.locked()
            if busy or not await session.ended():
                return session.greeting
        return await self._in_turn(_greeting_of)

    async def close(self) -> None:
        """Close the connection. The object can be used again and then connects anew."""
        async with self._turn:
            await self._drop()

    async def retire(self) -> None:
        """Close it for good, after the pipelines before: it is not the right server any more."""
        self._retired = True
        await self.close()

    async def _in_turn(self, ask: Callable[[Session], Awaitable[T]]) -> T:
        await self._take_turn()
        # A task of its own: a pass that runs out of time must not cost everybody the connection.
        # The pipeline ends at its own limit.
        running = asyncio.create_task(self._ask(ask))
        self._running.add(running)
        running.add_done_callback(self._done)
        known = self._fault if self._session is None or self._session.closed else None
        if known is None:
            return await await_shared(running)
        try:
            async with asyncio.timeout(self._pacing.patience.total_seconds()):
                return await await_shared(running)
        except TimeoutError:
            raise known from None

    async def _ask(self, ask: Callable[[Session], Awaitable[T]]) -> T:
        try:
            return await ask(await self._connected())
        except RedisFault as fault:
            if self._session is None or self._session.closed:
                self._fault = fault  # for everybody, until the next attempt to connect
            raise
        finally:
            self._turn.release()

    def _done(self, running: asyncio.Task[T]) -> None:
        self._running.discard(running)
        retrieve_exception(running)

    async def _take_turn(self) -> None:
        if self._fault is not None and self._session is None and self._turn.locked():
            raise self._fault  # somebody else is trying to connect right now
        try:
            async with asyncio.timeout(self._pacing.turn_within.total_seconds()):
                await self._turn.acquire()
        except TimeoutError:
            raise NoTurn from None

    async def _connected(self) -> Session:
        """The open session, or a new one if it is time for an attempt. Raises RedisFault."""
        if self._session is not None and (self._session.closed or await self._session.ended()):
            await self._drop()
        if self._session is not None and self._session_target == self.target:
            return self._session
        if self._retired:
            raise lost_fault(str(self.target.address))  # who found it before that looks again
        clock, target = asyncio.get_running_loop().time, self.target
        if clock() < self._retry_at:
            raise self._fault or lost_fault(str(target.address))
        await self._drop()
        self._retry_at = clock() + retry_delay(self._failures, self._pacing)
        try:
            fresh = await open_session(target, self._pacing.connect_within)
        except RedisFault as fault:
            # Anew: the attempt took its time.
            self._retry_at = clock() + retry_delay(self._failures, self._pacing)
            self._fault = fault
            self._failures += 1
            raise
        self._session, self._session_target = fresh, target
        self._fault, self._failures = None, 0
        return fresh

    async def _drop(self) -> None:
        session, self._session, self._session_target = self._session, None, None
        if session is not None:
            await session.close()


async def _greeting_of(session: Session) -> Greeting:
    return session.greeting
