"""What pods are doing, from the statuses that a kubelet writes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from starforge_backlog.cluster.pods import PodSummary, summarize

Pod = dict[str, Any]


def pod(name: str = "etl-worker-abc", *, ready: bool = False, **status: Any) -> Pod:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name, "labels": {"pod-template-hash": "1"}},
        "status": {"phase": "Running", "conditions": conditions, **status},
    }


def container(state: dict[str, Any], *, last: dict[str, Any] | None = None, **more: Any) -> Pod:
    return {"name": "worker", "state": state, "lastState": {"terminated": last or {}}, **more}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def described(found: PodSummary) -> str:
    return str(found.not_ready or "")


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
CRASHED = {"exitCode": 1, "reason": "Error"}
OOM = {"exitCode": 137, "reason": "OOMKilled"}


@pytest.mark.parametrize(
    ("given", "counts", "why"),
    [
        (pod(ready=True, containerStatuses=[container(RUNNING)]), "ready", ""),
        (
            pod(containerStatuses=[container(waiting("CrashLoopBackOff"), last=CRASHED)]),
            "crash_looping",
            "etl-worker-abc: CrashLoopBackOff (exit 1)",
        ),
        (
            pod(containerStatuses=[container(waiting("CrashLoopBackOff"), last=OOM)]),
            "crash_looping oom_killed",
            "etl-worker-abc: CrashLoopBackOff (OOMKilled, exit 137)",
        ),
        (
            # between the crash and the back-off the container is neither running nor waiting
            pod(containerStatuses=[container({"terminated": CRASHED})]),
            "crash_looping",
            "etl-worker-abc: CrashLoopBackOff (exit 1)",
        ),
        (
            pod(initContainerStatuses=[container(waiting("CrashLoopBackOff"), last=CRASHED)]),
            "crash_looping",
            "etl-worker-abc: CrashLoopBackOff (exit 1)",
        ),
        (
            pod(phase="Pending", containerStatuses=[container(waiting("ImagePullBackOff", "x"))]),
            "pending",
            "etl-worker-abc: ImagePullBackOff",
        ),
        (
            pod(
                containerStatuses=[container(waiting("CreateContainerConfigError", "no secret x"))]
            ),
            "pending",
            "etl-worker-abc: CreateContainerConfigError (no secret x)",
        ),
        (
            pod(phase="Pending", containerStatuses=[container(waiting("ContainerCreating"))]),
            "pending",
            "etl-worker-abc: Pending",
        ),
        (
            pod(containerStatuses=[container(RUNNING, started=False)]),
            "pending",
            "etl-worker-abc: starting",
        ),
        (
            pod(containerStatuses=[container(RUNNING, started=True)]),
            "",
            "etl-worker-abc: running but not ready",
        ),
        (
            # ready again after the kernel killed it: that it did is still worth knowing
            pod(ready=True, containerStatuses=[container(RUNNING, last=OOM, restartCount=3)]),
            "ready oom_killed",
            "",
        ),
        (pod(phase="Failed", reason="Evicted"), "", ""),
        (pod(phase="Succeeded"), "", ""),
        ({"metadata": {"name": "new"}}, "pending", "new: Pending"),
    ],
)
def test_states(given: Pod, counts: str, why: str) -> None:
    found = summarize([given])
    ones = {
        name
        for name in ("ready", "pending", "crash_looping", "oom_killed", "terminating")
        if getattr(found, name)
    }
    assert ones == set(counts.split())
    assert described(found) == why


def test_an_unschedulable_pod_says_why_and_not_on_which_nodes() -> None:
    given = pod(phase="Pending")
    given["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/9 nodes are available: 9 Insufficient memory. " + "preemption: " * 50,
        }
    ]
    found = summarize([given])
    assert found.pending == 1
    assert "Unschedulable (0/9 nodes are available: 9 Insufficient memory." in described(found)
    assert len(described(found)) < 150


def test_terminating_pods_count_until_they_have_ended() -> None:
    leaving = pod("leaving", ready=True)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    ended = pod("ended", phase="Failed")
    ended["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    found = summarize([leaving, ended, pod("staying", ready=True)])
    assert (found.ready, found.terminating) == (1, 1)


def test_the_worst_pod_is_quoted_and_always_the_same_one() -> None:
    starting = pod("a", phase="Pending")
    crashing = [
        pod(name, containerStatuses=[container(waiting("CrashLoopBackOff"), last=CRASHED)])
        for name in ("z", "y")
    ]
    assert described(summarize([starting, *crashing])).startswith("y: CrashLoopBackOff")


def test_revisions_of_terminating_pods_are_of_the_past() -> None:
    old = pod("old", ready=True)
    old["metadata"]["labels"] = {"pod-template-hash": "0"}
    assert summarize([old, pod()]).revisions == 2
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert summarize([old, pod()]).revisions == 1


def test_restarts_are_summed_over_living_pods() -> None:
    statuses = [container(RUNNING, restartCount=2), container(RUNNING, restartCount=3)]
    dead = pod("dead", phase="Failed", containerStatuses=statuses)
    assert summarize([pod(containerStatuses=statuses), dead]).restarts == 5


def test_the_oldest_pod_counts_until_it_is_gone() -> None:
    def made(at: str, **metadata: str) -> Pod:
        found = pod(ready=True)
        found["metadata"] |= {"creationTimestamp": at, **metadata}
        return found

    young, old = made("2026-01-01T02:00:00Z"), made("2026-01-01T01:00:00Z")
    ending = made("2026-01-01T00:00:00Z", deletionTimestamp="2026-01-01T03:00:00Z")
    ended = made("2025-12-31T00:00:00Z")
    ended["status"]["phase"] = "Succeeded"
    assert summarize([]).oldest is None
    assert summarize([young, old, ended]).oldest == datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert summarize([young, ending]).oldest == datetime(2026, 1, 1, 0, tzinfo=UTC)
