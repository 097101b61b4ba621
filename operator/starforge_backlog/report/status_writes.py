"""What a status cannot say of itself: that it is not stored, or that two operators write it."""

from __future__ import annotations

from starforge_backlog.report.events import EventPoster, EventType, Regarding
from starforge_backlog.report.metrics import Metrics, PolicyKey


class StatusWriteReport:
    """An Event and a metric per policy; the log line is the writer's (`cluster/status.py`)."""

    def __init__(self, events: EventPoster, metrics: Metrics) -> None:
        self._events = events
        self._metrics = metrics

    async def refused(self, namespace: str, name: str, uid: str, why: str, /) -> None:
        """What people read from then on is old (P8). `why` in the API server's own words; empty
        when one is stored again."""
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

    async def shared(self, namespace: str, name: str, uid: str, passed: str, /) -> None:
        """Two operators act on one policy; `passed` is the time of the other one's pass."""
        self._metrics.status_shared(PolicyKey(namespace, name), passed)
        await self._events.post(
            Regarding(namespace, name, uid),
            EventType.WARNING,
            reason="AnotherOperator",
            action="Report",
            note=(
                "another operator acts on this policy, too: a second replica of the Deployment or a"
                " second release of the chart. Find them with `kubectl get deployments -A -l"
                " app.kubernetes.io/name=starforge-backlog` and keep one, with one replica"
            ),
            limit="AnotherOperator",
        )
