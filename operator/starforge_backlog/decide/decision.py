"""One decision: spec, memory and readings in, a plan out.

The order is the runbook's *Immediate mitigations (ordered, safe)*:
1. pause producers  2. pause background queues  (3. dead letters come with later versions)
4. step down under database pressure  5. step up within the budget.
Recovery runs backwards, one thing per observation window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from starforge_backlog.api.policy import Breaker, Mode, QueueBacklogPolicySpec
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    BudgetStatus,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    ScalingStatus,
    StepVerdict,
)
from starforge_backlog.decide.assess.clocks import not_from_the_future
from starforge_backlog.decide.assess.diagnosis import diagnose
from starforge_backlog.decide.assess.freshness import judged
from starforge_backlog.decide.assess.retries import retry_storm
from starforge_backlog.decide.breakers import breaker as breakers
from starforge_backlog.decide.breakers.unreadable import decisive, explain_unreadable
from starforge_backlog.decide.budget.pool_resize import remember_pool
from starforge_backlog.decide.claims import reported_claim
from starforge_backlog.decide.facts import Facts, free_steps, gather, measured, shared
from starforge_backlog.decide.guard.maximum import guard, hand_back, is_another
from starforge_backlog.decide.order import in_order, one_release_per_window
from starforge_backlog.decide.pauses.memory import storable
from starforge_backlog.decide.pauses.moved import follow_places, is_stuck
from starforge_backlog.decide.pauses.pausing import Pausing, decide_producers, release_all
from starforge_backlog.decide.pauses.standing import OURS, stopped
from starforge_backlog.decide.plan import (
    Action,
    Assessment,
    Plan,
    Resume,
    SetMaximum,
    taken,
    words,
)
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.decide.situation import Outcome, Situation
from starforge_backlog.decide.steps.scaling import scale
from starforge_backlog.decide.steps.sleep import due, quiet
from starforge_backlog.decide.steps.step_observation import last_write, longest_hold_down
from starforge_backlog.decide.steps.verdict import baseline
from starforge_backlog.snapshot import Claim, Known, Rival, Snapshot, Unknown, Why


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one decision is made from."""

    spec: QueueBacklogPolicySpec
    before: QueueBacklogPolicyStatus
    seen: Snapshot
    facts: Facts
    now: datetime
    owner: str  # the policy's uid


def decide(
    spec: QueueBacklogPolicySpec,
    before: QueueBacklogPolicyStatus,
    seen: Snapshot,
    now: datetime,
    *,
    owner: str,
    hold: str | None = None,
    abandon: bool = False,
) -> Plan:
    """Decide one pass.

    `seen` has what each replica may open, as `count_old_pool` and the ledger counted it. `owner`
    is the policy's uid, the first part of every ownership token. `hold` is the text of
    the hold annotation: like `suspend` it stops every action, releases included. `abandon`: by
    annotation a person gives up pauses that cannot be released.
    """
    before = before.model_copy(update={"scaling": remember_pool(before.scaling, seen.per_replica)})
    before = not_from_the_future(
        before,
        now,
        longest_window=spec.scaling.observe_for,
        longest_hold_down=longest_hold_down(spec.scaling.observe_for),
    )
    seen = judged(spec, seen, now)
    entries, readings = follow_places(spec, before.paused, seen.producers, now)
    before = before.model_copy(update={"paused": entries})
    seen = replace(seen, producers=readings)
    facts = gather(spec, before, seen)
    stop = _stopped(spec, seen.rival, hold)
    observing = spec.mode is Mode.OBSERVE
    scaling = measured(spec, before.scaling, seen, facts, now)
    moves = stop is None and not observing and seen.rival is None
    facts = shared(facts, spec, before, scaling, seen, moves=moves)
    this = _Pass(spec, before, seen, facts, now, owner)
    status = before.model_copy(
        update={
            "scaling": scaling,
            # The last known terms stay: they hold the peak of other clients over a restart (P6).
            "budget": facts.budget if isinstance(facts.budget, BudgetStatus) else before.budget,
        }
    )
    if stop is not None:
        said = _assess(this, status, *stop)
        status = _not_observed(status, spec.interval, now)
        return Plan((), (), status, seen, said, _claim(seen, facts, stop[0]))
    if seen.rival is not None:
        said = _assess(this, status, ScalingReason.TARGET_TAKEN, taken(seen.rival))
        return _let_go(this, status, said)

    states = _breakers(this)
    pauses = decide_producers(
        spec,
        states,
        before.paused,
        seen.producers,
        Pausing(owner, facts.load.arrivals, before.released_at, now, abandon),
        unreadable=_unreadable(facts),
    )
    pauses = one_release_per_window(pauses, before, spec.scaling.observe_for, now)
    pauses = storable(spec, pauses, before.paused)
    # One at a former place that fails with every pass would keep the window shut for ever.
    releasing = any(
        isinstance(action, Resume) and not is_stuck(action.held) for action in pauses.actions
    )
    released_at = now if releasing else before.released_at
    watched = _watched_only(status.scaling, seen, now + spec.scaling.observe_for)
    # A policy that asks for nothing has no share to say what it would do within.
    scaled = replace(this, facts=replace(facts, share=None)) if observing else this
    outcome = _scale(
        scaled,
        watched if observing else status.scaling,
        _pausing(states, pauses.entries),
        released_at + spec.scaling.observe_for if released_at is not None else None,
    )
    actions = in_order(pauses, outcome.step)
    status = status.model_copy(
        update={"breakers": states, "paused": pauses.entries, "scaling": outcome.status}
    )
    said = _assess(this, status, outcome.reason, outcome.message)
    if observing:
        plan = _observe_only(this, actions, status, watched, said)
        return replace(plan, claim=_claim(seen, facts, outcome.reason))
    claim = _claim(seen, facts, outcome.reason)
    return Plan(actions, (), status, seen, said, claim, outcome.allowed)


def _claim(seen: Snapshot, facts: Facts, reason: ScalingReason) -> Claim | None:
    """What is reported to the other policies on the server."""
    workload = seen.workload.value if isinstance(seen.workload, Known) else None
    return reported_claim(seen.claim, facts.budget, facts.wants, workload, reason)


def _assess(
    this: _Pass, status: QueueBacklogPolicyStatus, reason: ScalingReason, message: str
) -> Assessment:
    """What the report quotes."""
    facts = this.facts
    states = {breaker.name: breaker.state for breaker in status.breakers}
    unreadable = {
        name: explain_unreadable(name, states.get(name, BreakerState.CLOSED), rules)
        for name, rules in facts.rules.items()
    }
    return Assessment(
        findings=diagnose(
            facts.load,
            this.seen.workload,
            status.scaling,
            facts.pressure,
            retry_storm(this.seen.queues, facts.missed, this.spec.scaling.observe_for),
        ),
        missed=facts.missed,
        pressure=facts.pressure,
        utilization=facts.utilization,
        budget=facts.budget,
        unreadable={breaker: why for breaker, why in unreadable.items() if why},
        scaling_reason=reason,
        scaling_message=message,
        sample_is_old=_sample_is_old(this.spec, this.before.scaling, facts),
    )


def _sample_is_old(spec: QueueBacklogPolicySpec, before: ScalingStatus, facts: Facts) -> bool:
    wrote_at = last_write(before, spec.scaling.observe_for)
    return wrote_at is not None and facts.sampled_at is not None and facts.sampled_at <= wrote_at


def _let_go(this: _Pass, status: QueueBacklogPolicyStatus, said: Assessment) -> Plan:
    """An older policy acts: what is ours is released (P4), and nothing is remembered of what was
    going on. Taking over, this one begins as if it had just been made."""
    why = "an older policy owns the target"
    scaling = status.scaling
    back = hand_back(scaling.guard, this.seen.autoscaler, this.owner, why)
    fresh = ScalingStatus(replicas=scaling.replicas, guard=back.guard if back else None)
    released = release_all(status.paused, why)
    status = status.model_copy(
        update={"breakers": (), "scaling": fresh, "paused": released.entries}
    )
    return Plan((*released.actions, *((back,) if back else ())), (), status, this.seen, said)


def _stopped(
    spec: QueueBacklogPolicySpec, rival: Rival | None, hold: str | None
) -> tuple[ScalingReason, str] | None:
    if hold is not None:
        return (
            ScalingReason.HELD,
            f"held by annotation: {hold or 'no reason given'}; remove the annotation to continue",
        )
    if spec.suspend:
        message = (
            "spec.suspend is true; producers paused by the operator stay paused until it is false"
        )
        return ScalingReason.SUSPENDED, message
    if rival is not None and rival.leaving:
        return ScalingReason.TARGET_TAKEN, taken(rival)
    return None


def _not_observed(
    status: QueueBacklogPolicyStatus, interval: timedelta, now: datetime
) -> QueueBacklogPolicyStatus:
    """While nothing is decided nothing is sustained: the clocks of rules and of idling stop."""
    return status.model_copy(
        update={
            "breakers": tuple(
                breakers.stop_clocks(state, interval, now) for state in status.breakers
            ),
            "scaling": status.scaling.model_copy(update={"idle_since": None, "quiet_since": None}),
        }
    )


def _breakers(this: _Pass) -> tuple[BreakerStatus, ...]:
    """Each breaker's next state."""
    spec, before = this.spec, this.before
    remembered = {state.name: state for state in before.breakers}
    standing = stopped(before.paused, this.seen.producers, before.released_at)
    limits = breakers.Limits(
        spec.interval,
        spec.database.pressure.utilization_percent if spec.database else 0,
    )

    def next_state(rule: Breaker) -> BreakerStatus:
        producing = breakers.Producing(
            held=not standing.paused.isdisjoint(rule.pause),
            freed=not standing.freed.isdisjoint(rule.pause),
            released_at=before.released_at,
        )
        found = this.facts.rules[rule.name]
        return breakers.step(rule, remembered.get(rule.name), found, producing, limits, this.now)

    return tuple(
        breakers.with_owners(next_state(rule), spec.owners_of(rule)) for rule in spec.breakers
    )


def _unreadable(facts: Facts) -> frozenset[str]:
    """Breakers of which too little is known now to resume anything."""
    return frozenset(name for name, rules in facts.rules.items() if not decisive(rules))


def _pausing(states: tuple[BreakerStatus, ...], entries: tuple[PauseStatus, ...]) -> bool:
    return any(state.state is not BreakerState.CLOSED for state in states) or any(
        entry.state in OURS for entry in entries
    )


def _watched_only(before: ScalingStatus, seen: Snapshot, window_ends: datetime) -> ScalingStatus:
    """`Observe`: replicas are nobody's business of ours, and no step of ours is pending.

    The lessons of steps that failed stay, and whatever was not yet understood at the switch gets a
    window: a switch to `Observe` and back is no way around P3.
    """
    replicas = seen.workload.value.replicas if isinstance(seen.workload, Known) else None
    step, opens = before.last_step, before.next_step_not_before
    judged = step is None or step.reverted or step.verdict is StepVerdict.PASSED
    return before.model_copy(
        update={
            "applied_replicas": replicas,
            "external": None,
            "last_step": None,
            "next_step_not_before": (opens if judged and before.external is None else window_ends),
        }
    )


def _scale(
    this: _Pass, before: ScalingStatus, pausing: bool, window_opens: datetime | None
) -> Outcome:
    """Gather what a step depends on; without a workload there is none."""
    spec, seen, facts, now, owner = this.spec, this.seen, this.facts, this.now, this.owner
    back = _former_guard(spec, before, seen, owner)
    if back is not None:
        message = f"{back.object} is no longer spec.target.guard: its maximum is restored first"
        return Outcome(back, before, ScalingReason.STEPPING, message)
    match seen.workload:
        case Unknown() as unknown:
            return Outcome(None, before, ScalingReason.of(unknown.why), unknown.message)
        case Known(workload):
            pass
    if isinstance(seen.per_replica, Unknown) and spec.database is not None:
        unread = seen.per_replica
        return Outcome(None, before, ScalingReason.of(unread.why), unread.message)
    used = facts.utilization.value if isinstance(facts.utilization, Known) else None
    old = _sample_is_old(spec, before, facts)
    steps = guard if spec.target.guard is not None else scale
    queues = seen.queues.values()
    return steps(
        Situation(
            spec=spec,
            workload=workload,
            before=before,
            load=facts.load,
            # A sample of before our write, held against the pods of after it, would count
            # their connections as other clients' and cut a second time.
            budget=Unknown(Why.STALE, "sampled before the last step", now) if old else facts.budget,
            free_steps=None if old else free_steps(spec, seen),
            pressure=None if old else facts.pressure,
            missed=any(facts.missed.values()),
            pausing=pausing,
            now_reading=baseline(facts.load, workload, used),
            read_at=facts.read_at(now),
            sample_is_old=old,
            window_opens=window_opens,
            now=now,
            share=None if old else facts.share,
            owner=owner,
            autoscaler=seen.autoscaler,
            due=due(queues),
            quiet=quiet(queues),
        )
    )


def _former_guard(
    spec: QueueBacklogPolicySpec, before: ScalingStatus, seen: Snapshot, owner: str
) -> SetMaximum | None:
    """What we lowered and must restore, because the spec names no guard or another one now."""
    why = "it is no longer guarded"
    named = spec.target.guard
    if named is None:
        return hand_back(before.guard, seen.autoscaler, owner, why)
    if is_another(before.guard, *named.object):
        return hand_back(before.guard, None, owner, why)
    return None


def _observe_only(
    this: _Pass,
    actions: tuple[Action, ...],
    status: QueueBacklogPolicyStatus,
    watched: ScalingStatus,
    said: Assessment,
) -> Plan:
    """`Observe`: release what is ours, say the rest (P4)."""
    before, seen = this.before, this.seen
    why = "the policy was switched to Observe"
    release = release_all(before.paused, why)
    back = hand_back(before.scaling.guard, seen.autoscaler, this.owner, why)
    would = tuple(
        words(action)
        for action in actions
        if not isinstance(action, Resume) and not (back and isinstance(action, SetMaximum))
    )
    kept = tuple(
        entry
        for entry in status.paused
        if entry.state is not PauseState.INTENDED
        or any(e.producer == entry.producer for e in before.paused)
    )
    # A step that would have been taken is none to observe.
    scaling = status.scaling.model_copy(
        update={
            "last_step": None,
            "next_step_not_before": watched.next_step_not_before,
            "guard": back.guard if back is not None else None,
        }
    )
    status = status.model_copy(update={"paused": kept, "scaling": scaling})
    actions = (*release.actions, *((back,) if back is not None else ()))
    return Plan(actions, would, status, seen, said)
