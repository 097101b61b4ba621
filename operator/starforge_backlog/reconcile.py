"""One pass of the loop: observe → diagnose → decide → act → report.

This page is the product; everything else is a detail of one of its lines.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import structlog

from starforge_backlog.act import act
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.cluster.status import Edition, StatusWrite, WriteOutcome
from starforge_backlog.context import Services
from starforge_backlog.decide.budget.pool_resize import count_old_pool
from starforge_backlog.decide.decision import decide
from starforge_backlog.decide.pauses.outcome import locate
from starforge_backlog.decide.plan import Plan, ScaleTo
from starforge_backlog.decide.results import Result
from starforge_backlog.observe import observe
from starforge_backlog.policy import Policy
from starforge_backlog.report.announce import announce
from starforge_backlog.report.events import Regarding
from starforge_backlog.report.status import report

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass saw, decided, did and said."""

    plan: Plan
    results: tuple[Result, ...]
    before: QueueBacklogPolicyStatus
    status: QueueBacklogPolicyStatus
    written: StatusWrite


async def reconcile(services: Services, policy: Policy) -> Pass:
    """Carry the runbook out for one policy, once. Faults of the outside world are data."""
    before = services.statuses.current(policy.body)

    # Observe: every reading under one deadline; what the other policies hold on this database.
    began = services.slow_passes.now()
    seen = await observe(services, policy, before.paused)
    # Those that waited for a source that hangs come back together; others are not to wait for them.
    await services.slow_passes.wait_turn(began, policy.spec.interval)
    now = services.clock()
    # A pool that was made smaller is smaller only in pods that have started since.
    per_replica = policy.spec.target.connections_per_replica
    seen = count_old_pool(per_replica, before.scaling, seen, now)
    seen = services.ledger.count(policy.key, policy.spec, before, seen)

    # Diagnose and decide: pure, from the readings and the memory in status alone.
    plan = decide(
        policy.spec,
        before,
        seen,
        now,
        owner=policy.uid,
        hold=policy.hold,
        abandon=policy.abandon,
    )
    # Nothing awaits between the decision and this promise: no other policy can be promised the
    # same connections (P1).
    for action in plan.actions:
        if isinstance(action, ScaleTo):
            services.ledger.raise_to(policy.key, action.connections)

    services.ledger.raise_to(policy.key, plan.allowed)
    services.ledger.report(policy.key, plan.claim)

    # Act: what is intended is in status before it is done, so that a kill in between is noticed
    # by the next start (P6). Without that write nothing is done.
    results: tuple[Result, ...] = ()
    if plan.actions:
        intent = locate(plan.status, policy.spec, plan.actions)
        plan = plan.with_status(intent)
        written = await _write(services, policy, intent, only_for=policy.edition)
        if not written.stands:
            # A refusal is one line of the writer's, and not one with each pass.
            _log.log(
                logging.DEBUG if written.outcome is WriteOutcome.REFUSED else logging.WARNING,
                "nothing was done: what was intended could not be stored first",
                policy=policy.key,
                reason=written.message,
            )
            return Pass(plan, (), before, before, written)
        results = await act(services, policy, plan.actions, plan.status.paused)

    # Report: the words, and only what changed.
    status = report(policy.spec, before, plan, results, policy.generation, services.clock())
    written = await _write(services, policy, status)
    done = Pass(plan, results, before, status, written)
    # What was done is reported even where its status could not be stored (P8).
    known = status if written.stands else before
    regarding = Regarding(policy.namespace, policy.name, policy.uid)
    await announce(services.events, regarding, before, known, results, stored=written.stands)
    unchanged = written.outcome is WriteOutcome.UNCHANGED and not results
    level = logging.DEBUG if unchanged else logging.INFO
    _log.log(level, status.summary, policy=policy.key, cause=status.cause, status=written.outcome)
    return done


async def _write(
    services: Services,
    policy: Policy,
    status: QueueBacklogPolicyStatus,
    only_for: Edition | None = None,
) -> StatusWrite:
    written = await services.statuses.write(
        policy.namespace, policy.name, policy.uid, status, only_for=only_for
    )
    services.metrics.status_write(written.outcome)
    return written
