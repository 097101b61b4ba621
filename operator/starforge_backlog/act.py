"""Carries a plan out, in order; after a failure only what makes things safer goes on.

Pauses begin in the order of mitigation and do not wait for each other: one that hangs or fails must
not keep the others waiting, whatever breaker they belong to. A release, or a step up, after a pause
that failed would rest on what is not so.

Every effect is idempotent or conditional: a pause is a compare-and-set under a token that is in
status already, a scale names the version that it was decided from.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from starforge_backlog.api.policy import Producer
from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.api.status import PauseStatus
from starforge_backlog.cluster.annotations import RELEASE, RELEASE_ABANDON
from starforge_backlog.cluster.scale import ScaleConflict, Scaled
from starforge_backlog.context import Services
from starforge_backlog.decide.pauses.moved import located, ways_to
from starforge_backlog.decide.pauses.outcome import ended
from starforge_backlog.decide.pauses.server_identity import (
    elsewhere,
    made_at,
    same_server,
    surely_same_server,
)
from starforge_backlog.decide.pauses.standing import OURS, no_record
from starforge_backlog.decide.pauses.ways import carries_token
from starforge_backlog.decide.plan import Action, Pause, Resume, ScaleTo, SetMaximum
from starforge_backlog.decide.results import (
    Failed,
    Got,
    MaximumOutcome,
    MaximumResult,
    NotDone,
    Paused,
    PauseOutcome,
    Result,
    Resumed,
    ResumeOutcome,
    Written,
)
from starforge_backlog.observe import access_of, read_producer
from starforge_backlog.policy import Policy
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.producers.by_hand import by_hand
from starforge_backlog.producers.holder import Holder
from starforge_backlog.producers.protocol import Pausable
from starforge_backlog.snapshot import Known, Source, SourceKind, Unknown, Why

# All effects of one pass together. A write that takes longer is given up; it may have happened,
# which is why each can be repeated.
ACT_LIMIT = timedelta(seconds=5)
# A server that says so knows nothing of our pause.
_NOTHING_OF_OURS = frozenset(
    {
        ResumeOutcome.NOT_PAUSED,
        ResumeOutcome.ROW_MISSING,
        ResumeOutcome.NOT_OURS,
        ResumeOutcome.BAD_SHAPE,
    }
)


async def act(
    services: Services,
    policy: Policy,
    actions: tuple[Action, ...],
    entries: tuple[PauseStatus, ...],
) -> tuple[Result, ...]:
    """Do what the plan says. `entries` are the pauses as the stored intent has them. Faults are
    results, not exceptions."""
    late = Unknown(
        Why.TIMEOUT, "no answer in time; the write may have taken effect", services.clock()
    )
    access = access_of(services, policy, ACT_LIMIT, late)
    results: list[Result] = []
    for group in _at_once(actions):
        going = [action for action in group if _may_go_on(action, results)]
        got = await asyncio.gather(
            *(_isolated(services, policy, a, entries, access) for a in going)
        )
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
    services: Services,
    policy: Policy,
    action: Action,
    entries: tuple[PauseStatus, ...],
    access: PolicyAccess,
) -> Got:
    """A bug in one effect is a failure of that effect; it may have happened all the same."""
    match action:
        case Pause(producer=name):
            what = Source(SourceKind.PAUSING, name)
        case Resume(held=held):
            what = Source(SourceKind.RESUMING, held.producer)
        case ScaleTo():
            what = Source(SourceKind.SCALING, policy.spec.target.name)
        case SetMaximum(guard=guard):
            what = Source(SourceKind.BOUNDING, guard.name)
    return await services.isolation.run(
        policy.key,
        what,
        _carry_out(services, policy, action, entries, access),
        lambda bug: Failed(bug.why, bug.message),
    )


async def _carry_out(
    services: Services,
    policy: Policy,
    action: Action,
    entries: tuple[PauseStatus, ...],
    access: PolicyAccess,
) -> Got:
    match action:
        case ScaleTo():
            return await _scale(services, policy, action, access)
        case SetMaximum():
            return await _set_maximum(services, policy, action, access)
        case Pause():
            entry = next((e for e in entries if e.producer == action.producer), None)
            return await _pause(services, policy, action, entry, access)
        case Resume():
            return await _resume(services, policy, action.held, access)


async def _scale(
    services: Services, policy: Policy, action: ScaleTo, access: PolicyAccess
) -> Written | Failed:
    late = replace(access.late, message="the API server did not answer in time")
    write = services.replicas.write(
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


async def _set_maximum(
    services: Services, policy: Policy, action: SetMaximum, access: PolicyAccess
) -> MaximumResult | Failed:
    """Restored by what the object itself says of us; otherwise written under the version that was
    decided from."""
    late = replace(access.late, message="the API server did not answer in time")
    guard = action.guard
    if action.follows:
        return _maximum_result(await access.deadline.keep(_follow(services, policy, action), late))
    if action.restore:
        write = services.maximums.restore(
            policy.namespace,
            guard.kind,
            guard.name,
            token=guard.token,
            uid=guard.uid,
            most=action.most,
        )
    else:
        write = services.maximums.write(
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
            await access.deadline.keep(_follow(services, policy, action), late)
        case _:
            pass
    return _maximum_result(done)


async def _follow(
    services: Services, policy: Policy, action: SetMaximum
) -> MaximumResult | Unknown:
    """KEDA's own autoscaler gets the number as well; only a lower one is urgent."""
    return await services.maximums.follow(
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


async def _pause(
    services: Services,
    policy: Policy,
    action: Pause,
    entry: PauseStatus | None,
    access: PolicyAccess,
) -> Paused | Failed:
    # Where the spec says: an entry that was refused may name the place that the spec corrects.
    producer = policy.spec.producer(action.producer)
    found = await _find(services, policy, producer, action.producer, entry, access)
    if isinstance(found, Unknown):
        return Failed(found.why, found.message)
    made = made_at(entry) if entry is not None and entry.state in OURS else None
    if made is not None:
        here = await access.deadline.keep(found.where(), access.late)
        if isinstance(here, Unknown):
            return Failed(here.why, here.message)
        if not same_server(made, here):
            return Failed(NotDone.ELSEWHERE, elsewhere(made, here))
    pausing = found.pause(
        owner=policy.key,
        token=action.token,
        at=services.clock(),
        why=action.why,
        plan=action.plan,
    )
    got = await access.deadline.keep(pausing, access.late)
    if isinstance(got, Unknown):
        return Failed(got.why, got.message)
    if made is None and got.outcome in {PauseOutcome.PAUSED, PauseOutcome.ALREADY_OURS}:
        # It was not read before. Untold it is released like one of an older version.
        here = await access.deadline.keep(found.where(), access.late)
        return replace(got, where=None if isinstance(here, Unknown) else here)
    return got


async def _resume(
    services: Services, policy: Policy, held: PauseStatus, access: PolicyAccess
) -> Resumed | Failed:
    if not held.token:  # every adapter proves a pause of ours by it
        return await _unrecorded(services, policy, held, access)
    got = await _resume_there(services, policy, held, access)
    in_spec = policy.spec.producer(held.producer) is not None
    if in_spec or not isinstance(got, Failed):
        return got
    # Its place may be gone for good, and the spec leads nobody there.
    if policy.abandon and held.failed:
        return Resumed(ResumeOutcome.NOT_PAUSED, f"abandoned by annotation; {got.message}")
    kept = located(held)
    if kept is None or "deletionTimestamp" in policy.body.get("metadata", {}):
        return got  # of a deletion `finalizer.py` says it
    at = f" at {held.server}" if held.server else ""
    fix = f"to do it by hand{at}, {by_hand(policy.namespace, kept, held)}"
    forget = f"; then annotate the policy with {RELEASE}={RELEASE_ABANDON}"
    return Failed(got.reason, f"{got.message.rstrip('.')}; {fix}{forget}")


async def _unrecorded(
    services: Services, policy: Policy, held: PauseStatus, access: PolicyAccess
) -> Failed:
    """With what a person runs, as far as the producer itself shows it."""
    release = ""
    producer = policy.spec.producer(held.producer)
    if producer is not None:
        reading = await read_producer(services, policy, producer, (held,), access)
        release = reading.value.release if isinstance(reading, Known) else ""
    return Failed(NotDone.UNRECORDED, no_record(release))


async def _resume_there(
    services: Services, policy: Policy, held: PauseStatus, access: PolicyAccess
) -> Resumed | Failed:
    found, here = await _reach(services, policy, held, access)
    if isinstance(found, Unknown):
        return Failed(found.why, found.message)
    if isinstance(here, Unknown):
        return Failed(here.why, here.message)
    producer = located(held) or policy.spec.producer(held.producer)
    away = not same_server(made_at(held), here)
    if away and producer is not None and not carries_token(producer):
        return _away(policy, held, here)  # what is like ours there need not be ours
    # Without a version (killed between intent and result) the mark at its place proves the pause.
    resuming = found.resume(token=held.token, version=held.version, previous=held.previous)
    got = await access.deadline.keep(resuming, access.late)
    if isinstance(got, Unknown):
        return Failed(got.why, got.message)
    if away and got.outcome in _NOTHING_OF_OURS:
        return _away(policy, held, here)
    return ended(held, got)


async def _reach(
    services: Services, policy: Policy, held: PauseStatus, access: PolicyAccess
) -> tuple[Pausable | Unknown, ServerPlace | Unknown | None]:
    """The pause where it is, and the server there; by the first way that leads to it."""
    found: Pausable | Unknown = access.late
    here: ServerPlace | Unknown | None = None
    for way in ways_to(policy.spec, held):
        led = access.at(way.database, way.tls)
        found = await _find(services, policy, way.producer, held.producer, held, led)
        here = None
        if held.server and not isinstance(found, Unknown):
            here = await access.deadline.keep(found.where(), access.late)
        there = None if isinstance(found, Unknown) or isinstance(here, Unknown) else here
        if not way.only_if_same or surely_same_server(made_at(held), there):
            break
    return found, here


def _away(policy: Policy, held: PauseStatus, here: ServerPlace | None) -> Resumed | Failed:
    """The Secret leads to another server than the one where our pause still is (P4)."""
    message = elsewhere(made_at(held), here)
    if policy.abandon:
        return Resumed(ResumeOutcome.NOT_PAUSED, f"abandoned by annotation; {message}")
    return Failed(NotDone.ELSEWHERE, message)


async def _find(
    services: Services,
    policy: Policy,
    producer: Producer | None,
    name: str,
    entry: PauseStatus | None,
    access: PolicyAccess,
) -> Pausable | Unknown:
    if producer is None:
        message = f"neither the policy nor its status says where producer {name} is"
        return Unknown(Why.NOT_CONFIGURED, message, services.clock())
    holder = Holder(policy.uid, name, entry)
    return await access.deadline.keep(
        services.producers.find(producer, access, holder), access.late
    )
