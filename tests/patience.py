"""How long the operator waits for the servers of a test.

In production it gives up after 0.8 s and says so: a pass has to end. In a test the server is well,
but the machine may stand still for a second, and the verdict must not depend on that. A test whose
subject is such a limit names it in its call, or uses the fixture `production_limits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, Final
from unittest.mock import patch

from starforge_backlog.databases import connection as databases
from starforge_backlog.redis import connection as redis
from starforge_backlog.redis import node, topology

PATIENT: Final = timedelta(seconds=30)

# What callers do not choose is a default of these.
_FUNCTIONS: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (databases.Database.fetch, ("timeout",)),
    (databases.Database.execute_write, ("timeout",)),
    (databases.Pacing.__init__, ("connect_within", "answer_grace", "turn_within")),
    (redis.RedisServer.run, ("limit",)),
    (redis.RedisServer.run_all, ("limit",)),
    (redis.RedisServer.pipeline, ("limit",)),
    (node.Pacing.__init__, ("connect_within", "turn_within")),
)
_CONSTANTS: Final = ("DISCOVERY_LIMIT", "SENTINEL_LIMIT")
_PRODUCTION: Final = [
    *(
        (function.__kwdefaults__, {n: function.__kwdefaults__[n] for n in names})
        for function, names in _FUNCTIONS
    ),
    (vars(topology), {name: vars(topology)[name] for name in _CONSTANTS}),
]


def be_patient() -> None:
    """From now on, in this process."""
    for place, limits in _PRODUCTION:
        place.update(dict.fromkeys(limits, PATIENT))


@contextmanager
def production_limits() -> Iterator[None]:
    """Those of production, for a while."""
    with ExitStack() as stack:
        for place, limits in _PRODUCTION:
            stack.enter_context(patch.dict(place, limits))
        yield
