"""One session with a server, used by one at a time, and opened again after it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Generic, Protocol, TypeVar

from starforge_backlog.connections.backoff import Backoff, ReconnectPacing, patiently, retry_delay
from starforge_backlog.faults import Fault
from starforge_backlog.shared_tasks import await_shared, retrieve_exception
from starforge_backlog.snapshot import Why


class Session(Protocol):
    """An open connection."""

    @property
    def closed(self) -> bool:
        """Whether it is known to be gone."""

    async def ended(self) -> bool:
        """Whether the other side has ended it while nothing was asked. Sends nothing."""

    async def close(self) -> None:
        """Give it up at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing(ReconnectPacing):
    """How long we wait for a server that misbehaves, and how often we reconnect."""

    connect_within: timedelta
    turn_within: timedelta  # for what others asked before us
    # While it is known what is wrong, nobody waits longer for an attempt.
    patience: timedelta = timedelta.max


W = TypeVar("W")  # what a session is opened with: the server, and the credentials
S = TypeVar("S", bound=Session)
T = TypeVar("T")


class Reconnecting(Generic[W, S]):
    """The session for all who use it.

    While the server cannot be reached, callers get the last fault at once instead of an attempt
    each. A session that works is kept: a server that is full would not give it back.
    """

    def __init__(
        self,
        wanted: W,
        connect: Callable[[W], Awaitable[S]],
        pacing: Pacing,
        *,
        no_turn: Callable[[], Fault],
        lost: Callable[[], Fault],
        survived: frozenset[Why] = frozenset(),
    ) -> None:
        """`connect` raises Fault. `no_turn`: others kept the session busy; `lost`: there is none,
        and no caller got the reason. `survived`: if other credentials are refused for one of these,
        the session of the earlier ones is used."""
        self.wanted = wanted
        self.backoff: Backoff[Fault] = Backoff(partial(retry_delay, pacing=pacing))
        self._connect = connect
        self._no_turn = no_turn
        self._lost = lost
        self._pacing = pacing
        self._survived = survived
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[object]] = set()  # asyncio keeps weak references
        self._session: S | None = None
        self._opened_with: W | None = None
        self._retired = False

    @property
    def session(self) -> S | None:
        """The session, if one is open."""
        return self._session if not self._gone else None

    @property
    def current(self) -> S | None:
        """The same, if it was opened with what is wanted now."""
        return self.session if self._opened_with == self.wanted else None

    @property
    def busy(self) -> bool:
        """Whether somebody uses it."""
        return self._turn.locked()

    def want(self, wanted: W) -> None:
        """Use other credentials from the next turn on; they may be tried at once."""
        if wanted != self.wanted:
            self.wanted = wanted
            self.backoff.reset()

    async def run(self, use: Callable[[S], Awaitable[T]]) -> T:
        """What `use` makes of the session, when it is its turn. Raises Fault.

        It goes on when the caller gives up: a pass that runs out of time must not cost everybody
        the connection. So `use` has a limit of its own.
        """
        await self._take_turn()
        running = asyncio.create_task(self._in_turn(use))
        self._running.add(running)
        running.add_done_callback(self._ended)
        known = self.backoff.fault if self._gone else None
        return await patiently(await_shared(running), known, self._pacing.patience)

    async def drop(self) -> None:
        """In one's turn: close the session, in whatever state it is."""
        session, self._session, self._opened_with = self._session, None, None
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """Close it after the turns before. It can be used again and then connects again."""
        async with self._turn:
            await self.drop()

    async def retire(self) -> None:
        """Close it for good."""
        self._retired = True
        await self.close()

    @property
    def _gone(self) -> bool:
        return self._session is None or self._session.closed

    async def _in_turn(self, use: Callable[[S], Awaitable[T]]) -> T:
        try:
            return await use(await self._connected())
        except Fault as fault:
            if self._gone:
                self.backoff.fault = fault  # for everybody, until the next attempt to connect
            raise
        finally:
            self._turn.release()

    def _ended(self, running: asyncio.Task[T]) -> None:
        self._running.discard(running)
        retrieve_exception(running)

    async def _take_turn(self) -> None:
        if self.backoff.fault is not None and self._session is None and self._turn.locked():
            raise self.backoff.fault  # another client is trying to connect right now
        try:
            async with asyncio.timeout(self._pacing.turn_within.total_seconds()):
                await self._turn.acquire()
        except TimeoutError:
            raise self._no_turn() from None

    async def _connected(self) -> S:
        """The open session, or a new one if it is time for an attempt. Raises Fault."""
        if self._session is not None and (self._session.closed or await self._session.ended()):
            await self.drop()
        session, wanted = self._session, self.wanted
        if session is not None and self._opened_with == wanted:
            return session
        if self._retired:
            raise self._lost()  # a caller that found it before that tries again
        if not self.backoff.due:
            if session is not None:
                return session
            raise self.backoff.fault or self._lost()
        if not self._survived:
            await self.drop()  # of no use whatever comes: never two at once
        self.backoff.begin()
        try:
            fresh = await self._connect(wanted)
        except Fault as fault:
            self.backoff.failed(fault)
            if session is not None and fault.why in self._survived:
                return session
            await self.drop()
            raise
        await self.drop()
        self._session, self._opened_with = fresh, wanted
        self.backoff.succeeded()
        return fresh
