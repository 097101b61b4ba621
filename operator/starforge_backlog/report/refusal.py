"""A status that the API server refuses is loud: what people read from then on is old (P8)."""

from __future__ import annotations

from starforge_backlog.report.events import EventPoster, EventType, Regarding
from starforge_backlog.report.metrics import Metrics, PolicyKey


class RefusalReport:
    """An Event and a metric per policy; the log line is the writer's (`cluster/status.py`)."""

    def __init__(self, events: EventPoster, metrics: Metrics) -> None:
        self._events = events
        self._metrics = metrics

    async def __call__(self, namespace: str, name: str, uid: str, why: str, /) -> None:
        """`why` in the API server's own words; empty when one is stored again."""
        self._metrics.status_refused(PolicyKey(namespace, name), refused=bool(why))
        about = Regarding(namespace, name, uid)
        if not why:
            await self._events.post(
                about,
                EventType.NORMAL,
                reason="StatusStored",
                action="Report",
                note="the status is stored again",
            )
            return
        await self._events.post(
            about,
            EventType.WARNING,
            reason="StatusRefused",
            action="Report",
            note=(
                f"the status cannot be stored: {why}. Until it can, status shows old readings, and"
                " nothing is paused, resumed or scaled that would have to be remembered first"
            ),
        )
