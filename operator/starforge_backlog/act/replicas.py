"""Replicas of the target, and the maximum of an autoscaler that guards it."""

from __future__ import annotations

from dataclasses import replace

from starforge_backlog.act.effects import Effects
from starforge_backlog.cluster.scale import ScaleConflict, Scaled
from starforge_backlog.decide.plan import ScaleTo, SetMaximum
from starforge_backlog.decide.results import (
    Failed,
    MaximumOutcome,
    MaximumResult,
    NotDone,
    Written,
)
from starforge_backlog.policy import Policy
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.snapshot import Unknown, Why


async def scale(
    effects: Effects, policy: Policy, action: ScaleTo, access: PolicyAccess
) -> Written | Failed:
    """Through the scale subresource, under the version that the decision saw."""
    late = replace(access.late, message="the API server did not answer in time")
    write = effects.replicas.write(
        policy.namespace,
        policy.spec.target,
        replicas=action.to,
        version=action.version,
        generation=action.generation,
    )
    match await access.deadline.keep(write, late):
        case Scaled(replicas):
            return Written(replicas)
        case ScaleConflict(message):
            return Failed(NotDone.CONFLICT, message)
        case Unknown() as unknown:
            return Failed(unknown.why, unknown.message)


async def set_maximum(
    effects: Effects, policy: Policy, action: SetMaximum, access: PolicyAccess
) -> MaximumResult | Failed:
    """Restored by what the object itself says of us; otherwise written under the version that was
    decided from."""
    late = replace(access.late, message="the API server did not answer in time")
    guard = action.guard
    if action.follows:
        return _maximum_result(await access.deadline.keep(_follow(effects, policy, action), late))
    if action.restore:
        write = effects.maximums.restore(
            policy.namespace,
            guard.kind,
            guard.name,
            token=guard.token,
            uid=guard.uid,
            most=action.most,
        )
    else:
        write = effects.maximums.write(
            policy.namespace,
            guard.kind,
            guard.name,
            seen=action.from_,
            to=action.to,
            previous=action.to if guard.previous_maximum is None else guard.previous_maximum,
            implicit=action.implicit,
            token=guard.token,
            version=action.version,
        )
    done = await access.deadline.keep(write, late)
    match done:
        case MaximumResult(MaximumOutcome.GONE, _, message) if not action.restore:
            return Failed(Why.AUTOSCALER_NOT_FOUND, message)
        case MaximumResult(MaximumOutcome.WRITTEN) if action.follower and not action.restore:
            # The ScaledObject is written, whatever comes of this: the next pass sees who follows.
            await access.deadline.keep(_follow(effects, policy, action), late)
        case _:
            pass
    return _maximum_result(done)


async def _follow(effects: Effects, policy: Policy, action: SetMaximum) -> MaximumResult | Unknown:
    """KEDA's own autoscaler gets the number as well; only a lower one is urgent."""
    return await effects.maximums.follow(
        policy.namespace, action.follower, owner=action.guard.uid, to=action.to
    )


def _maximum_result(done: MaximumResult | Unknown) -> MaximumResult | Failed:
    match done:
        case Unknown() as unknown:
            return Failed(unknown.why, unknown.message)
        case MaximumResult(MaximumOutcome.CHANGED, _, message):
            return Failed(NotDone.CONFLICT, message)
        case MaximumResult() as result:
            return result
