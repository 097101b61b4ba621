"""One cluster and one operator for all end-to-end tests; a namespace and a database for each."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import cast

import pytest
from tests.e2e.autoscaling import install_keda
from tests.e2e.place import Place, installed
from tests.e2e.together import (
    GroupStory,
    OnServer,
    Outcomes,
    SerialGroup,
    Story,
    in_groups,
    side_by_side,
)
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
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """How the stories of all files end. A file whose stories need a PostgreSQL server each names
    its `max_connections` as `OWN_SERVER`; one that needs a cluster, or none, has a
    `SERIAL_GROUP`."""
    shared: list[OnServer] = []
    groups: defaultdict[SerialGroup, list[GroupStory]] = defaultdict(list)
    for item in request.session.items:
        if not isinstance(item, pytest.Function) or "outcomes" not in item.fixturenames:
            continue
        story, group = item.callspec.params["story"], getattr(item.module, "SERIAL_GROUP", None)
        if group is None:
            connections = getattr(item.module, "OWN_SERVER", None)
            shared.append(OnServer(cast(Story, story), connections))
        else:
            groups[group].append(cast(GroupStory, story))
    with contextlib.ExitStack() as stack:
        outcomes = dict(stack.enter_context(in_groups(groups)))
        if shared:
            place: Place = request.getfixturevalue("place")
            install_keda(place)
            outcomes |= stack.enter_context(side_by_side(place, shared))
        yield outcomes
