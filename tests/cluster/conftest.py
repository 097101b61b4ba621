"""One cluster for all tests of a run; each test has a namespace of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from local.cluster import LocalCluster
from local.errors import LocalError


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """A real API server, controllers, scheduler and node, for tests marked `cluster`."""
    local = LocalCluster("test")
    try:
        local.start()
    except LocalError as error:
        pytest.fail(f"the local cluster did not start: {error}", pytrace=False)
    yield local
    local.stop()


@pytest.fixture
def namespace(cluster: LocalCluster) -> Iterator[str]:
    """Deleted without waiting: the next test has another one."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
