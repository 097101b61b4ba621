"""Every policy that a page or a sample shows is one: taken by a real API server, read by us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from tests.cluster.crd_policies import Policies
from tests.cluster.shown import Shown, shown

from local.cluster import LocalCluster

pytestmark = pytest.mark.cluster

NAMESPACE: Final = "readme-policies"
SHOWN: Final = shown()


@pytest.fixture(scope="module")
def policies(cluster: LocalCluster, crd: None) -> Iterator[Policies]:
    """A namespace of a real API server with the CRD as it is committed."""
    yield from Policies.opened(cluster, NAMESPACE)


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.place)
def test_the_api_server_takes_it(policies: Policies, one: Shown) -> None:
    policies.create(one.named("shown", NAMESPACE))


def test_each_kind_of_queue_and_each_way_to_pause_is_shown() -> None:
    """On the page of examples alone."""
    specs = [one.policy["spec"] for one in SHOWN if one.place.startswith("docs/examples.md")]
    queues = {kind for spec in specs for queue in spec["queues"] for kind in queue}
    assert {"postgres", "bullmq", "prometheus", "signals"} <= queues
    ways = {way for spec in specs for producer in spec.get("producers", ()) for way in producer}
    assert ways - {"name"} == {
        *("featureFlag", "configMap", "webhook", "workload"),
        *("queue", "backfillJobs", "jobTypes"),
    }
