"""A policy is being deleted: release what we paused, and only that (P4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starforge_backlog.act import act
from starforge_backlog.cluster.annotations import RELEASE, RELEASE_ABANDON, abandons_pauses
from starforge_backlog.context import Rooms
from starforge_backlog.decide.producers import release_all
from starforge_backlog.outcome import Failed, merge
from starforge_backlog.policy import Policy
from starforge_backlog.report.announce import announce, count_actions
from starforge_backlog.report.faults import waiting_for_release
from starforge_backlog.report.metrics import PolicyKey
from starforge_backlog.report.summary import done


class NotReleased(Exception):
    """Something of ours is still paused; the finalizer must wait. The text says what to do."""


def may_go(rooms: Rooms, body: Mapping[str, Any]) -> bool:
    """Whether a policy whose spec cannot be read may be deleted: it holds nothing of ours, or a
    person lets it go."""
    ours = release_all(rooms.statuses.current(body).paused, "").actions
    annotations = dict(body["metadata"].get("annotations") or {})
    return not ours or abandons_pauses(annotations)


async def release(rooms: Rooms, policy: Policy) -> tuple[str, ...]:
    """Resume every producer that we paused. Returns what was done, in sentences.

    Raises NotReleased while one cannot be resumed, unless a person abandons it by annotation;
    the reason is a condition, so that `kubectl describe` shows why the deletion waits.
    """
    before = rooms.statuses.current(policy.body)
    plan = release_all(before.paused, "the policy is deleted")
    # Each on its own: one that is stuck must not keep the others paused.
    results = tuple(
        [result for action in plan.actions for result in await act(rooms, policy, (action,))]
    )
    status = merge(before, results, rooms.clock())
    count_actions(rooms.metrics, PolicyKey(policy.namespace, policy.name), results)
    await announce(rooms.events, policy, before, status, results)
    stuck = [result.got.message for result in results if isinstance(result.got, Failed)]
    if stuck and not policy.abandon:
        message = (
            f"deletion waits, because a producer that we paused cannot be resumed: {stuck[0]}."
            " Mend that, or resume the producer by hand and run: kubectl annotate"
            f" qbp/{policy.name} -n {policy.namespace} {RELEASE}={RELEASE_ABANDON}"
        )
        status = waiting_for_release(status, message, policy.generation, rooms.clock())
        await rooms.statuses.write(policy.namespace, policy.name, policy.uid, status)
        raise NotReleased(message)
    words = tuple(done(result) for result in results)
    return (*words, "let go by annotation") if stuck else words
