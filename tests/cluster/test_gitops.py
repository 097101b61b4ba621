"""Manifests are applied again and again: by pipelines, by people, by both, in either way.

Each phase applies all policies at once, so that the whole matrix takes a few calls of kubectl.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pytest
import yaml
from tests.cluster.crd_examples import GONE, Policy, edited, everything, minimal, other_halves
from tests.cluster.shown import shown
from tests.e2e.api import POLICIES, Api

from local.cluster import LocalCluster
from local.commands import CommandError

pytestmark = pytest.mark.cluster

# What the operator writes beside a spec, which no pipeline knows.
OURS: Final = {
    "metadata": {
        "finalizers": ["backlog.starforge.dev/release"],
        "annotations": {"backlog.starforge.dev/hold": "off"},
    }
}
STATUS: Final = {
    "status": {
        "summary": "steady",
        "paused": [
            {
                "producer": "ingestion",
                "by": "Us",
                "state": "Held",
                "since": "2026-01-01T00:00:00Z",
                "token": "t",
                "locator": {"featureFlag": "{}"},
            }
        ],
    }
}
SHOWN: Final = (
    *(one.named(f"p{number}", "") for number, one in enumerate(shown())),
    everything(),
    {**other_halves(), "metadata": {"name": "other-halves"}},
)


class Applied:
    """All policies in one namespace, and the commands that people and pipelines run on them."""

    def __init__(
        self, cluster: LocalCluster, api: Api, namespace: str, policies: Sequence[Policy]
    ) -> None:
        self._cluster = cluster
        self._api = api
        self._namespace = namespace
        self._text = "\n---\n".join(
            yaml.safe_dump(
                {**p, "metadata": {**p["metadata"], "namespace": namespace}}, sort_keys=False
            )
            for p in policies
        )

    def apply(self, *how: str) -> None:
        """`kubectl apply` with everything."""
        self._cluster.kubectl("apply", *how, "-f", "-", stdin=self._text)

    def specs(self) -> dict[str, Any]:
        """What is stored, by name."""
        items = self._cluster.get("qbp", "-n", self._namespace)["items"]
        return {item["metadata"]["name"]: item["spec"] for item in items}

    def diff(self, *how: str) -> str:
        """What `kubectl diff` says."""
        try:
            return self._cluster.kubectl("diff", *how, "-f", "-", stdin=self._text)
        except CommandError as error:
            return error.stdout + error.stderr

    def as_operator(self) -> None:
        """Write what the operator writes: a finalizer, an annotation, a status."""
        path = f"{POLICIES}/namespaces/{self._namespace}/queuebacklogpolicies"
        for name in (item["metadata"]["name"] for item in self._api.items(path)):
            self._api.patch(f"{path}/{name}", OURS)
            self._api.patch(f"{path}/{name}/status", STATUS)

    def generations(self) -> dict[str, int]:
        """Policies whose spec was written more than once."""
        items = self._cluster.get("qbp", "-n", self._namespace)["items"]
        assert len(items) == len(SHOWN)
        return {
            item["metadata"]["name"]: item["metadata"]["generation"]
            for item in items
            if item["metadata"]["generation"] != 1
        }


SERVER_SIDE: Final = "--server-side"


@pytest.fixture
def applied(cluster: LocalCluster, api: Api, namespace: str, crd: None) -> Applied:
    return Applied(cluster, api, namespace, SHOWN)


def test_server_side_apply_by_two_managers(applied: Applied) -> None:
    for number, manager in enumerate(("gitops", "gitops", "person", "gitops", "person")):
        applied.apply(SERVER_SIDE, f"--field-manager={manager}")
        if number == 1:
            applied.as_operator()
    assert applied.generations() == {}
    for manager in ("gitops", "person"):
        assert applied.diff(SERVER_SIDE, f"--field-manager={manager}") == ""


def test_client_side_apply_and_the_switch_from_it(applied: Applied) -> None:
    for _ in range(2):
        applied.apply()
    assert applied.diff() == ""
    for _ in range(2):
        applied.apply(SERVER_SIDE)
    assert applied.diff(SERVER_SIDE) == ""
    applied.apply()
    assert applied.diff() == ""
    assert applied.generations() == {}


POOL: Final = "spec.target.connectionsPerReplica"
PRODUCERS: Final = "spec.producers"
TRIP: Final = {"name": "b", "pause": ["a"], "trip": [{"waiting": 5}]}
# One manifest after another, as a repository's history has them.
EDITS: Final[Mapping[str, tuple[Mapping[str, object], Mapping[str, object]]]] = {
    "pool-as-number": ({POOL: GONE}, {POOL: {"value": 4}}),
    "pool-as-variable": ({POOL: {"value": 4}}, {POOL: {"env": "POOL"}}),
    "types": ({}, {"spec.queues.0.postgres": {"types": ["a"]}}),
    "other-types": (
        {"spec.queues.0.postgres": {"types": ["a"]}},
        {"spec.queues.0.postgres": {"types": ["b"]}},
    ),
    "all-types": ({"spec.queues.0.postgres": {"types": ["a"], "table": "jobs"}}, {}),
    "no-types": ({"spec.queues.0.postgres": {"types": []}}, {}),
    "other-source": (
        {"spec.queues.0.postgres": {"types": []}},
        {
            "spec.queues.0.postgres": GONE,
            "spec.queues.0.prometheus": {"url": "http://prometheus.monitoring:9090"},
        },
    ),
    "status-words": (
        {"spec.queues.0.postgres": {"statuses": {"waiting": ["a"]}}},
        {"spec.queues.0.postgres": {"statuses": {"waiting": ["b"]}}},
    ),
    "waiting-words": (
        {PRODUCERS: [{"name": "a", "jobTypes": {"types": ["t"]}}]},
        {PRODUCERS: [{"name": "a", "jobTypes": {"types": ["t"], "waiting": ["queued"]}}]},
    ),
    "progress-columns": (
        {PRODUCERS: [{"name": "a", "backfillJobs": {}}]},
        {PRODUCERS: [{"name": "a", "backfillJobs": {"progressColumns": ["done"]}}]},
    ),
    "no-progress-columns": (
        {PRODUCERS: [{"name": "a", "backfillJobs": {"progressColumns": []}}]},
        {PRODUCERS: [{"name": "a", "backfillJobs": {}}]},
    ),
    "other-way": (
        {PRODUCERS: [{"name": "a", "featureFlag": {}}]},
        {PRODUCERS: [{"name": "a", "backfillJobs": {}}]},
    ),
    "scope": (
        {
            PRODUCERS: [{"name": "a", "featureFlag": {}}],
            "spec.breakers": [{**TRIP, "scope": {"queues": ["jobs"], "type": "t"}}],
        },
        {
            PRODUCERS: [{"name": "a", "featureFlag": {}}],
            "spec.breakers": [{**TRIP, "scope": {}}],
        },
    ),
    "smaller": (
        {PRODUCERS: [{"name": "a", "featureFlag": {}}], "spec.breakers": [TRIP]},
        {},
    ),
}


@pytest.mark.usefixtures("crd")
def test_an_edited_manifest_means_the_same_as_a_new_one(
    cluster: LocalCluster, api: Api, namespace: str
) -> None:
    """What defaults put into the object before belongs to nobody, and must not stand beside what
    is applied later, or keep it from being accepted."""

    def all_of(edits: Iterator[tuple[str, Mapping[str, object]]]) -> Applied:
        policies = [edited(minimal(), {**e, "metadata.name": name}) for name, e in edits]
        return Applied(cluster, api, namespace, policies)

    before = all_of((name, first) for name, (first, _) in EDITS.items())
    after = all_of((name, last) for name, (_, last) in EDITS.items())
    new = all_of((f"new-{name}", last) for name, (_, last) in EDITS.items())
    how = (SERVER_SIDE, "--field-manager=gitops")
    before.apply(*how)
    for _ in range(2):
        after.apply(*how)
    assert after.diff(*how) == ""
    new.apply(*how)
    specs = after.specs()
    assert {n: specs[n] for n in EDITS} == {n: specs[f"new-{n}"] for n in EDITS}
