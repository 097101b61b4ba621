"""A million jobs of the real BullMQ that wait, and a queue with everything that is hard to read."""

from __future__ import annotations

from typing import Final

import redis
from tests.bench.stage import say
from tests.node.bull import Bull
from tests.node.handles import BullQueue

QUEUE: Final = "etl"
MIXED: Final = "etl-mixed"
# The runbook's kinds of work, and one that is rare.
NAMES: Final = {"process_snapshot": 60, "archive_snapshot": 25, "send_webhook": 14, "recompute": 1}
PRIORITIES: Final = 100  # more than the observer reads
# Bytes of data per job: Redis keeps hashes with longer fields than 64 bytes in a larger form, and
# real payloads are longer.
PAD: Final = 200
_CHUNK: Final = 50_000
_DELAYED_MS: Final = 1000  # due at once, and no worker is there to promote them


def load(bull: Bull, url: str, jobs: int) -> BullQueue:
    """`QUEUE` with so many jobs that wait: 0.9 GB and minutes for a million."""
    queue = bull.queue(url, QUEUE, version=5)
    for first in range(0, jobs, _CHUNK):
        queue.add_bulk(min(_CHUNK, jobs - first), NAMES, pad=PAD, within=300)
        say(f"{min(first + _CHUNK, jobs):,} of {jobs:,} jobs")
    return queue


def load_mixed(bull: Bull, url: str, jobs: int) -> int:
    """`MIXED`: priorities, delays that are over, and jobs that went to the head (LIFO). How many
    wait."""
    queue = bull.queue(url, MIXED, version=5)
    each = max(1, jobs * 6 // 10 // PRIORITIES)
    for priority in range(1, PRIORITIES + 1):
        queue.add_bulk(each, NAMES, priority=priority)
    delayed, first = jobs * 3 // 10, jobs // 10
    queue.add_bulk(delayed, NAMES, delay=_DELAYED_MS)
    queue.add_bulk(first, NAMES, lifo=True)
    return each * PRIORITIES + delayed + first


def megabytes(client: redis.Redis) -> int:
    """What Redis holds in memory."""
    return round(int(client.info("memory")["used_memory"]) / 2**20)
