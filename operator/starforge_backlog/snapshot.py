"""What one pass saw: frozen readings, each a value with its time or a reason why there is none.

P2, *unknown is not zero*: a missing reading is an `Unknown`, never a 0, so the type checker
makes every rule in `decide/` say what it does without the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, TypeVar

from starforge_backlog.api.server_place import ServerPlace

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Known(Generic[T_co]):
    """A value and the moment it was read (UTC)."""

    value: T_co
    at: datetime
    # How old it may become where that is more than `decide/assess/` allows for: whoever reads
    # samples of others (Prometheus) has held them against the policy's own limit.
    lasts: timedelta = timedelta(0)


class Why(StrEnum):
    """Reasons why a reading is missing: CamelCase, because they become condition reasons."""

    NOT_YET = "NotYetObserved"  # the first sample of a rate, or the first pass
    STALE = "Stale"
    TIMEOUT = "Timeout"
    UNREACHABLE = "Unreachable"
    DATABASE_FULL = "DatabaseFull"
    # Of the role that we log in as: the server may have room, so it says nothing of the workers.
    ROLE_LIMIT = "RoleConnectionLimit"
    HOST_UNKNOWN = "HostUnknown"
    TLS_FAILED = "TLSFailed"
    DATABASE_NOT_FOUND = "DatabaseNotFound"
    WRONG_PASSWORD = "WrongPassword"  # noqa: S105 - a reason, not a password
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a password
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105 - a reason, not a password
    SECRET_MALFORMED = "SecretMalformed"  # noqa: S105 - a reason, not a password
    NO_PERMISSION = "NoPermission"
    PERMISSION_LOST = "PermissionLost"  # refused for the moment: what was readable may be so again
    ADMISSION_REFUSED = "AdmissionRefused"  # an admission webhook refuses what we write
    MISSING_ROLE = "MissingRole"
    TABLE_NOT_FOUND = "TableNotFound"
    COLUMN_NOT_FOUND = "ColumnNotFound"
    STATUS_NOT_MAPPED = "StatusNotMapped"
    NOT_IN_TABLE = "NotInTable"  # the schema cannot tell it
    READ_ONLY = "ReadOnly"
    LOCK_BUSY = "LockBusy"  # another client holds the lock that we do not wait for
    NO_INDEX = "NoIndex"
    NO_SAMPLES = "NoSamples"  # nothing finished in the window, so no ratio exists
    CAPPED = "Capped"  # counting stopped below the number that it is held against
    COUNTER_RESET = "CounterReset"
    NOT_CONFIGURED = "NotConfigured"
    TARGET_NOT_FOUND = "TargetNotFound"
    TARGET_NOT_SCALABLE = "TargetNotScalable"  # a kind without replicas that could be changed
    ENV_NOT_FOUND = "EnvNotFound"
    ENV_NOT_A_NUMBER = "EnvNotANumber"
    ROW_MISSING = "RowMissing"
    BAD_SHAPE = "BadShape"
    QUEUE_NOT_FOUND = "QueueNotFound"  # no such BullMQ queue: not the same as an empty one
    NOT_BULLMQ = "NotBullMQ"  # a Bull 3 queue, or keys of other types than BullMQ's
    HASH_TAG_MISSING = "HashTagMissing"  # a Redis Cluster needs one in prefix or name
    KEYS_EVICTED = "KeysEvicted"  # Redis made room by dropping keys that may be the queue's
    OUT_OF_MEMORY = "OutOfMemory"  # Redis refuses writes at maxmemory
    QUERY_ERROR = "QueryError"  # Prometheus refuses the expression
    EMPTY_RESULT = "EmptyResult"
    SEVERAL_SERIES = "SeveralSeries"
    NOT_A_NUMBER = "NotANumber"
    PARTIAL = "Partial"  # a part of what stands behind the answer is missing
    NOT_TOLD = "NotTold"  # the policy names nothing that tells it, and never will by waiting
    NOT_PROMETHEUS = "NotPrometheus"  # something else answers at that address
    BAD_ANSWER = "BadAnswer"  # not of the shape that was agreed: of a webhook, of Prometheus
    AUTOSCALER_NOT_FOUND = "AutoscalerNotFound"
    GUARD_MISMATCH = "GuardMismatch"  # the guarded autoscaler does not scale the target
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why there is no value. `message` is a sentence that says how to fix it; it never holds a
    secret.
    """

    why: Why
    message: str
    at: datetime
    # Whether the message names the Secret that the fault lies in. One who finds a fault in a value
    # may not know where the value came from.
    names_secret: bool = False


Reading = Known[T] | Unknown


class SourceKind(StrEnum):
    """What is read or done: the words stand in sentences, and in the label of a metric."""

    TARGET = "target"
    AUTOSCALER = "autoscaler"
    DATABASE = "database"
    PGBOUNCER = "pgbouncer"
    QUEUE = "queue"
    PRODUCER = "producer"
    PASS = "pass"  # noqa: S105 - of a policy, not a password
    PAUSING = "pausing"
    RESUMING = "resuming"
    SCALING = "scaling"
    BOUNDING = "bounding"


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that is read or done, e.g. "queue jobs"."""

    kind: SourceKind
    name: str = ""  # empty: a policy has but one

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else str(self.kind)


class Confidence(StrEnum):
    """How a number was obtained."""

    EXACT = "Exact"
    AT_LEAST = "AtLeast"  # counting stopped at a cap
    ESTIMATED = "Estimated"  # a sample of blocks, or a derived rate
    AT_MOST = "AtMost"  # a sample showed none, which leaves room for so many


@dataclass(frozen=True, slots=True)
class Count:
    """A number of jobs."""

    value: int
    confidence: Confidence = Confidence.EXACT

    def __str__(self) -> str:
        signs = {"AtLeast": "≥", "Estimated": "~", "AtMost": "≤"}
        return signs.get(self.confidence, "") + f"{self.value}"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Jobs that ended in a window, for the failure ratio."""

    finished: int
    failed: int
    window: timedelta

    @property
    def samples(self) -> int:
        """All jobs that ended, well or badly."""
        return self.finished + self.failed

    @property
    def failed_percent(self) -> float:
        """Failed of all that ended, in percent; 0 for none, so read `samples` first."""
        return 100 * self.failed / self.samples if self.samples else 0.0


@dataclass(frozen=True, slots=True)
class TypeReading:
    """One job type of a queue, for breakers whose scope is a type."""

    waiting: Reading[Count]
    oldest_due_age: Reading[timedelta]
    outcomes: Reading[Outcomes]


@dataclass(frozen=True, slots=True)
class Consumers:
    """What a queue itself tells of those who work on it."""

    live: int | None  # workers with a connection; None: the server does not let us ask
    orphaned: int = 0  # jobs in progress whose worker's lock is gone
    stalled: int = 0  # jobs that lost their worker at least once and were given out again
    paused_by: str = ""  # "a person" or a policy's token: the queue hands no jobs out
    held: int = 0  # jobs in progress that a worker holds the lock of
    # A limit of the queue itself that binds now ("its rate limit of 2 jobs per 1 s"); empty: none.
    limited_by: str = ""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Jobs that a pause of this operator holds back (`producers[].jobTypes`). No worker can take
    them, so they are not in `waiting`; and they are not done, so they are not healthy either."""

    count: Count
    oldest: timedelta | None  # by the due time it had before; None: not known


@dataclass(frozen=True, slots=True)
class QueueReading:
    """One queue. Rates are jobs per second, averaged over the window the policy asked for
    (`scaling.observeFor`), so that a verdict compares whole windows."""

    waiting: Reading[Count]
    scheduled: Reading[Count]
    in_progress: Reading[Count]
    failed: Reading[Count]
    oldest_due_age: Reading[timedelta]
    arrivals_per_second: Reading[float]
    throughput_per_second: Reading[float]
    outcomes: Reading[Outcomes]
    types: Mapping[str, Count] = field(default_factory=dict)
    how: str = ""  # which tier of the observer answered, e.g. "index: queue_jobs_claim"
    # Below: None or empty where this kind of queue does not tell.
    by_type: Mapping[str, TypeReading] = field(default_factory=dict)
    # Attempts that failed, retried or not; `outcomes` counts jobs.
    failed_attempts_per_second: Reading[float] | None = None
    consumers: Reading[Consumers] | None = None
    notes: tuple[str, ...] = ()  # sentences for status: what a person should know of this queue
    held: HeldBack | None = None  # None: none, or not seen


def unread(why: Unknown) -> QueueReading:
    """A queue of which nothing is known, for one reason."""
    return QueueReading(
        waiting=why,
        scheduled=why,
        in_progress=why,
        failed=why,
        oldest_due_age=why,
        arrivals_per_second=why,
        throughput_per_second=why,
        outcomes=why,
    )


@dataclass(frozen=True, slots=True)
class Connections:
    """Connection slots of one database server, as `pg_stat_activity` and the settings tell."""

    # Identity of the server, the same however a URL is spelt. Not of the database: the limit is
    # the server's, and so is the ledger's sum (P1).
    server: str
    max_connections: int
    superuser_reserved: int
    reserved: int  # PostgreSQL 16+: reserved_connections
    provider_reserved: int  # e.g. RDS
    database_limit: int | None  # CONNECTION LIMIT of the database; None: none
    role_limits: Mapping[str, int]  # CONNECTION LIMIT of roles that have one
    clients: int  # client backends now, all databases of the server, ours included
    by_role: Mapping[str, int]  # the same, per role
    peak_by_role: Mapping[str, int]  # per role, most of the last `window`
    window: timedelta  # how long the peaks cover: 15 min, less after a start
    own: int  # our own sessions among them
    own_role: str  # the role they belong to
    read_only: bool = False  # a standby: headroom must come from the primary
    peak_until: Mapping[str, datetime] = field(default_factory=dict)  # when each stops to count
    roles: frozenset[str] | None = None  # that can log in; None: not known
    # The name that a policy gave the server, where it is not the server's own: a policy that has
    # both tells that they are one (P1).
    alias: str = ""

    @property
    def reserved_total(self) -> int:
        """Slots that no ordinary client gets."""
        return self.superuser_reserved + self.reserved + self.provider_reserved

    def limit(self, lower: int | None) -> int:
        """The server's limit of connections, or the policy's where that is lower."""
        return min(self.max_connections, lower or self.max_connections)


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """Signs that the database itself is the problem."""

    lock_waiters: int | None  # None: nobody watches them (Prometheus, without an expression)
    longest_transaction: timedelta
    # What the longest transaction is, where it is no session's: nobody ends it by itself.
    longest_is: str = ""
    blocker: str = ""  # "pid 42 (app, idle in transaction for 4m); to end it: …", without its query


@dataclass(frozen=True, slots=True)
class Pooler:
    """The workers' pools of a PgBouncer in front of the database, as its console tells."""

    # An entry leads the workers to their database; without one these are the defaults, as of `*`.
    known: bool
    # The most server connections of these pools: with the reserve, within max_db_connections and
    # max_user_connections, of all PgBouncers behind the URL.
    capacity: int
    full: bool  # a pool has all its connections in use, the reserve aside
    clients_waiting: int
    longest_wait: timedelta
    waited_before: bool  # clients waited in the sample before this one as well
    max_client_connections: int
    other_clients: int  # client connections that are not the workers'


@dataclass(frozen=True, slots=True)
class DatabaseReading:
    """The policy's database."""

    connections: Reading[Connections]
    health: Reading[DatabaseHealth]
    pooler: Reading[Pooler] | None = None  # None: the policy names none


@dataclass(frozen=True, slots=True)
class ScaleWriter:
    """Who wrote `spec.replicas` last, from `managedFields`."""

    manager: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class NotReady:
    """A pod that is not Ready, e.g. "etl-worker-abc: CrashLoopBackOff (exit 1)"."""

    pod: str
    why: str

    def __str__(self) -> str:
        return f"{self.pod}: {self.why}"


@dataclass(frozen=True, slots=True)
class Workload:
    """The scaled workload and its pods."""

    uid: str
    replicas: int  # spec.replicas of the scale subresource
    scale_version: str  # resourceVersion for the precondition of the next write
    writer: ScaleWriter | None
    ready: int
    pending: int  # pods that are not running yet (not scheduled, pulling, starting)
    crash_looping: int
    oom_killed: int  # pods whose last end was OOMKilled
    terminating: int  # pods with a deletionTimestamp: they hold connections until they exit
    restarts: int  # sum over living pods
    max_surge: str  # as written: "25%", "1", "0"
    paused: bool  # spec.paused of a Deployment
    rolling_out: bool  # pods of more than one revision, or the generation is not observed yet
    not_ready: NotReady | None = None  # the pod that tells most of why pods are not Ready
    generation: int = 0  # moves with the workload's spec, not with the state of its pods
    oldest_pod: datetime | None = None  # when the oldest pod was made, of those about to end too
    all_updated: bool = False  # known to have no pod of an older template, and to start none
    pinned: bool = False  # may start pods of an older template (partition, OnDelete)
    starting: int = 0  # of `pending`: those that wait for nothing but time
    pods: int = 0  # all that there are and stay, whatever they do
    # Why the controller cannot make pods, in its own words: quota, admission, a missing
    # ServiceAccount. Empty: it can, or its kind does not say.
    not_created_why: str = ""
    # Since when a rollout has made no progress, by the Deployment's own deadline. None: it goes on,
    # or there is none.
    stuck_since: datetime | None = None
    # Nobody scaled it to 0: it was created so, and waits for its first job (`minReplicas: 0`).
    created_at_zero: bool = False

    @property
    def changing(self) -> bool:
        """Whether pods are being replaced. A rollout that is stuck replaces none any more."""
        return self.rolling_out and self.stuck_since is None

    @property
    def all_arrived(self) -> bool:
        """Whether the pods that were asked for are there, and those that can be Ready are. Pods of
        a rollout that is stuck will not be; they keep nobody waiting."""
        if self.stuck_since is not None:
            return self.pods >= self.replicas and not self.starting
        return self.all_ready

    @property
    def all_ready(self) -> bool:
        """Whether the pods that were asked for are Ready, and none is on its way."""
        return self.ready >= self.replicas and not self.pending

    @property
    def not_ready_why(self) -> str:
        """A pod and its reason for not being Ready, or empty."""
        return "" if self.not_ready is None else str(self.not_ready)

    @property
    def trouble(self) -> str:
        """A pod's own reason for not being Ready, else what keeps pods from being created."""
        return self.not_ready_why or self.not_created_why

    @property
    def living(self) -> int:
        """Pods that there are or will be at once, those about to end aside: what was asked for,
        or what is there where that is more."""
        return max(self.replicas, self.ready + self.pending)


class PoolFrom(StrEnum):
    """Where the size of a pool stands, and so when a change of it is in force."""

    POLICY = "Policy"  # at once
    TEMPLATE = "Template"  # after a rollout
    REFERENCE = "Reference"  # a ConfigMap or Secret: in pods that start later


@dataclass(frozen=True, slots=True)
class SmallerPool:
    """A pool that was made smaller, which pods that started before may not have yet."""

    pool: int
    since: datetime


@dataclass(frozen=True, slots=True)
class PerReplica:
    """Connections that one replica can open, and where the number comes from."""

    connections: int
    pool: int  # PG_POOL_MAX of the runbook's formula, without processes and extra
    source: str  # "env PG_POOL_MAX of container worker"
    role: str | None  # database user in the pods' own environment, where it can be seen
    pool_from: PoolFrom = PoolFrom.REFERENCE
    # "4 (worker) + 9 (importer)" where several containers have a pool; empty for one.
    added_up: str = ""
    # Behind a pooler: server connections that all replicas together hold at most. None: direct.
    pooled: int | None = None
    # `pool` is the larger one that counts until every pod has this. None: all have `pool`.
    smaller: SmallerPool | None = None


class FlagValue(StrEnum):
    """What a pausable producer says of itself."""

    RUNNING = "Running"
    PAUSED = "Paused"


@dataclass(frozen=True, slots=True)
class ProducerReading:
    """A producer's own state, e.g. a row of `feature_flags`."""

    value: FlagValue
    token: str | None  # the ownership token found there; None: nobody's, or not written there
    version: str  # changes with every write (xmin)
    # Paused, but something it should cover runs (a new backfill, rows that arrived since): the
    # pause has to be carried out again.
    leaking: bool = False
    # What a pause would cover, for producers without a place for a token (ids, as JSON text). It is
    # stored with the intent, before the effect (P6).
    plan: str | None = None
    writer: str = ""  # who made it what it is, where that is known: "kubectl-edit", "argocd"
    # Running, and who lifts a pause here leaves its token: where that is gone too, the pause was
    # lost and not lifted.
    leaves_token: bool = False
    # The server behind a Secret, without its login (see `same_server`); None: the spec itself says
    # where it is, or it is not known.
    where: ServerPlace | None = None
    note: str = ""  # what a person should know or do, whatever is paused
    # Where the mark at its place says what was there before the pause: that, as JSON text.
    previous: str | None = None
    # How a person releases what is paused here, for a pause of which status has no record.
    release: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """What another policy holds, or is entitled to, on the same database.

    P1 counts all policies of one database together: `connections` is what its pods can open,
    surge and terminating ones included, and never less than its minimum.
    """

    policy: str  # namespace/name
    role: str | None
    connections: int
    minimum: int = 0  # connections that its minReplicas need
    # Connections that it would step up to, or down to. None: unknown, or not ours to change; then
    # it keeps what it holds.
    wanted: int | None = None
    # What it wanted when that was known last, a short time ago: nobody gives anything back for it,
    # and nobody takes it either, or a reading that is missing once would be a step up and down.
    asked: int | None = None
    priority: int = 1  # 0 first: Critical, Normal, Background
    per_replica: int = 1  # connections of one more replica, and ...
    max_surge: str = "0"  # ... of the pods that a rollout adds
    pooled: int | None = None  # all its pods together hold no more: a pooler's pool
    # Connections of all policies together, with this policy's own limits and headroom; None: that
    # was not computed yet.
    cap: int | None = None


@dataclass(frozen=True, slots=True)
class Follower:
    """KEDA's own HorizontalPodAutoscaler of a ScaledObject. Its maximum is what bounds the pods;
    KEDA takes it from the ScaledObject a moment later, and while a trigger fails not at all."""

    name: str
    minimum: int
    maximum: int
    limited: bool = False  # its controller wants more replicas than the maximum


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """A HorizontalPodAutoscaler or ScaledObject that scales the target, or that guards it."""

    kind: str  # "HorizontalPodAutoscaler" or "ScaledObject"
    name: str
    uid: str
    version: str  # resourceVersion
    minimum: int
    maximum: int
    # What we put there, if anything (annotations on the object): the maximum before, whose it is,
    # and what was written. A maximum that is not `written` any more is another client's.
    kept_maximum: int | None = None
    token: str | None = None
    written: int | None = None
    # The maximum (now, and the one that was kept) is the kind's default: nobody wrote it there.
    implicit: bool = False
    kept_implicit: bool = False
    writer: ScaleWriter | None = None  # of the maximum
    changed_since: bool = False  # another client wrote the maximum after us, be it the same number
    # Another client wrote our mark together with the maximum: an object that came back from a
    # backup.
    copied: bool = False
    orphan: bool = False  # the policy that marked it does not exist any more
    paused: bool = False  # KEDA: autoscaling.keda.sh/paused; nothing scales the target meanwhile
    held_at: int | None = None  # KEDA: autoscaling.keda.sh/paused-replicas; kept at that number
    beside: str = ""  # another autoscaler of the same target, for a guard that is not the only one
    owner: str = ""  # the ScaledObject that a HorizontalPodAutoscaler belongs to
    limited: bool = False  # its controller wants more replicas than the maximum
    # Of a guarded ScaledObject; None: it has none (yet, or while it is paused).
    follower: Follower | Unknown | None = None
    complaint: str = ""  # KEDA's own words, while it says that a ScaledObject is not Ready

    @property
    def ours(self) -> bool:
        """Whether the maximum that stands there is the one that was written with the mark."""
        written = self.maximum == self.written and self.kept_maximum is not None
        return written and (self.copied or not self.changed_since)


@dataclass(frozen=True, slots=True)
class Rival:
    """The policy that has what this one names: it acts, this one does not."""

    policy: str  # namespace/name
    shared: str  # e.g. "Deployment etl-worker"
    deleting: bool = False  # it is being deleted, but has not released everything yet
    leaving: bool = False  # the younger one: it has not noticed yet that it has to let go


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one pass saw. Maps are keyed by the names in the spec."""

    taken_at: datetime
    workload: Reading[Workload]
    per_replica: Reading[PerReplica]
    database: DatabaseReading | None  # None: the policy names no database
    queues: Mapping[str, QueueReading]
    producers: Mapping[str, Reading[ProducerReading]]
    claims: tuple[Claim, ...] = ()
    claim: Claim | None = None  # this policy's own, as the others see it; None: not counted yet
    # Policies of the same server that had no pass yet since our start: what they hold is not known.
    awaited: tuple[str, ...] = ()
    # An older policy with the same target (or the same guarded autoscaler): it acts, we do not.
    rival: Rival | None = None
    # With spec.target.guard that autoscaler, else whoever else scales the target. Known(None):
    # nobody. None: not searched for.
    autoscaler: Reading[Autoscaler | None] | None = None
