"""Stories: tests that mostly wait, told side by side, each in a world of its own.

Whichever test of a module comes first waits for all stories of the module; each test then says
how its own ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from tests.e2e.place import Place
from tests.e2e.world import World

Story = Callable[[World], None]
Ends = dict[str, Future[None]]


def title(story: Story) -> str:
    """For test ids: the function's name in words."""
    return story.__name__.replace("_", " ")


@contextlib.contextmanager
def told(place: Place, stories: Sequence[Story]) -> Iterator[Ends]:
    """How each story ends, by its title."""

    def tell(story: Story) -> None:
        with contextlib.closing(World.create(place, place.cluster.postgres)) as world:
            story(world)

    with ThreadPoolExecutor(len(stories)) as together:
        yield {title(story): together.submit(tell, story) for story in stories}
