"""Stories: tests that mostly wait, told side by side, each in a world of its own.

Whichever test of a module comes first waits for all stories of the module; each test then says
how its own ended.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.e2e.place import Place
from tests.e2e.world import World

from local.postgres import PostgresServer

Story = Callable[[World], None]
Ends = dict[str, Future[None]]


def title(story: Story) -> str:
    """For test ids: the function's name in words."""
    return story.__name__.replace("_", " ")


@contextlib.contextmanager
def told(
    place: Place, stories: Sequence[Story], *, connections: int | None = None
) -> Iterator[Ends]:
    """How each story ends, by its title. On the shared server; or, with a number of connections,
    each on a server of its own, which it may mistreat.

    No story may leave a traceback in the operator's log.
    """

    def tell(story: Story) -> None:
        with contextlib.ExitStack() as stack:
            server = place.cluster.postgres
            if connections is not None:
                server = stack.enter_context(own_server(place, connections))
            world = stack.enter_context(contextlib.closing(World.create(place, server)))
            story(world)
            assert world.tracebacks() == []

    with ThreadPoolExecutor(len(stories)) as together:
        yield {title(story): together.submit(tell, story) for story in stories}


@contextlib.contextmanager
def own_server(place: Place, connections: int) -> Iterator[PostgresServer]:
    """To fill, freeze, restart, demote."""
    folder = Path(tempfile.mkdtemp(prefix="server-", dir=place.run_dir))
    server = PostgresServer.start(
        folder, max_connections=connections, settings={"max_wal_senders": 0}, run=place.cluster.run
    )
    with contextlib.closing(server):
        yield server
