"""A policy is being deleted: release what we paused, and only that (P4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starforge_backlog.act import act
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.cluster.annotations import RELEASE, RELEASE_ABANDON
from starforge_backlog.cluster.finalizer import remove_finalizer
from starforge_backlog.context import Rooms
from starforge_backlog.decide.guard import hand_back
from starforge_backlog.decide.plan import Action, Resume, SetMaximum
from starforge_backlog.decide.producers import release_all
from starforge_backlog.outcome import Failed, Result, merge
from starforge_backlog.policy import Policy
from starforge_backlog.producers.protocol import Resumed, ResumeOutcome
from starforge_backlog.report.announce import announce, count_actions
from starforge_backlog.report.faults import waiting_for_release
from starforge_backlog.report.metrics import PolicyKey
from starforge_backlog.report.summary import done

# Batches of one producer before the deletion lets go of its turn; it is tried again soon after.
# One batch is held jobs of 1.5 s, some 50,000.
ROUNDS = 10
# A deletion that waits for a database asks again this often.
RELEASE_RETRY_SECONDS = 15.0


class NotReleased(Exception):
    """Something of ours is still paused; the finalizer must wait. The text says what to do."""


async def let_go(rooms: Rooms, body: Mapping[str, Any]) -> tuple[str, ...]:
    """Release, and take our finalizer off: for a policy that the framework does not watch. Returns
    what was done, in sentences. Raises NotReleased and ClusterFault."""
    policy = Policy.for_release(body)
    words = await release(rooms, policy)
    await remove_finalizer(rooms.client, policy.namespace, policy.name, policy.uid)
    return words


async def release(rooms: Rooms, policy: Policy) -> tuple[str, ...]:
    """Resume every producer that we paused. Returns what was done, in sentences.

    Raises NotReleased while one cannot be resumed, unless a person abandons it by annotation;
    the reason is a condition, so that `kubectl describe` shows why the deletion waits.
    """
    before = rooms.statuses.current(policy.body)
    actions = _ours(before, "the policy is deleted", policy.uid)
    # Each on its own: one that is stuck must not keep the others paused.
    results = tuple([await _resume(rooms, policy, action) for action in actions])
    status = merge(before, results, rooms.clock())
    count_actions(rooms.metrics, PolicyKey(policy.namespace, policy.name), results)
    await announce(rooms.events, policy, before, status, results)
    stuck = [result.got.message for result in results if isinstance(result.got, Failed)]
    partly = [done(result) for result in results if _partly(result)]
    if (stuck or partly) and not policy.abandon:
        message = (
            f"deletion waits, because {_what(results)}: {stuck[0]}."
            " Mend that, or do it by hand and run: kubectl annotate"
            f" qbp/{policy.name} -n {policy.namespace} {RELEASE}={RELEASE_ABANDON}"
            if stuck
            else f"deletion waits until all of it is resumed: {partly[0]}"
        )
        status = waiting_for_release(status, message, policy.generation, rooms.clock())
        await rooms.statuses.write(policy.namespace, policy.name, policy.uid, status)
        raise NotReleased(message)
    words = tuple(done(result) for result in results)
    return (*words, "let go by annotation") if stuck or partly else words


def _ours(status: QueueBacklogPolicyStatus, why: str, owner: str) -> tuple[Action, ...]:
    """Pauses of ours, and an autoscaler's maximum that we lowered."""
    back = hand_back(status.scaling.guard, None, owner, why)
    return (*release_all(status.paused, why).actions, *((back,) if back is not None else ()))


async def _resume(rooms: Rooms, policy: Policy, action: Action) -> Result:
    """One producer, batch after batch; nobody else's window has to be waited for."""
    for _ in range(ROUNDS):
        (result,) = await act(rooms, policy, (action,))
        if not _partly(result):
            break
        if isinstance(action, Resume):  # what is left is the rest of ours
            action = replace(action, held=action.held.model_copy(update={"resuming": True}))
    return result


def _what(results: tuple[Result, ...]) -> str:
    """What is stuck, in words."""
    first = next(result.action for result in results if isinstance(result.got, Failed))
    if isinstance(first, SetMaximum):
        return f"the maximum of {first.object} that we lowered cannot be restored"
    return "a producer that we paused cannot be resumed"


def _partly(result: Result) -> bool:
    return isinstance(result.got, Resumed) and result.got.outcome is ResumeOutcome.PARTLY
