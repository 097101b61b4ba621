"""How long the oldest job has been waiting for a worker. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starforge_backlog.queues.bullmq.queue_state import Job, QueueState


class FirstSeen:
    """When we first saw jobs for which no time of waiting is stored: put back by hand after
    they had ended, they have lost the time of their last start; promoted before their time, they
    have only that. They wait at least since then."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of(self, state: QueueState) -> Mapping[str, int]:
        """Of those that were read, by id; ms since 1970. All others are forgotten."""
        self._seen = {
            job.id: self._seen.get(job.id, state.now)
            for job in state.jobs
            if job.since(state.now) is None
        }
        return self._seen


def oldest_due(jobs: Iterable[Job], undated: Mapping[str, int], now: int) -> int | None:
    """Since when the oldest of the jobs waits (ms since 1970); None without any."""
    times = [(job.since(now), undated.get(job.id, now)) for job in jobs]
    return min((min(seen if since is None else since, now) for since, seen in times), default=None)
