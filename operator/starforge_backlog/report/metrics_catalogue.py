"""Every metric: its name, labels and meaning. `docs/reference/metrics.md` is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "starforge_backlog_"
POLICY = ("namespace", "policy")
QUEUE = (*POLICY, "queue")
TYPE = (*QUEUE, "type")


class Kind(StrEnum):
    """Prometheus' kinds."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `name` is without the prefix, a counter's without `_total`."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def full_name(self) -> str:
        """The name as it is scraped."""
        return f"{PREFIX}{self.name}{'_total' if self.kind is Kind.COUNTER else ''}"


def _gauge(name: str, labels: tuple[str, ...], text: str) -> Family:
    return Family(name, Kind.GAUGE, labels, text)


def _counter(name: str, labels: tuple[str, ...], text: str) -> Family:
    return Family(name, Kind.COUNTER, labels, text)


def _histogram(name: str, text: str) -> Family:
    return Family(name, Kind.HISTOGRAM, (), text)


# Queues
QUEUE_WAITING = _gauge(
    "queue_waiting_jobs", QUEUE, "Jobs that are due and wait; a lower bound where counting stops."
)
QUEUE_SCHEDULED = _gauge("queue_scheduled_jobs", QUEUE, "Jobs that are not due yet.")
QUEUE_IN_PROGRESS = _gauge("queue_in_progress_jobs", QUEUE, "Jobs that workers have claimed.")
QUEUE_FAILED = _gauge("queue_failed_jobs", QUEUE, "Jobs that failed and are still in the queue.")
QUEUE_OLDEST = _gauge("queue_oldest_due_age_seconds", QUEUE, "How long the oldest due job waits.")
QUEUE_ARRIVALS = _gauge("queue_arrivals_per_second", QUEUE, "Jobs that arrive, over the window.")
QUEUE_THROUGHPUT = _gauge("queue_throughput_per_second", QUEUE, "Jobs that end, over the window.")
QUEUE_FAILED_RATIO = _gauge(
    "queue_failed_ratio", QUEUE, "Failed of all jobs that ended in the window, 0 to 1."
)
QUEUE_FAILED_ATTEMPTS = _gauge(
    "queue_failed_attempts_per_second", QUEUE, "Attempts that fail, retried or not."
)
QUEUE_WORKERS = _gauge("queue_workers", QUEUE, "Workers that are connected to the queue.")
QUEUE_ORPHANED = _gauge(
    "queue_orphaned_jobs", QUEUE, "Jobs in progress whose worker has lost its lock on them."
)
QUEUE_STALLED = _gauge(
    "queue_stalled_jobs", QUEUE, "Jobs in progress that were given out again after a worker died."
)
# Types that the policy names, by its queues or by a breaker's scope: never all of a table.
TYPE_WAITING = _gauge("queue_type_waiting_jobs", TYPE, "Due jobs of one type that wait.")
TYPE_OLDEST = _gauge(
    "queue_type_oldest_due_age_seconds", TYPE, "How long the oldest due job of one type waits."
)
TYPE_FAILED_RATIO = _gauge(
    "queue_type_failed_ratio", TYPE, "Failed of the jobs of one type that ended, 0 to 1."
)

# Database and budget
DATABASE_CONNECTIONS = _gauge(
    "database_connections",
    POLICY,
    "Client connections of the server now, including the operator's.",
)
DATABASE_MAX_CONNECTIONS = _gauge("database_max_connections", POLICY, "The server's limit.")
DATABASE_LOCK_WAITERS = _gauge("database_lock_waiters", POLICY, "Sessions that wait for a lock.")
DATABASE_LONGEST_TRANSACTION = _gauge(
    "database_longest_transaction_seconds", POLICY, "Age of the oldest open transaction."
)
BUDGET_CONNECTIONS = _gauge(
    "budget_connections", (*POLICY, "term"), "Terms of the budget that count connections."
)
BUDGET_REPLICAS = _gauge(
    "budget_replicas", (*POLICY, "term"), "Terms of the budget that count replicas."
)

# Scaling
REPLICAS = _gauge("replicas", POLICY, "Replicas that the target asks for.")
REPLICAS_NEEDED = _gauge("replicas_needed", POLICY, "Replicas that the queues would need.")
REPLICAS_ALLOWED = _gauge("replicas_allowed", POLICY, "Replicas that the budget allows.")
PODS = _gauge(
    "pods",
    (*POLICY, "state"),
    "Pods of the target by state: ready, pending, crash_looping, oom_killed, terminating.",
)
POD_RESTARTS = _gauge("pod_restarts", POLICY, "Restarts of containers of the living pods.")

# Breakers and producers
BREAKER_STATE = _gauge(
    "breaker_state",
    (*POLICY, "breaker", "state"),
    "1 for the state that a breaker is in (Closed, Open, HalfOpen), 0 for the others.",
)
PRODUCER_PAUSED = _gauge(
    "producer_paused", (*POLICY, "producer"), "1 where a producer says it is paused, 0 if running."
)
PAUSE = _gauge(
    "pause", (*POLICY, "producer", "by", "state"), "1 for each pause, and whose it is: Us or Other."
)

# What the policy says of itself
CONDITION = _gauge(
    "condition",
    (*POLICY, "type", "status", "reason"),
    "1 for the status and reason that a condition has now.",
)
CAUSE = _gauge("cause", (*POLICY, "cause"), "1 for the leading cause of a backlog, if any.")
UNKNOWN_READINGS = _gauge(
    "unknown_readings",
    (*POLICY, "source", "reason"),
    "Readings that the last pass did not get, by source and reason.",
)
LAST_PASS = _gauge("last_pass_timestamp_seconds", POLICY, "When the last pass ended, in Unix time.")
STATUS_REFUSED = _gauge(
    "status_refused", POLICY, "1 while the API server refuses the policy's status, else 0."
)
STATUS_SHARED = _gauge(
    "other_operator_timestamp_seconds",
    POLICY,
    "Last pass of another operator on this policy that was noticed, in Unix time; 0 for none.",
)
ACTIONS = _counter(
    "actions", (*POLICY, "action", "result"), "What was done to replicas and producers."
)

# The operator itself
POLICIES = _gauge("policies", (), "Policies that this process runs.")
PASSES = _counter("passes", ("result",), "Passes that ended, by how.")
PASS_DURATION = _histogram("pass_duration_seconds", "How long a pass takes.")
PASS_LATENESS = _histogram("pass_lateness_seconds", "How much later than due a pass starts.")
ERRORS = _counter(
    "errors",
    ("source", "reason"),
    "Faults of external systems, by source; reason Bug: of the operator itself.",
)
STATUS_WRITES = _counter(
    "status_writes",
    ("outcome",),
    "Status writes. Unchanged: no request was sent. Refused: the API server did not take it.",
)
EVENTS = _counter("events", ("outcome",), "Events posted, failed, or dropped over the limit.")
REQUESTS = _counter(
    "kubernetes_requests",
    ("verb", "resource", "outcome"),
    "Requests to the API server, by HTTP status or kind of failure.",
)
BUILD_INFO = _gauge("build_info", ("version",), "1, with the version of the operator.")

CATALOGUE: tuple[Family, ...] = tuple(f for f in globals().values() if isinstance(f, Family))
"""All of the above, in their order."""
