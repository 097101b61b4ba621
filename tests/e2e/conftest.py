"""One cluster and one operator for all end-to-end tests; a namespace and a database for each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.place import Place, installed
from tests.e2e.world import World

from local.errors import LocalError
from local.paths import new_run_dir
from local.postgres import PostgresServer

MakeServer = Callable[[int], PostgresServer]
MakeWorld = Callable[[PostgresServer], World]


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
def make_world(place: Place) -> Iterator[MakeWorld]:
    """Worlds on any server; each is taken down after the test, its policies first."""
    with contextlib.ExitStack() as stack:

        def make(server: PostgresServer) -> World:
            world = World.create(place, server)
            stack.callback(world.close)
            return world

        yield make


@pytest.fixture
def world(place: Place, make_world: MakeWorld) -> World:
    """On the shared server."""
    return make_world(place.cluster.postgres)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """A server of the test's own, with so many connections: to fill, freeze, restart, demote."""
    with contextlib.ExitStack() as stack:

        def make(connections: int) -> PostgresServer:
            folder = tmp_path / f"server-{connections}"
            folder.mkdir()
            server = PostgresServer.start(
                folder,
                max_connections=connections,
                settings={"max_wal_senders": 0},
            )
            return stack.enter_context(contextlib.closing(server))

        yield make
