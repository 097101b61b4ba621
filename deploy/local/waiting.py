"""Waiting for a condition instead of sleeping for a guess."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from local.errors import LocalError

Found = TypeVar("Found")


def eventually(
    poll: Callable[[], Found | None], *, within: float, what: str, every: float = 0.1
) -> Found:
    """The first truthy answer. When it does not come, the last error or answer is in the message.

    Errors of commands and missing keys count as "not yet": an object that is not there, or has no
    status so far, is the usual case.
    """
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            answer = poll()
            if answer:
                return answer
            last = answer
        except (LocalError, LookupError) as error:
            last = error
        if time.monotonic() > deadline:
            raise LocalError(f"{what}: not within {within:g} s. Last seen: {last}")
        time.sleep(every)
