"""Reports what was done: Events for people, counters for machines."""

from __future__ import annotations

from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.decide.results import Failed, NotDone, Result
from starforge_backlog.report.events import EventPoster, EventType, Regarding
from starforge_backlog.report.metrics import ActionResult, Metrics, PolicyKey
from starforge_backlog.report.transitions import transitions


async def announce(
    events: EventPoster,
    policy: Regarding,
    before: QueueBacklogPolicyStatus,
    after: QueueBacklogPolicyStatus,
    results: tuple[Result, ...],
    *,
    stored: bool = True,
) -> None:
    """One Event for each transition; a failure to post is counted, and fails nothing.

    Where the status could not be stored (`stored`), the next pass does the same again, which is no
    news.
    """
    for note in events.news(policy.uid, transitions(before, after, results), stored=stored):
        kind = EventType.WARNING if note.warning else EventType.NORMAL
        await events.post(
            policy,
            kind,
            reason=note.reason,
            action=note.action,
            note=note.text,
            limit=note.limit,
        )


def count_actions(metrics: Metrics, key: PolicyKey, results: tuple[Result, ...]) -> None:
    """Every action and what became of it."""
    for result in results:
        metrics.action(key, result.action, _counted_as(result))


def _counted_as(result: Result) -> ActionResult:
    match result.got:
        case Failed(reason) if reason is NotDone.CONFLICT:
            return ActionResult.CONFLICT
        case Failed():
            return ActionResult.FAILED
        case _:
            return ActionResult.DONE if result.ok else ActionResult.REFUSED
