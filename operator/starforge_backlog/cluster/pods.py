"""What the pods of a workload are doing, from their statuses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from starforge_backlog.cluster.client import Json
from starforge_backlog.snapshot import NotReady

CRASH_LOOP = "CrashLoopBackOff"
OOM_KILLED = "OOMKilled"
# Labels by which the controllers mark the revision of a pod.
REVISION_LABELS = (
    "pod-template-hash",
    "controller-revision-hash",
    "rollouts-pod-template-hash",
)
# Waiting reasons whose message names what is missing; other messages may quote anything.
_INFORMATIVE = frozenset({"CreateContainerConfigError", "Unschedulable"})
# A message of the scheduler lists every node; the first words carry the reason.
MESSAGE_CHARACTERS = 100


class _Trouble(IntEnum):
    """Why a pod is not ready, the worst first: one of them is quoted."""

    CRASH_LOOPING = 0
    STUCK = 1  # image, configuration, scheduling
    NOT_READY = 2
    STARTING = 3


@dataclass(frozen=True, slots=True)
class PodSummary:
    """Counts over the pods that still run or will run."""

    ready: int
    pending: int
    starting: int  # of `pending`: waiting for nothing but time
    staying: int  # all but those about to end
    crash_looping: int
    oom_killed: int
    terminating: int
    restarts: int
    revisions: int  # different pod templates among the pods that are to stay
    oldest: datetime | None  # when the first of all was made, of those about to end too
    not_ready: NotReady | None


def summarize(pods: Sequence[Json]) -> PodSummary:
    """Count pods by what they do. Pods that ended hold no connections and are left out."""
    alive = [p for p in pods if p.get("status", {}).get("phase") not in {"Succeeded", "Failed"}]
    staying = [p for p in alive if not p["metadata"].get("deletionTimestamp")]
    troubles = sorted(
        (trouble, pod["metadata"]["name"], why)
        for pod in staying
        for trouble, why in [_trouble(pod)]
        if trouble is not None
    )
    kinds = [trouble for trouble, _, _ in troubles]
    return PodSummary(
        ready=len(staying) - len(troubles),
        pending=sum(kind in {_Trouble.STUCK, _Trouble.STARTING} for kind in kinds),
        starting=kinds.count(_Trouble.STARTING),
        staying=len(staying),
        crash_looping=kinds.count(_Trouble.CRASH_LOOPING),
        oom_killed=sum(any(map(_was_oom_killed, _containers(pod))) for pod in staying),
        terminating=len(alive) - len(staying),
        restarts=sum(int(c.get("restartCount") or 0) for p in staying for c in _containers(p)),
        revisions=len({revision for pod in staying for revision in _revision(pod)}),
        oldest=min((made for pod in alive for made in _made(pod)), default=None),
        not_ready=NotReady(*troubles[0][1:]) if troubles else None,
    )


def _made(pod: Json) -> list[datetime]:
    made = pod["metadata"].get("creationTimestamp")
    return [datetime.fromisoformat(made)] if made else []


def _trouble(pod: Json) -> tuple[_Trouble | None, str]:
    """Why the pod is not ready, or (None, "") when it is."""
    status = pod.get("status", {})
    containers = list(_containers(pod))
    for container in containers:
        if _crash_loops(container):
            return _Trouble.CRASH_LOOPING, _crash(container)
    if _condition(status, "Ready") == "True":
        return None, ""
    for container in containers:
        waiting = _state(container, "waiting")
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            return _Trouble.STUCK, _with_message(waiting)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _Trouble.STUCK, _with_message(condition)
    if status.get("phase", "Pending") == "Pending":
        return _Trouble.STARTING, "Pending"
    if any(c.get("started") is False for c in containers):
        return _Trouble.STARTING, "starting"
    return _Trouble.NOT_READY, "running but not ready"


def _crash_loops(container: Json) -> bool:
    """In the back-off of a crash loop, or in the moment before it: ended with an error."""
    if _state(container, "waiting").get("reason") == CRASH_LOOP:
        return True
    return bool(_state(container, "terminated").get("exitCode"))


def _crash(container: Json) -> str:
    last = _state(container, "terminated") or _last(container)
    reason = last.get("reason")
    shown = f"{reason}, " if reason not in {None, "Error", "Completed"} else ""
    exit_code = f" ({shown}exit {last['exitCode']})" if "exitCode" in last else ""
    return f"{CRASH_LOOP}{exit_code}"


def _with_message(entry: Json) -> str:
    reason = str(entry.get("reason") or "not scheduled")
    message = " ".join(str(entry.get("message") or "").split())[:MESSAGE_CHARACTERS]
    return f"{reason} ({message})" if message and reason in _INFORMATIVE else reason


def _was_oom_killed(container: Json) -> bool:
    """Its last end was the kernel's doing; an end that is under way counts before the one past."""
    ended = _state(container, "terminated") or _last(container)
    return ended.get("reason") == OOM_KILLED


def _containers(pod: Json) -> Iterator[Json]:
    status = pod.get("status", {})
    yield from status.get("containerStatuses") or ()
    # An init container that ended well is done, not crashed; one that restarts shows here.
    yield from status.get("initContainerStatuses") or ()


def _state(container: Json, kind: str) -> dict[str, Any]:
    return (container.get("state") or {}).get(kind) or {}


def _last(container: Json) -> dict[str, Any]:
    return (container.get("lastState") or {}).get("terminated") or {}


def _condition(status: Json, kind: str) -> str | None:
    conditions: Iterable[Json] = status.get("conditions") or ()
    return next((c.get("status") for c in conditions if c.get("type") == kind), None)


def _revision(pod: Json) -> list[str]:
    labels = pod["metadata"].get("labels") or {}
    return [labels[label] for label in REVISION_LABELS if label in labels]
