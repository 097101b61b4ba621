"""What was seen of the target: its pods, the connections that each can open, its autoscaler."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from starforge_backlog.snapshot.reading import Unknown


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
    not_ready: NotReady | None = None  # the pod that best explains why pods are not Ready
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
