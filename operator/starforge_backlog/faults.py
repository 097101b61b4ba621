"""What a system outside of the operator did wrong, as one exception of one shape."""

from __future__ import annotations

from datetime import datetime

from starforge_backlog.snapshot import Unknown, Why


class Fault(Exception):
    """A system did not answer as it should; each adapter has a class of its own.

    `why` is the reason for conditions, `message` a sentence that says how to fix it. It holds no
    secret.
    """

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why
        self.message = message

    def unknown(self, at: datetime) -> Unknown:
        """This fault as the reason why a reading is missing."""
        return Unknown(self.why, self.message, at)
