"""Connections that policies share: found by where they lead to, closed when nobody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

# A policy asks at least once per interval, and no sensible interval is longer than this.
IDLE_AFTER = timedelta(minutes=10)


class Keyed(Protocol):
    """Where a connection leads to, and with which credentials. Equal only when both are."""

    @property
    def key(self) -> Hashable:
        """What makes two of them the same connection; without the password, which may rotate."""


U = TypeVar("U", bound=Keyed)
T = TypeVar("T")


U_contra = TypeVar("U_contra", bound=Keyed, contravariant=True)


class SharedConnection(Protocol[U_contra]):
    """What is shared."""

    def update_url(self, url: U_contra) -> None:
        """Use other credentials from now on."""

    async def close(self) -> None:
        """Give the connection up."""


C = TypeVar("C", bound=SharedConnection[Any])


@dataclass(slots=True)
class Entry(Generic[U, C]):
    """One connection, what is kept beside it, and who asked for it when (loop time)."""

    url: U
    connection: C
    attached: dict[type, object] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)


class Hub(Generic[U, C]):
    """One connection per key, however many policies ask for it (P7). Each adapter adds a `get`.

    It is shared only by owners that present the same credentials: whoever knows just the address
    must not read, or pause a producer, with the password in another one's Secret. A rotated
    password is replaced in place; while several owners rotate one after the other, the old and
    the new connection live side by side until the last of them has moved.
    """

    def __init__(self, make: Callable[[U], C], *, idle_after: timedelta = IDLE_AFTER) -> None:
        self._make = make
        self._idle_after = idle_after
        self._entries: list[Entry[U, C]] = []
        self._closing: set[asyncio.Task[None]] = set()

    def shared(self, url: U, *, owner: str) -> C:
        """The connection for `url`; `owner` is the policy that asks. Nothing is opened yet."""
        now = asyncio.get_running_loop().time()
        same_server = [entry for entry in self._entries if entry.url.key == url.key]
        entry = next((e for e in same_server if e.url == url), None)
        if entry is None:
            entry = next((e for e in same_server if e.asked.keys() == {owner}), None)
            if entry is not None:
                entry.url = url
                entry.connection.update_url(url)
        if entry is None:
            entry = Entry(url, self._make(url))
            self._entries.append(entry)
        for other in same_server:
            other.asked.pop(owner, None)
        entry.asked[owner] = now
        self._forget_idle(now)
        return entry.connection

    def attached(self, connection: C, kind: type[T], make: Callable[[], T]) -> T:
        """What a caller keeps beside a connection (readers with their samples): made once,
        and gone with the connection."""
        entry = next((e for e in self._entries if e.connection is connection), None)
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
        """Close everything. It can be used again and then connects again."""
        for entry in self._entries:
            entry.asked.clear()
        self._close_unused()
        await asyncio.gather(*self._closing)

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
            task = asyncio.create_task(entry.connection.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
