"""Stories: tests that mostly wait. All of them run side by side, some at a time, each in a
namespace and with a database of its own; each test then says how its story ended.

What ends the operator or needs it for itself is a test of its own and runs after them
(`tests/conftest.py`).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.place import Place
from tests.e2e.world import World

from local.postgres import PostgresServer

Story = Callable[[World], None]
Outcomes = Mapping[Story, Future[None]]

AT_ONCE: Final = 6
"""Stories that run side by side. More of them are faster alone, and time out beside other tests."""


@dataclass(frozen=True)
class Told:
    """A story, and the `max_connections` of the server that it has for itself and may mistreat;
    None: a database on the shared server."""

    story: Story
    connections: int | None = None


def title(story: Story) -> str:
    """For test ids: the function's name in words."""
    return story.__name__.replace("_", " ")


@contextlib.contextmanager
def side_by_side(
    place: Place, stories: Iterable[Told], at_once: int = AT_ONCE
) -> Iterator[Outcomes]:
    """How each story ends. No story may leave a traceback in the operator's log."""

    def run(told: Told) -> None:
        with contextlib.ExitStack() as stack:
            server = place.cluster.postgres
            if told.connections is not None:
                server = stack.enter_context(own_server(place, told.connections))
            world = stack.enter_context(contextlib.closing(World.create(place, server)))
            told.story(world)
            assert world.tracebacks() == []

    together = ThreadPoolExecutor(at_once)
    try:
        yield {told.story: together.submit(run, told) for told in stories}
    finally:
        together.shutdown(cancel_futures=True)  # those that have begun clear up after themselves


@contextlib.contextmanager
def own_server(place: Place, connections: int) -> Iterator[PostgresServer]:
    """To fill, freeze, restart, demote."""
    folder = Path(tempfile.mkdtemp(prefix="server-", dir=place.run_dir))
    server = PostgresServer.start(
        folder, max_connections=connections, settings={"max_wal_senders": 0}, run=place.cluster.run
    )
    with contextlib.closing(server):
        yield server
