"""A pod's status, written as the kubelet writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from local.node.api import Object
from local.node.container import ContainerRunner
from local.node.states import Running, Terminated, Waiting, timestamp


def pod_status(
    pod: Object,
    init: Sequence[ContainerRunner],
    containers: Sequence[ContainerRunner],
    *,
    initialized: bool,
    finished: bool,
    pod_ip: str,
    host_ip: str,
    started_at: str,
    previous: Object,
) -> dict[str, Any]:
    """`previous` is the status written before; times of conditions that did not turn are kept."""
    policy = pod["spec"].get("restartPolicy") or "Always"
    phase = _phase(init, containers, initialized=initialized, finished=finished, policy=policy)
    over = phase in ("Succeeded", "Failed")
    unready = [c.name for c in containers if not c.ready]
    reason = "PodCompleted" if phase == "Succeeded" else "ContainersNotReady"
    message = f"containers with unready status: [{' '.join(unready)}]"
    ready = not unready and initialized and not over
    why = {} if ready else {"reason": reason, "message": message}
    gates_open = ready and _gates_open(pod)
    gate_why = why if not ready or gates_open else {"reason": "ReadinessGatesNotReady"}
    conditions = [
        _condition("PodReadyToStartContainers", not over, {}),
        _condition(
            "Initialized",
            initialized,
            {} if initialized else {"reason": "ContainersNotInitialized"},
        ),
        _condition("ContainersReady", ready, why),
        _condition("Ready", gates_open, gate_why),
    ]
    _keep_times(conditions, previous)
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": conditions,
        "containerStatuses": [_container(c) for c in containers],
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "podIP": pod_ip,
        "podIPs": [{"ip": pod_ip}],
        "startTime": started_at,
        "qosClass": (pod.get("status") or {}).get("qosClass") or "BestEffort",
    }
    if init:
        status["initContainerStatuses"] = [_container(c) for c in init]
    return status


def _phase(
    init: Sequence[ContainerRunner],
    containers: Sequence[ContainerRunner],
    *,
    initialized: bool,
    finished: bool,
    policy: str,
) -> str:
    if finished:
        counted = [c for c in (*init, *containers) if not c.sidecar]
        codes = [c.last.exit_code if c.last else 1 for c in counted]
        return "Succeeded" if not any(codes) and initialized else "Failed"
    never_ran = any(isinstance(c.state, Waiting) and c.last is None for c in containers)
    if not initialized or never_ran:
        return "Pending"
    if policy == "Never" and all(isinstance(c.state, Terminated) for c in containers):
        return "Failed" if any(c.last and c.last.exit_code for c in containers) else "Succeeded"
    return "Running"


def _container(container: ContainerRunner) -> dict[str, Any]:
    image = container.image_name
    last = container.last
    shown_last = last if last is not None and container.state is not last else None
    return {
        "name": container.name,
        "image": image,
        "imageID": f"local://{image}" if isinstance(container.state, Running) else "",
        "containerID": container.container_id,
        "ready": container.ready,
        "started": container.started,
        "restartCount": container.restarts,
        "state": container.state.render(),
        "lastState": shown_last.render() if shown_last else {},
    }


def _gates_open(pod: Object) -> bool:
    known = {c["type"]: c["status"] for c in (pod.get("status") or {}).get("conditions") or ()}
    gates = pod["spec"].get("readinessGates") or ()
    return all(known.get(gate["conditionType"]) == "True" for gate in gates)


def _condition(kind: str, value: bool, why: dict[str, str]) -> dict[str, Any]:
    # Explicit nulls, because in a merge an absent reason would leave the old one standing.
    blank: dict[str, Any] = {"reason": None, "message": None}
    return {"type": kind, "status": "True" if value else "False", **blank, **why}


def _keep_times(conditions: list[dict[str, Any]], previous: Object) -> None:
    before = {c["type"]: c for c in previous.get("conditions") or ()}
    now = timestamp()
    for condition in conditions:
        old = before.get(condition["type"])
        same = old is not None and old["status"] == condition["status"]
        condition["lastTransitionTime"] = old["lastTransitionTime"] if old and same else now
