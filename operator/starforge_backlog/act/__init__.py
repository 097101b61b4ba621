"""Carries a plan out, in order; after a failure only what makes things safer goes on.

Pauses begin in the order of mitigation and do not wait for each other: one that hangs or fails must
not keep the others waiting, whatever breaker they belong to. A release, or a step up, after a pause
that failed would rest on what is not so.

Every effect is idempotent or conditional: a pause is a compare-and-set under a token that is in
status already, a scale names the version that it was decided from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

from starforge_backlog.act.effects import Effects
from starforge_backlog.act.pauses import pause, resume
from starforge_backlog.act.replicas import scale, set_maximum
from starforge_backlog.api.status import PauseStatus
from starforge_backlog.decide.plan import Action, Pause, Resume, ScaleTo, SetMaximum
from starforge_backlog.decide.results import Failed, Got, Result
from starforge_backlog.observe import access_of
from starforge_backlog.policy import Policy
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.snapshot import Source, SourceKind, Unknown, Why

# All effects of one pass together. A write that takes longer is given up; it may have happened,
# which is why each can be repeated.
ACT_LIMIT = timedelta(seconds=5)


async def act(
    effects: Effects,
    policy: Policy,
    actions: tuple[Action, ...],
    entries: tuple[PauseStatus, ...],
) -> tuple[Result, ...]:
    """Do what the plan says. `entries` are the pauses as the stored intent has them. Faults are
    results, not exceptions."""
    late = Unknown(
        Why.TIMEOUT, "no answer in time; the write may have taken effect", effects.clock()
    )
    access = access_of(effects, policy, ACT_LIMIT, late)
    results: list[Result] = []
    for group in _at_once(actions):
        going = [action for action in group if _may_go_on(action, results)]
        got = await asyncio.gather(*(_isolated(effects, policy, a, entries, access) for a in going))
        results += [Result(action, what) for action, what in zip(going, got, strict=True)]
    return tuple(results)


def _at_once(actions: tuple[Action, ...]) -> list[tuple[Action, ...]]:
    """Neighbouring pauses together, everything else by itself."""
    groups: list[tuple[Action, ...]] = []
    for action in actions:
        if groups and isinstance(action, Pause) and isinstance(groups[-1][-1], Pause):
            groups[-1] += (action,)
        else:
            groups.append((action,))
    return groups


def _may_go_on(action: Action, done: list[Result]) -> bool:
    """Whether it may follow what was done before it in this pass."""
    failed = [result.action for result in done if not result.ok]
    match action:
        case Pause():
            return True
        case Resume():
            return all(isinstance(before, Resume) for before in failed)
        case ScaleTo(from_=from_, to=to) | SetMaximum(from_=from_, to=to) if to < from_:
            return True
        case _:
            return not failed


async def _isolated(
    effects: Effects,
    policy: Policy,
    action: Action,
    entries: tuple[PauseStatus, ...],
    access: PolicyAccess,
) -> Got:
    """A bug in one effect is a failure of that effect; it may have happened all the same."""
    work: Awaitable[Got]
    match action:
        case Pause(producer=name):
            what = Source(SourceKind.PAUSING, name)
            entry = next((e for e in entries if e.producer == name), None)
            work = pause(effects, policy, action, entry, access)
        case Resume(held=held):
            what = Source(SourceKind.RESUMING, held.producer)
            work = resume(effects, policy, held, access)
        case ScaleTo():
            what = Source(SourceKind.SCALING, policy.spec.target.name)
            work = scale(effects, policy, action, access)
        case SetMaximum(guard=guard):
            what = Source(SourceKind.BOUNDING, guard.name)
            work = set_maximum(effects, policy, action, access)
    return await effects.isolation.run(
        policy.key, what, work, lambda bug: Failed(bug.why, bug.message)
    )
