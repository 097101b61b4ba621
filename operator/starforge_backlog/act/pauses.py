"""Pausing and resuming producers, each at the place where it is."""

from __future__ import annotations

from dataclasses import replace

from starforge_backlog.act.effects import Effects
from starforge_backlog.api.policy import Producer
from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.api.status import PauseStatus
from starforge_backlog.cluster.annotations import RELEASE, RELEASE_ABANDON
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
from starforge_backlog.decide.plan import Pause
from starforge_backlog.decide.results import (
    Failed,
    NotDone,
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.observe import read_producer
from starforge_backlog.policy import Policy
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.producers.by_hand import by_hand
from starforge_backlog.producers.protocol import Holder, Pausable
from starforge_backlog.snapshot import FlagValue, Known, Unknown, Why

# A server that says so knows nothing of our pause.
_NOTHING_OF_OURS = frozenset(
    {
        ResumeOutcome.NOT_PAUSED,
        ResumeOutcome.ROW_MISSING,
        ResumeOutcome.NOT_OURS,
        ResumeOutcome.BAD_SHAPE,
    }
)


async def pause(
    effects: Effects,
    policy: Policy,
    action: Pause,
    entry: PauseStatus | None,
    access: PolicyAccess,
) -> Paused | Failed:
    """Under its token, and only at the server where an earlier try of it was made."""
    # Where the spec says: an entry that was refused may name the place that the spec corrects.
    producer = policy.spec.producer(action.producer)
    found = await _find(effects, policy, producer, action.producer, entry, access)
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
        at=effects.clock(),
        why=action.why,
        plan=action.plan,
    )
    got = await access.deadline.keep(pausing, access.late)
    if isinstance(got, Unknown):
        return Failed(got.why, got.message)
    if made is None and got.outcome in {PauseOutcome.PAUSED, PauseOutcome.ALREADY_OURS}:
        # It was not read before. Without a place it is released like one of an older version.
        here = await access.deadline.keep(found.where(), access.late)
        return replace(got, where=None if isinstance(here, Unknown) else here)
    return got


async def resume(
    effects: Effects, policy: Policy, held: PauseStatus, access: PolicyAccess
) -> Resumed | Failed:
    """Under its token, where it was made; with what a person can do where nothing leads there."""
    if not held.token:  # every adapter proves a pause of ours by it
        return await _unrecorded(effects, policy, held, access)
    got = await _resume_there(effects, policy, held, access)
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
    effects: Effects, policy: Policy, held: PauseStatus, access: PolicyAccess
) -> Resumed | Failed:
    """With what a person runs, as far as the producer itself shows it."""
    release = ""
    producer = policy.spec.producer(held.producer)
    if producer is not None:
        reading = await read_producer(effects.producers, policy, producer, (held,), access)
        if isinstance(reading, Known) and reading.value.value is FlagValue.RUNNING:
            return Resumed(ResumeOutcome.NOT_PAUSED)
        release = reading.value.release if isinstance(reading, Known) else ""
    return Failed(NotDone.UNRECORDED, no_record(release))


async def _resume_there(
    effects: Effects, policy: Policy, held: PauseStatus, access: PolicyAccess
) -> Resumed | Failed:
    found, here = await _reach(effects, policy, held, access)
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
    effects: Effects, policy: Policy, held: PauseStatus, access: PolicyAccess
) -> tuple[Pausable | Unknown, ServerPlace | Unknown | None]:
    """The pause where it is, and the server there; by the first way that leads to it."""
    found: Pausable | Unknown = access.late
    here: ServerPlace | Unknown | None = None
    for way in ways_to(policy.spec, held):
        led = access.at(way.database, way.tls)
        found = await _find(effects, policy, way.producer, held.producer, held, led)
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
    effects: Effects,
    policy: Policy,
    producer: Producer | None,
    name: str,
    entry: PauseStatus | None,
    access: PolicyAccess,
) -> Pausable | Unknown:
    if producer is None:
        message = f"neither the policy nor its status says where producer {name} is"
        return Unknown(Why.NOT_CONFIGURED, message, effects.clock())
    holder = Holder(policy.uid, name, entry)
    return await access.deadline.keep(effects.producers.find(producer, access, holder), access.late)
