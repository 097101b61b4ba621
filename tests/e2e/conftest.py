"""One cluster and one operator for all end-to-end tests; a namespace and a database for each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import pytest
from tests.e2e.autoscaling import install_keda
from tests.e2e.place import Place, installed
from tests.e2e.together import Outcomes, Story, Told, side_by_side
from tests.e2e.world import World

from local.errors import LocalError
from local.paths import new_run_dir


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """The cluster with the operator installed by Helm."""
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(installed(new_run_dir("e2e")))
        except LocalError as error:
            pytest.fail(f"the cluster did not start: {error}", pytrace=False)
        yield place


@pytest.fixture
def world(place: Place) -> Iterator[World]:
    """On the shared server."""
    with contextlib.closing(World.create(place, place.cluster.postgres)) as world:
        yield world


@pytest.fixture(scope="session")
def outcomes(place: Place, request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """How the stories of all files end. A file whose stories need a PostgreSQL server each names
    its `max_connections` as `OWN_SERVER`."""
    install_keda(place)
    chosen = [
        Told(cast(Story, item.callspec.params["story"]), getattr(item.module, "OWN_SERVER", None))
        for item in request.session.items
        if isinstance(item, pytest.Function) and "outcomes" in item.fixturenames
    ]
    with side_by_side(place, chosen) as outcomes:
        yield outcomes
