"""All database connections of the operator: found by URL, shared by policies, closed when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.databases.connection import Database, Pacing
from starforge_backlog.databases.headroom import HeadroomReader
from starforge_backlog.databases.url import ServerUrl, parse_url

T = TypeVar("T")

# A policy asks at least once per interval, and no sensible interval is longer than this.
IDLE_AFTER = timedelta(minutes=10)


@dataclass(slots=True)
class _Entry:
    url: ServerUrl
    database: Database
    headroom: HeadroomReader
    attached: dict[type, object] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)  # owner → loop time of the last question


class DatabaseHub:
    """One `Database` per host, port, database and user, however many policies ask for it (P7).

    A connection is shared only by owners that present the same credentials: whoever knows just
    the address must not read, or pause a producer, with the password in another one's Secret.
    A rotated password is replaced in place; while several owners rotate one after the other, the
    old and the new connection live side by side until the last of them has moved.
    """

    def __init__(
        self,
        clock: Clock = utc_now,
        *,
        pacing: Pacing | None = None,
        idle_after: timedelta = IDLE_AFTER,
    ) -> None:
        self._clock = clock
        self._pacing = pacing
        self._idle_after = idle_after
        self._entries: list[_Entry] = []
        self._closing: set[asyncio.Task[None]] = set()

    def get(self, url: str, *, owner: str) -> Database:
        """The database of a URL as it stands in a Secret; `owner` is the policy that asks.

        Nothing is opened yet. Raises DatabaseFault(SECRET_MALFORMED).
        """
        return self._entry(url, owner).database

    def headroom(self, url: str, *, owner: str) -> HeadroomReader:
        """The reader of its connections: one per database, so that its samples are shared.

        Raises DatabaseFault(SECRET_MALFORMED).
        """
        return self._entry(url, owner).headroom

    def attached(self, database: Database, kind: type[T], make: Callable[[], T]) -> T:
        """What somebody keeps beside a connection (readers with their samples): made once, and
        gone with the connection."""
        entry = next((e for e in self._entries if e.database is database), None)
        if entry is None:
            return make()  # closed meanwhile: of use for this pass, and kept for none
        kept = entry.attached.get(kind)
        if not isinstance(kept, kind):
            kept = entry.attached[kind] = make()
        return kept

    def release(self, owner: str) -> None:
        """`owner` is gone (its policy was deleted): close what only it used."""
        for entry in self._entries:
            entry.asked.pop(owner, None)
        self._close_unused()

    async def close(self) -> None:
        """Close everything. The hub can be used again and then connects anew."""
        for entry in self._entries:
            entry.asked.clear()
        self._close_unused()
        await asyncio.gather(*self._closing)

    def _entry(self, text: str, owner: str) -> _Entry:
        url = parse_url(text)
        now = asyncio.get_running_loop().time()
        same_server = [entry for entry in self._entries if entry.url.key == url.key]
        entry = next((e for e in same_server if e.url == url), None)
        if entry is None:
            entry = next((e for e in same_server if e.asked.keys() == {owner}), None)
            if entry is not None:
                entry.url = url
                entry.database.update_url(url)
        if entry is None:
            database = Database(url, pacing=self._pacing)
            entry = _Entry(url, database, HeadroomReader(database, self._clock))
            self._entries.append(entry)
        for other in same_server:
            other.asked.pop(owner, None)
        entry.asked[owner] = now
        self._forget_idle(now)
        return entry

    def _forget_idle(self, now: float) -> None:
        oldest = now - self._idle_after.total_seconds()
        for entry in self._entries:
            idle = [owner for owner, at in entry.asked.items() if at < oldest]
            for owner in idle:
                del entry.asked[owner]
        self._close_unused()

    def _close_unused(self) -> None:
        unused = [entry for entry in self._entries if not entry.asked]
        self._entries = [entry for entry in self._entries if entry.asked]
        for entry in unused:
            task = asyncio.create_task(entry.database.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
