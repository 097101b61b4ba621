"""Stories: tests that mostly wait. All of them run side by side, some at a time, each in a
namespace and with a database of its own; each test then says how its story ended.

Stories that take the operator away from all others have a cluster of their own: a `SerialGroup`.
Those of one group run one after another, beside all others.

What ends the operator of all, or needs it for itself, is a test of its own and runs after the
stories (`tests/conftest.py`).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.place import Place
from tests.e2e.world import World

from local.postgres import PostgresServer

Story = Callable[[World], None]
GroupStory = Callable[[Any], None]
Outcomes = Mapping[GroupStory, Future[None]]

AT_ONCE: Final = 6
"""Stories that run side by side. More of them are faster alone, and time out beside other tests."""
GROUPS_AT_ONCE: Final = 2


@dataclass(frozen=True)
class SerialGroup:
    """Of a file of stories that share nothing with those of other files."""

    open: Callable[[], AbstractContextManager[Any]]
    """What each story is given: a cluster, for example."""
    late: bool = False
    """Begins when all others have ended: its stories are timed, and need some CPU for it."""


@dataclass(frozen=True)
class OnServer:
    """A story, and the `max_connections` of the server that it has for itself and may mistreat;
    None: a database on the shared server."""

    story: Story
    connections: int | None = None


def title(story: GroupStory) -> str:
    """For test ids: the function's name in words."""
    return story.__name__.replace("_", " ")


@contextlib.contextmanager
def side_by_side(
    place: Place, stories: Iterable[OnServer], at_once: int = AT_ONCE
) -> Iterator[Outcomes]:
    """How each story ends. No story may leave a traceback in the operator's log."""

    def run(one: OnServer) -> None:
        with contextlib.ExitStack() as stack:
            server = place.cluster.postgres
            if one.connections is not None:
                server = stack.enter_context(own_server(place, one.connections))
            world = stack.enter_context(contextlib.closing(World.create(place, server)))
            one.story(world)
            assert world.tracebacks() == []

    together = ThreadPoolExecutor(at_once)
    try:
        yield {one.story: together.submit(run, one) for one in stories}
    finally:
        together.shutdown(cancel_futures=True)  # those that have begun clear up after themselves


@contextlib.contextmanager
def in_groups(groups: Mapping[SerialGroup, Sequence[GroupStory]]) -> Iterator[Outcomes]:
    """How each story ends."""
    pool = ThreadPoolExecutor(GROUPS_AT_ONCE)
    outcomes: dict[GroupStory, Future[None]] = {}
    begun: list[Future[None]] = []
    try:
        for group in sorted(groups, key=lambda group: group.late):
            pending: dict[GroupStory, Future[None]] = {story: Future() for story in groups[group]}
            others = tuple(outcomes.values()) if group.late else ()
            begun.append(pool.submit(_run, group, pending, after=others))
            outcomes |= pending
        yield outcomes
    finally:
        for outcome in outcomes.values():
            outcome.cancel()  # one that has begun clears up after itself
        pool.shutdown(cancel_futures=True)
    for each in begun:
        if not each.cancelled():
            each.result()  # what a group opened may have failed to close


def _run(
    group: SerialGroup, pending: Mapping[GroupStory, Future[None]], *, after: Sequence[Future[None]]
) -> None:
    """What the group opens is closed when its last story has ended."""
    wait(after)
    left = deque(pending.items())
    try:
        with group.open() as given:
            while left:
                story, outcome = left.popleft()
                if outcome.set_running_or_notify_cancel():
                    _end(outcome, story, given)
    except Exception as error:
        if not left:
            raise
        for _, outcome in left:
            if outcome.set_running_or_notify_cancel():
                outcome.set_exception(error)


def _end(outcome: Future[None], story: GroupStory, given: Any) -> None:
    try:
        story(given)
    except BaseException as error:  # noqa: BLE001 # a failed story is its own test's matter
        outcome.set_exception(error)
    else:
        outcome.set_result(None)


@contextlib.contextmanager
def own_server(place: Place, connections: int) -> Iterator[PostgresServer]:
    """To fill, freeze, restart, demote."""
    folder = Path(tempfile.mkdtemp(prefix="server-", dir=place.run_dir))
    server = PostgresServer.start(
        folder, max_connections=connections, settings={"max_wal_senders": 0}, run=place.cluster.run
    )
    with contextlib.closing(server):
        yield server
