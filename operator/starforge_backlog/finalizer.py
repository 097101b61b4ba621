"""The end: a policy is deleted, or its operator is. What we paused is released, only that (P4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starforge_backlog.act import act
from starforge_backlog.api.status import (
    PauseProgress,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.cluster.annotations import RELEASE, RELEASE_ABANDON
from starforge_backlog.cluster.finalizer import remove_finalizer
from starforge_backlog.context import Services
from starforge_backlog.decide.guard.maximum import hand_back
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.pauses.moved import located
from starforge_backlog.decide.pauses.pausing import release_all
from starforge_backlog.decide.pauses.standing import OURS, with_unrecorded
from starforge_backlog.decide.plan import Action, Resume, SetMaximum
from starforge_backlog.decide.results import Failed, NotDone, Result, Resumed, ResumeOutcome
from starforge_backlog.policy import Policy
from starforge_backlog.producers.by_hand import by_hand
from starforge_backlog.report.announce import announce, count_actions
from starforge_backlog.report.events import Regarding
from starforge_backlog.report.faults import not_followed, waiting_for_release
from starforge_backlog.report.metrics import PolicyKey
from starforge_backlog.report.summary import done
from starforge_backlog.snapshot import Why

# Batches of one producer before the deletion lets go of its turn; it is tried again soon after.
# One batch is held jobs of 1.5 s, some 50,000.
ROUNDS = 10
# A deletion that waits for a database asks again this often.
RELEASE_RETRY_SECONDS = 15.0


class NotReleased(Exception):
    """Something of ours is still paused; the finalizer must wait. The text says what to do."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """What came of releasing everything that is ours."""

    before: QueueBacklogPolicyStatus
    status: QueueBacklogPolicyStatus
    results: tuple[Result, ...]

    @property
    def stuck(self) -> tuple[Result, ...]:
        """What could not be released."""
        return tuple(result for result in self.results if isinstance(result.got, Failed))

    @property
    def partly(self) -> tuple[Result, ...]:
        """What is released in batches, and not done yet."""
        return tuple(result for result in self.results if _partly(result))

    @property
    def words(self) -> tuple[str, ...]:
        """What was done, in sentences."""
        return tuple(done(result) for result in self.results)


async def finalize(services: Services, body: Mapping[str, Any]) -> tuple[str, ...]:
    """Release, and take our finalizer off: for a policy that the framework does not watch. Returns
    what was done, in sentences. Raises NotReleased and ClusterFault."""
    policy = Policy.for_release(body)
    words = await release(services, policy)
    await remove_finalizer(services.client, policy.namespace, policy.name, policy.uid)
    return words


async def release(services: Services, policy: Policy) -> tuple[str, ...]:
    """Resume every producer that we paused. Returns what was done, in sentences.

    Raises NotReleased while one cannot be resumed, unless a person abandons it by annotation;
    the reason is a condition, so that `kubectl describe` shows why the deletion waits.
    """
    tried = await _try(services, policy, "the policy is deleted")
    return await _end(services, policy, tried, "deletion")


async def finalize_for_uninstall(services: Services, policy: Policy) -> tuple[str, ...]:
    """The same for a policy that stays while its operator goes: its status then says that nobody
    follows it, and our finalizer goes, so that it can be deleted without an operator. The next
    operator begins with closed breakers."""
    tried = await _try(services, policy, "the operator is uninstalled")
    words = await _end(services, policy, tried, "the release")
    ours = [entry for entry in tried.status.paused if entry.state in OURS]
    words += tuple(f"left to do by hand: {_undo(policy, entry)}" for entry in ours)
    status = not_followed(tried.status, words, policy.generation, services.clock())
    written = await services.statuses.write(policy.namespace, policy.name, policy.uid, status)
    if not written.stands:
        raise NotReleased(f"released, but its status could not be written: {written.message}")
    await remove_finalizer(services.client, policy.namespace, policy.name, policy.uid)
    return words


async def _try(services: Services, policy: Policy, why: str) -> _Tried:
    before = services.statuses.current(policy.body)
    before = before.model_copy(update={"paused": with_unrecorded(before.paused)})
    services = replace(services, secrets=services.secrets.for_release())
    # Each on its own: one that is stuck must not keep the others paused.
    actions = held_by_us(before, why, policy.uid)
    results = tuple([await _resume(services, policy, a, before.paused) for a in actions])
    status = merge(before, results, services.clock())
    count_actions(services.metrics, PolicyKey(policy.namespace, policy.name), results)
    await announce(services.events, _regarding(policy), before, status, results)
    return _Tried(before, status, results)


async def _end(services: Services, policy: Policy, tried: _Tried, what: str) -> tuple[str, ...]:
    """What was done; raises NotReleased where that is not all, and nobody let it go."""
    if not (tried.stuck or tried.partly):
        return tried.words
    if policy.abandon:
        return (*tried.words, "abandoned by annotation")
    if tried.stuck:
        message = f"{what} waits, because {await _why(services, policy, tried.stuck)}"
    else:
        message = f"{what} waits until all of it is resumed: {done(tried.partly[0])}"
    status = waiting_for_release(tried.status, message, policy.generation, services.clock())
    await services.statuses.write(policy.namespace, policy.name, policy.uid, status)
    raise NotReleased(message)


async def _why(services: Services, policy: Policy, stuck: tuple[Result, ...]) -> str:
    """What is stuck, and what a person can do about it."""
    first = stuck[0]
    assert isinstance(first.got, Failed), "only what failed is stuck"
    namespace = policy.namespace
    command = f"kubectl annotate qbp/{policy.name} -n {namespace} {RELEASE}={RELEASE_ABANDON}"
    if first.got.reason is NotDone.UNRECORDED:
        return f"{_what(first)}. Once it is resumed by hand, run: {command}. {first.got.message}"
    undo = _undo_of(policy, first.action)
    if first.got.reason is Why.SECRET_NOT_FOUND and await _is_going(services, policy):
        return (
            f"{_what(first)}: namespace {namespace} is being deleted and its Secret was deleted,"
            f" which cannot be created there again. Do it by hand: {undo}. Then run: {command}"
        )
    return (
        f"{_what(first)}: {first.got.message}. Fix that, or do it by hand ({undo}) and run:"
        f" {command}"
    )


async def _is_going(services: Services, policy: Policy) -> bool:
    """Whether the policy's namespace is being deleted."""
    return await services.events.forbidden_by_deletion(_regarding(policy))


def _regarding(policy: Policy) -> Regarding:
    return Regarding(policy.namespace, policy.name, policy.uid)


def held_by_us(status: QueueBacklogPolicyStatus, why: str, owner: str) -> tuple[Action, ...]:
    """Pauses of ours, and an autoscaler's maximum that we lowered. One without a record is among
    them: it cannot be resumed, and must not be forgotten."""
    released = release_all(status.paused, why)
    lost = (e for e in released.entries if e.state is PauseState.UNRECORDED)
    back = hand_back(status.scaling.guard, None, owner, why)
    return (
        *released.actions,
        *(Resume(entry, why) for entry in lost),
        *((back,) if back is not None else ()),
    )


async def _resume(
    services: Services, policy: Policy, action: Action, entries: tuple[PauseStatus, ...]
) -> Result:
    """One producer, batch after batch; nobody else's window has to be waited for."""
    for _ in range(ROUNDS):
        (result,) = await act(services, policy, (action,), entries)
        if not _partly(result):
            break
        if isinstance(action, Resume):  # what is left is the rest of ours
            action = replace(
                action, held=action.held.model_copy(update={"progress": PauseProgress.RESUMING})
            )
    return result


def _what(stuck: Result) -> str:
    match stuck.action:
        case SetMaximum() as step:
            return f"the lowered maximum of {step.object} cannot be restored"
        case Resume(held=held):
            return f"paused producer {held.producer} cannot be resumed"
        case _:
            return "a change of the operator cannot be released"


def _undo_of(policy: Policy, action: Action) -> str:
    match action:
        case Resume(held=held):
            return _undo(policy, held)
        case SetMaximum() as step:
            return f"set the maximum of {step.object} to {step.to}"
        case _:
            return "release it in its own place"


def _undo(policy: Policy, held: PauseStatus) -> str:
    """How a person takes a pause back."""
    producer = located(held) or policy.spec.producer(held.producer)
    if producer is None:
        return f"resume {held.producer} in its own place"
    where = f" ({held.server})" if held.server else ""
    return f"{by_hand(policy.namespace, producer, held)}{where}"


def _partly(result: Result) -> bool:
    return isinstance(result.got, Resumed) and result.got.outcome is ResumeOutcome.PARTLY
