"""The CRD of this checkout, for tests that need it."""

from __future__ import annotations

import pytest
from tests.cluster.support import CRDS

from local.cluster import LocalCluster


@pytest.fixture(scope="session")
def crd(cluster: LocalCluster) -> None:
    """As it is committed. Applied once: each time costs seconds, also where nothing changes. A test
    that changes it applies it again at its end."""
    cluster.apply_crds(CRDS)
