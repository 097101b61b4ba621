"""The workload that is scaled: one GET of it, one LIST of its pods, one GET of each new
ReplicaSet of theirs.

The object itself serves for Deployments, StatefulSets and ReplicaSets: its `resourceVersion` is
the one of its scale, so no second GET is needed. Other kinds are asked for their scale as well.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from starforge_backlog.api import FIELD_MANAGER
from starforge_backlog.api.policy import Target
from starforge_backlog.api.shown import shortened
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.client import PODS, ClusterClient, Json
from starforge_backlog.cluster.controlled import ControlledPods, Owner
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.cluster.kinds import KindResolver
from starforge_backlog.cluster.owners import last_writer, parse_time
from starforge_backlog.cluster.per_replica import PerReplicaReader
from starforge_backlog.cluster.pods import PodSummary, summarize
from starforge_backlog.cluster.scale import ScaleView, read_scale
from starforge_backlog.cluster.secrets import KeyValueStore
from starforge_backlog.connections.ttl_cache import MonotonicClock
from starforge_backlog.snapshot import Known, PerReplica, Reading, Unknown, Why, Workload

# What Kubernetes writes into a Deployment that says nothing.
DEFAULT_SURGE = "25%"
# Of a kind whose rollouts we do not know: a blue-green one doubles its pods, and an unseen surge
# would break the budget (P1).
UNKNOWN_SURGE = "100%"
NO_SURGE = "0"
# Pods or a percentage, also above 100. Other kinds may have checked nothing.
_SURGE = re.compile(r"[0-9]{1,9}%?", re.ASCII)
# Reason of a Deployment's condition `Progressing` once its deadline has passed.
DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
# What a controller says of a quota names every resource of it; the first words carry the reason.
MESSAGE_CHARACTERS = 240
# Times of the API server are whole seconds, and the create and its record are two of them.
SAME_MOMENT = timedelta(seconds=1)


class WorkloadReader:
    """Reads targets. Expected faults come back as `Unknown`, not as exceptions."""

    def __init__(
        self,
        client: ClusterClient,
        store: KeyValueStore,
        clock: Clock = utc_now,
        monotonic: MonotonicClock = time.monotonic,
    ) -> None:
        self._client = client
        self._clock = clock
        self._kinds = KindResolver(client, monotonic)
        self._controlled = ControlledPods(client, monotonic)
        self._per_replica = PerReplicaReader(store, clock, monotonic)

    async def read(
        self, namespace: str, target: Target
    ) -> tuple[Reading[Workload], Reading[PerReplica]]:
        """The workload with its pods, and the connections that one replica can open."""
        at = self._clock()
        try:
            resource = await self._kinds.resolve(target.api_version, target.kind)
            found, scale = await read_scale(self._client, resource, namespace, target)
        except ClusterFault as fault:
            unknown = _missing(fault, namespace, target, at=fault.unknown(at))
            return unknown, unknown
        try:
            pods = await self._pods(namespace, target, scale, found["metadata"]["uid"])
        except ClusterFault as fault:
            pods = fault.unknown(at)
        template = _containers(found, [] if isinstance(pods, Unknown) else pods)
        per_replica = await self._per_replica.read(
            namespace,
            target.connections_per_replica,
            template,
            uid=found["metadata"]["uid"],
            generation=int(found["metadata"].get("generation") or 0),
        )
        if isinstance(pods, Unknown):
            return pods, per_replica
        return Known(_workload(found, scale, summarize(pods), target.kind), at), per_replica

    async def _pods(
        self, namespace: str, target: Target, scale: ScaleView, uid: str
    ) -> Sequence[Json] | Unknown:
        if not scale.selector:
            message = (
                f"the scale of {target.kind} {target.name} has no selector, so its pods cannot be "
                "counted; its CRD must set subresources.scale.labelSelectorPath"
            )
            return Unknown(Why.BAD_SHAPE, message, self._clock())
        labelled = await self._client.list_objects(PODS, namespace, label_selector=scale.selector)
        owner = Owner(target.kind, target.name, uid)
        return await self._controlled.of(owner, namespace, labelled)


def _missing(fault: ClusterFault, namespace: str, target: Target, at: Unknown) -> Unknown:
    named = {Why.TARGET_NOT_FOUND, Why.TARGET_NOT_SCALABLE}
    if fault.kind is not FaultKind.NOT_FOUND or fault.why in named:
        return at
    message = (
        f"{target.kind} {target.name} does not exist in namespace {namespace}; create it or "
        "correct spec.target"
    )
    return Unknown(Why.TARGET_NOT_FOUND, message, at.at)


def _workload(found: Json, scale: ScaleView, pods: PodSummary, kind: str) -> Workload:
    spec = found.get("spec") or {}
    return Workload(
        uid=found["metadata"]["uid"],
        replicas=scale.replicas,
        scale_version=scale.version,
        writer=last_writer(found),
        ready=pods.ready,
        pending=pods.pending,
        crash_looping=pods.crash_looping,
        oom_killed=pods.oom_killed,
        terminating=pods.terminating,
        restarts=pods.restarts,
        max_surge=max_surge(spec, kind),
        paused=spec.get("paused") is True,
        rolling_out=is_rolling_out(found, kind, pods.revisions),
        not_ready=pods.not_ready,
        generation=int(found["metadata"].get("generation") or 0),
        oldest_pod=pods.oldest,
        all_updated=is_all_updated(found, kind, pods.revisions),
        pinned=kind == "StatefulSet" and not _one_revision(found.get("status") or {}),
        starting=pods.starting,
        pods=pods.staying,
        not_created_why=not_created_why(found),
        stuck_since=stuck_since(found, kind),
        created_at_zero=scale.replicas == 0 and was_created_so(found),
    )


def not_created_why(found: Json) -> str:
    """Why the controller cannot make pods, or an empty text. Deployments and ReplicaSets say so."""
    failure = _condition(found, "ReplicaFailure")
    if failure is None or failure.get("status") != "True":
        return ""
    said = f"{failure.get('reason') or 'FailedCreate'}: {failure.get('message') or ''}"
    return shortened(said, MESSAGE_CHARACTERS)


def stuck_since(found: Json, kind: str) -> datetime | None:
    """Since when a Deployment's rollout has exceeded `progressDeadlineSeconds`, or None."""
    progress = _condition(found, "Progressing") if kind == "Deployment" else None
    if progress is None or progress.get("reason") != DEADLINE_EXCEEDED:
        return None
    generation = int(found["metadata"].get("generation") or 0)
    if int((found.get("status") or {}).get("observedGeneration") or 0) < generation:
        return None  # said of the template before
    return parse_time(progress.get("lastTransitionTime"))


def was_created_so(found: Json) -> bool:
    """Whether `spec.replicas` is what the object was created with: nothing of its spec was written
    since, or whoever wrote replicas did so when it was created. A 0 that came through the scale
    subresource has no writer (API server, 1.37), so it is never taken for one."""
    writer, meta = last_writer(found), found["metadata"]
    created = parse_time(meta.get("creationTimestamp"))
    if writer is None or writer.manager == FIELD_MANAGER or created is None:
        return False
    if int(meta.get("generation") or 0) == 1:
        return True
    return writer.at is not None and writer.at - created <= SAME_MOMENT


def _condition(found: Json, kind: str) -> Json | None:
    conditions = _mapping(found.get("status")).get("conditions")
    listed = conditions if isinstance(conditions, list) else ()
    return next((c for c in listed if _mapping(c).get("type") == kind), None)


def is_all_updated(found: Json, kind: str, revisions: int) -> bool:
    """Whether every pod is known to be of the template as it stands. Other kinds do not report it:
    a ReplicaSet, for one, does not change its pods when its template changes."""
    status = found.get("status") or {}
    if kind == "StatefulSet" and not _one_revision(status):
        return False
    rolls = kind in {"Deployment", "StatefulSet"}
    return rolls and revisions <= 1 and not is_rolling_out(found, kind, revisions)


def _one_revision(status: Json) -> bool:
    return status.get("currentRevision") == status.get("updateRevision")


def max_surge(spec: Mapping[str, Any], kind: str) -> str:
    """How many pods more than `replicas` a rollout may start, as written in the object."""
    if kind in {"StatefulSet", "ReplicaSet"}:
        return NO_SURGE  # a StatefulSet replaces in place, a ReplicaSet rolls nothing out
    strategy = _mapping(spec.get("strategy"))
    if strategy.get("type") == "Recreate":
        return NO_SURGE
    rolling = _mapping(strategy.get("rollingUpdate")) or _mapping(strategy.get("canary"))
    surge = str(rolling.get("maxSurge", ""))
    if _SURGE.fullmatch(surge):
        return surge
    return DEFAULT_SURGE if kind == "Deployment" else UNKNOWN_SURGE


def _mapping(found: object) -> Mapping[str, Any]:
    """Of a kind that we do not know anything may be of any shape."""
    return found if isinstance(found, Mapping) else {}


def is_rolling_out(found: Json, kind: str, revisions: int) -> bool:
    """Whether a change of the pod template is still under way, or not even seen yet."""
    generation = int(found["metadata"].get("generation") or 0)
    status, spec = found.get("status") or {}, found.get("spec") or {}
    # A status without observedGeneration is either not written yet or of a kind that has none.
    observed = status.get("observedGeneration", generation if status else 0)
    if kind in {"Deployment", "StatefulSet", "ReplicaSet"} and int(observed) < generation:
        return True
    if kind == "StatefulSet":
        update = spec.get("updateStrategy") or {}
        partition = (update.get("rollingUpdate") or {}).get("partition")
        if update.get("type") == "OnDelete" or partition:
            return False  # two revisions side by side are what was asked for
        return status.get("currentRevision") != status.get("updateRevision")
    # Against status.replicas, not the spec's: a step up of ours is no rollout.
    updated, all_of_them = status.get("updatedReplicas") or 0, status.get("replicas") or 0
    return (kind == "Deployment" and int(updated) != int(all_of_them)) or revisions > 1


def _containers(found: Json, pods: Sequence[Json]) -> Sequence[Json]:
    """Containers of the pod template that run for as long as the pod does; of a pod where the kind
    keeps its template elsewhere."""
    template = _mapping(_mapping(_mapping(found.get("spec")).get("template")).get("spec"))
    # What another kind calls a template need not be one of pods.
    of_pods = isinstance(template.get("containers"), list)
    pod = template if of_pods else next(iter(pods), {}).get("spec") or {}
    # An init container that restarts always is a sidecar; the others have ended by then.
    sidecars = [c for c in pod.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return [*(pod.get("containers") or ()), *sidecars]
