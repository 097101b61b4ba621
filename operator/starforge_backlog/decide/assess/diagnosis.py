"""Why is the queue backed up? (runbook, *Causes and targeted actions*)

Each cause is a rule over this pass' readings, with the numbers that show it. Several can hold;
the order is that of the actions they ask for: restart what is down, spare the database, raise what
the queue itself limits, pause the storm, stop the retries, and only then check for slow jobs.
`PoisonMessage` needs attempts per job, which come with dead letters.
"""

from __future__ import annotations

from datetime import timedelta

from starforge_backlog.api.status import ScalingStatus, StepFailure, StepVerdict
from starforge_backlog.decide.assess.need import TOLERANCE, Load
from starforge_backlog.decide.numbers import about
from starforge_backlog.decide.plan import Cause, Finding
from starforge_backlog.snapshot import Known, Reading, Workload

# BullMQ's lock of a job lasts so long by default: the jobs of a worker that hangs are free by then,
# and one that lives takes a job within milliseconds.
HUNG_AFTER = timedelta(seconds=30)


def diagnose(
    load: Load,
    workload: Reading[Workload],
    scaling: ScalingStatus,
    pressure: tuple[str, ...] | None,
    retries: Finding | None = None,
) -> tuple[Finding, ...]:
    """All causes that hold now, the leading one first. `retries` is what `retries.py` found."""
    found = (
        _consumer_outage(load, workload, scaling),
        _database_pressure(pressure),
        _queue_limit(load),
        _producer_storm(load, workload, scaling),
        retries,
        _slow_processing(load, scaling),
    )
    return tuple(finding for finding in found if finding is not None)


def _consumer_outage(
    load: Load, workload: Reading[Workload], scaling: ScalingStatus
) -> Finding | None:
    """Nothing is processed while work waits, and the pods say why. A target that sleeps, or that is
    just waking, is not down."""
    if not isinstance(workload, Known) or not load.waiting:
        return None
    pods = workload.value
    if _asleep_or_waking(pods, scaling):
        return None
    down = pods.ready == 0 or (load.throughput == 0 and bool(pods.crash_looping or pods.oom_killed))
    if not down:
        return _hung(load, pods)
    why = pods.not_ready_why or "no pod is Ready"
    return Finding(
        Cause.CONSUMER_OUTAGE,
        f"{pods.ready} of {pods.replicas} pods Ready while {load.waiting} jobs wait: {why}",
    )


def _hung(load: Load, pods: Workload) -> Finding | None:
    """Pods are Ready and nobody works: processes that hang, or that work on another queue."""
    waited = load.oldest is not None and load.oldest >= HUNG_AFTER
    if load.throughput != 0 or not load.idle or not waited:
        return None
    return Finding(
        Cause.CONSUMER_OUTAGE,
        f"no job ends while {load.waiting} jobs wait and {pods.ready} pods are Ready: {load.idle};"
        " check the workers' logs and restart them (kubectl rollout restart)",
    )


def _queue_limit(load: Load) -> Finding | None:
    """The queue hands out no more than another client allowed it to."""
    if not load.waiting or not load.limited:
        return None
    return Finding(
        Cause.QUEUE_LIMIT,
        f"{load.waiting} jobs wait, and {load.limited}; more workers do not help: raise the limit,"
        " or wait",
    )


def _asleep_or_waking(pods: Workload, scaling: ScalingStatus) -> bool:
    if pods.replicas == 0:
        return scaling.asleep_since is not None
    step = scaling.last_step
    starting = step is not None and step.from_ == 0 and step.ready_at is None
    observed = step is not None and step.verdict is StepVerdict.OBSERVING
    return starting and observed and not (pods.crash_looping or pods.oom_killed)


def _database_pressure(pressure: tuple[str, ...] | None) -> Finding | None:
    return Finding(Cause.DATABASE_PRESSURE, "; ".join(pressure)) if pressure else None


def _producer_storm(
    load: Load, workload: Reading[Workload], scaling: ScalingStatus
) -> Finding | None:
    """Arrivals above what the running replicas can finish, with all of them at work."""
    per_replica = scaling.throughput_per_replica
    if not isinstance(workload, Known) or load.arrivals is None or not per_replica:
        return None
    capacity = per_replica * workload.value.ready
    if not workload.value.ready or load.arrivals <= capacity * (1 + TOLERANCE):
        return None
    return Finding(
        Cause.PRODUCER_STORM,
        f"{about(load.arrivals)} jobs/s arrive, {workload.value.ready} replicas finish"
        f" {about(capacity)}",
    )


def _slow_processing(load: Load, scaling: ScalingStatus) -> Finding | None:
    """More replicas brought no more throughput: something else is the limit."""
    step = scaling.last_step
    if step is None or step.verdict is not StepVerdict.FAILED or step.to <= step.from_:
        return None
    if step.failed_by is not StepFailure.THROUGHPUT or not load.waiting:
        return None
    return Finding(Cause.SLOW_PROCESSING, step.verdict_message)
