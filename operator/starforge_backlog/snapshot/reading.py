"""A value with its time, or the reason why there is none; and what it is a reading of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, TypeVar

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
    NOT_IN_TABLE = "NotInTable"  # the schema does not contain it
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
    NO_SOURCE = "NoSource"  # the policy names no source for it: waiting does not help
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
