"""Redis servers of our own to mistreat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from local.errors import LocalError
from local.redis import RedisServer as LocalRedis

StartRedis = Callable[..., LocalRedis]


@contextmanager
def starting(factory: pytest.TempPathFactory) -> Iterator[StartRedis]:
    """`RedisServer.start` without its folder; what it starts is closed in the end."""
    with ExitStack() as stack:

        def start(**options: Any) -> LocalRedis:
            try:
                server = LocalRedis.start(factory.mktemp("redis"), **options)
            except LocalError as error:
                pytest.fail(f"Redis did not start: {error}", pytrace=False)
            stack.callback(server.close)
            return server

        yield start
