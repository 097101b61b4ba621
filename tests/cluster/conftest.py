"""The CRD of this checkout, for tests that need it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from tests.cluster.autoscalers import Timer
from tests.cluster.keda import SCALED_OBJECTS
from tests.cluster.support import CRDS, Requests, connected

from local.cluster import LocalCluster
from starforge_backlog.cluster.autoscalers import AutoscalerReader
from starforge_backlog.cluster.autoscalers_write import MaximumWriter
from starforge_backlog.cluster.client import ClusterClient


@pytest.fixture(scope="session")
def crd(cluster: LocalCluster) -> None:
    """As it is committed. Applied once: each time costs seconds, also where nothing changes. A test
    that changes it applies it again at its end."""
    cluster.apply_crds(CRDS)


@pytest.fixture
async def adapter(cluster: LocalCluster) -> AsyncIterator[tuple[ClusterClient, Requests]]:
    async with connected(cluster.kubeconfig) as found:
        yield found


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def reader(adapter: tuple[ClusterClient, Requests], timer: Timer) -> AutoscalerReader:
    return AutoscalerReader(adapter[0], monotonic=timer)


@pytest.fixture
def writer(adapter: tuple[ClusterClient, Requests]) -> MaximumWriter:
    return MaximumWriter(adapter[0])


@pytest.fixture(scope="module")
def keda(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The CRD alone."""
    file = tmp_path_factory.mktemp("keda") / "scaledobjects.json"
    file.write_text(json.dumps(SCALED_OBJECTS), "utf-8")
    cluster.apply_crds(file)
