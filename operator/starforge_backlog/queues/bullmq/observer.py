"""All BullMQ queues of one Redis, and what each policy sees of them."""

from __future__ import annotations

import time
from datetime import timedelta

from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.connections.kept import Kept
from starforge_backlog.queues.bullmq.keys import Keys
from starforge_backlog.queues.bullmq.missing import Unnamed
from starforge_backlog.queues.bullmq.queue import OfServer, QueueObserver, Timer
from starforge_backlog.queues.bullmq.reading import queue_reading
from starforge_backlog.queues.bullmq.settings import ObserverSettings
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.snapshot import QueueReading, Unknown, unread


class BullmqQueues:
    """Reads queues of one Redis. Keep one per `RedisServer`: it holds what is shared (P7: a hundred
    policies on one queue cost one read per interval)."""

    def __init__(
        self,
        server: RedisServer,
        *,
        clock: Clock = utc_now,
        timer: Timer = time.monotonic,
        settings: ObserverSettings | None = None,
    ) -> None:
        self._server = server
        self._clock = clock
        self._timer = timer
        self._settings = settings or ObserverSettings()
        self._queues = Kept(timer)
        self._shared = OfServer(server, timer, self._settings)

    async def read(
        self,
        name: str,
        spec: BullmqQueue,
        types: frozenset[str] = frozenset(),
        *,
        rate_window: timedelta,
        max_age: timedelta,
    ) -> QueueReading:
        """See `QueueSource.read`. `name` is the queue's name in the policy, for messages.

        `types` are reported one by one even when none of them waits or ended lately.
        """
        queue = self._queue(Keys(spec.prefix, spec.name))
        seen = await queue.observe(max_age, types=bool(types))
        if isinstance(seen, Unnamed):
            return unread(seen.unknown(name))
        if isinstance(seen, Unknown):
            return unread(seen)
        settings = self._settings
        window = min(max(rate_window, settings.shortest_window), settings.longest_window)
        return queue_reading(seen, queue.history, window, settings, types)

    def _queue(self, keys: Keys) -> QueueObserver:
        return self._queues.get(
            keys,
            lambda: QueueObserver(
                self._server,
                keys,
                self._shared,
                clock=self._clock,
                timer=self._timer,
                settings=self._settings,
            ),
        )
