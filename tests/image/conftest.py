"""The image as a pod of a real kubelet, installed by the chart with its defaults.

These tests need root, Debian and a built image: `make test-image`. `make test` leaves them out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.world import World
from tests.image.machine import Machine
from tests.image.place import RealPlace, installed

from local.debian.means import node_lacking
from local.errors import LocalError
from local.image.__main__ import ARCHIVE
from local.paths import new_run_dir


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test of what is left on the machine is the last, after the cluster has ended."""
    items.sort(key=lambda item: item.name.endswith("nothing_is_left_behind"))


@pytest.fixture(scope="session")
def before() -> Machine:
    """The state of the machine before the first node."""
    if lacking := node_lacking():
        pytest.fail(f"a real kubelet cannot run on this machine: {lacking}", pytrace=False)
    return Machine.now()


@pytest.fixture(scope="session")
def archive() -> Path:
    """The image, as `make image` wrote it."""
    if not ARCHIVE.exists():
        pytest.fail(f"there is no {ARCHIVE}; `make image` builds it", pytrace=False)
    return ARCHIVE


@pytest.fixture(scope="module")
def place(archive: Path, before: Machine) -> Iterator[RealPlace]:
    """The cluster with the operator installed by Helm, after a check of the machine."""
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(installed(new_run_dir("image"), archive))
        except LocalError as error:
            pytest.fail(f"the cluster did not start: {error}", pytrace=False)
        yield place


@pytest.fixture
def world(place: RealPlace) -> Iterator[World]:
    """A namespace, a database on the host, and later a policy."""
    with contextlib.closing(World.create(place, place.cluster.postgres)) as world:
        yield world


@pytest.fixture(scope="session", autouse=True)
def _plainly() -> None:
    """Nothing of this machine's configuration leads a program of ours to another cluster."""
    os.environ.pop("KUBECONFIG", None)
