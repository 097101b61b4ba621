"""Carries a plan out, in order, and stops at the first failure.

Every effect is idempotent or conditional: a pause is a compare-and-set under a token that is in
status already, a scale names the version that it was decided from.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from starforge_backlog.api.status import PauseStatus
from starforge_backlog.cluster.scale import ScaleConflict, Scaled
from starforge_backlog.context import Rooms
from starforge_backlog.decide.plan import Action, Pause, Resume, ScaleTo
from starforge_backlog.observe import Deadline, open_database
from starforge_backlog.outcome import CONFLICT, Failed, Result, Written, located
from starforge_backlog.policy import Policy
from starforge_backlog.producers.protocol import Pausable, Paused, Resumed
from starforge_backlog.snapshot import Unknown, Why

# All effects of one pass together. A write that takes longer is given up; it may have happened,
# which is why each can be repeated.
ACT_LIMIT = timedelta(seconds=5)


async def act(rooms: Rooms, policy: Policy, actions: tuple[Action, ...]) -> tuple[Result, ...]:
    """Do what the plan says. Faults are results, not exceptions."""
    deadline = Deadline(asyncio.get_running_loop().time() + ACT_LIMIT.total_seconds())
    results: list[Result] = []
    for action in actions:
        result = Result(action, await _carry_out(rooms, policy, action, deadline))
        results.append(result)
        if not result.ok:
            break
    return tuple(results)


async def _carry_out(
    rooms: Rooms, policy: Policy, action: Action, deadline: Deadline
) -> Paused | Resumed | Written | Failed:
    match action:
        case ScaleTo():
            return await _scale(rooms, policy, action, deadline)
        case Pause():
            return await _pause(rooms, policy, action, deadline)
        case Resume():
            return await _resume(rooms, policy, action.held, deadline)


async def _scale(
    rooms: Rooms, policy: Policy, action: ScaleTo, deadline: Deadline
) -> Written | Failed:
    late = Unknown(Why.TIMEOUT, "the API server did not answer in time", rooms.clock())
    write = rooms.replicas.write(
        policy.namespace,
        policy.spec.target,
        replicas=action.to,
        version=action.version,
        generation=action.generation,
    )
    match await deadline.keep(write, late):
        case Scaled(replicas):
            return Written(replicas)
        case ScaleConflict(message):
            return Failed(CONFLICT, message)
        case Unknown() as unknown:
            return Failed(unknown.why, unknown.message)


async def _pause(
    rooms: Rooms, policy: Policy, action: Pause, deadline: Deadline
) -> Paused | Failed:
    found = await _find(rooms, policy, action.producer, None, deadline)
    if isinstance(found, Unknown):
        return Failed(found.why, found.message)
    pausing = found.pause(owner=policy.key, token=action.token, at=rooms.clock())
    got = await deadline.keep(pausing, _late(rooms))
    return Failed(got.why, got.message) if isinstance(got, Unknown) else got


async def _resume(
    rooms: Rooms, policy: Policy, held: PauseStatus, deadline: Deadline
) -> Resumed | Failed:
    found = await _find(rooms, policy, held.producer, held, deadline)
    if isinstance(found, Unknown):
        return Failed(found.why, found.message)
    # Without a version (killed between intent and result) the mark in the row proves the pause.
    resuming = found.resume(token=held.token, version=held.version, previous=held.previous)
    got = await deadline.keep(resuming, _late(rooms))
    return Failed(got.why, got.message) if isinstance(got, Unknown) else got


async def _find(
    rooms: Rooms, policy: Policy, name: str, held: PauseStatus | None, deadline: Deadline
) -> Pausable | Unknown:
    """The producer in the spec; or, when the spec forgot it, where the status says it is."""
    spec = policy.spec.database
    if spec is None:
        return Unknown(Why.NOT_CONFIGURED, "the policy names no database", rooms.clock())
    opened = await open_database(rooms, policy, spec, deadline, _late(rooms))
    if isinstance(opened, Unknown):
        return opened
    _, database = opened
    place = located(held) if held is not None else None
    if place is not None:
        return rooms.producers.flag(place, database)
    producer = policy.spec.producer(name)
    if producer is None:
        message = f"neither the policy nor its status says where producer {name} is"
        return Unknown(Why.NOT_CONFIGURED, message, rooms.clock())
    return rooms.producers.pausable(producer, database)


def _late(rooms: Rooms) -> Unknown:
    return Unknown(Why.TIMEOUT, "the database did not answer in time", rooms.clock())
