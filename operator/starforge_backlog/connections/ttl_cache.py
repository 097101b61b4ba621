"""Answers kept for a short time and shared: many policies name the same Secret or ConfigMap.

Beside `shared_answer.py`, because these questions are an asker's own: one that hangs, or failed, is
not handed on, and the next asker asks for itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MonotonicClock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Kept(Generic[V]):
    value: V
    until: float  # of the monotonic clock


class TtlCache(Generic[K, V]):
    """Values with an end. Askers of one key at the same time share one question."""

    def __init__(self, clock: MonotonicClock = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[K, _Kept[V]] = {}
        self._locks: dict[K, asyncio.Lock] = {}
        self._swept = clock()

    async def get(
        self, key: K, ask: Callable[[], Awaitable[V]], seconds: Callable[[V], float]
    ) -> V:
        """The kept value, or the answer to `ask`, kept for as long as `seconds` says of it."""
        kept = self._fresh(key)
        if kept is not None:
            return kept.value
        # One lock per key and not a shared future: when the asker in front is cancelled by its
        # pass' deadline, the next one asks for itself.
        async with self._locks.setdefault(key, asyncio.Lock()):
            kept = self._fresh(key)
            if kept is not None:
                return kept.value
            value = await ask()
            lasts = seconds(value)
            self._kept[key] = _Kept(value, self._clock() + lasts)
            self._sweep(lasts)
            return value

    def forget(self, key: K) -> None:
        """Ask again next time."""
        self._kept.pop(key, None)

    def __len__(self) -> int:
        return len(self._kept)

    def _fresh(self, key: K) -> _Kept[V] | None:
        kept = self._kept.get(key)
        return kept if kept is not None and self._clock() < kept.until else None

    def _sweep(self, lasts: float) -> None:
        """Drop what is over, at most once per life of a value, so that deleted objects leave."""
        now = self._clock()
        if now - self._swept < lasts:
            return
        self._swept = now
        self._kept = {key: kept for key, kept in self._kept.items() if now < kept.until}
        self._locks = {
            key: lock for key, lock in self._locks.items() if lock.locked() or key in self._kept
        }
