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
from starforge_backlog.producers import job_types_table, webhook_calls
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
_CONSTANTS: Final[tuple[tuple[Any, str], ...]] = (
    (topology, "DISCOVERY_LIMIT"),
    (topology, "SENTINEL_LIMIT"),
    (job_types_table, "BATCHES_FOR"),
    (webhook_calls, "EXCHANGE_SECONDS"),
)
_PRODUCTION: Final[list[tuple[dict[str, Any], dict[str, timedelta | float]]]] = [
    *(
        (function.__kwdefaults__, {name: function.__kwdefaults__[name] for name in names})
        for function, names in _FUNCTIONS
    ),
    *((vars(module), {name: vars(module)[name]}) for module, name in _CONSTANTS),
]


def _all(limits: dict[str, timedelta | float], each: timedelta) -> dict[str, timedelta | float]:
    """The same, each as long as that."""
    return {
        name: each if isinstance(limit, timedelta) else each.total_seconds()
        for name, limit in limits.items()
    }


def be_patient() -> None:
    """From now on, in this process."""
    for place, production in _PRODUCTION:
        place.update(_all(production, PATIENT))


@contextmanager
def limits(each: timedelta | None = None) -> Iterator[None]:
    """For a while all limits are `each`, or those of production."""
    with ExitStack() as stack:
        for place, production in _PRODUCTION:
            chosen = production if each is None else _all(production, each)
            stack.enter_context(patch.dict(place, chosen))
        yield
