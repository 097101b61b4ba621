"""Why a table cannot be read as a queue, as a sentence that names the policy field to fix."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from starforge_backlog.snapshot import Unknown, Why


@dataclass(frozen=True, slots=True)
class Problem:
    """`text` says what is wrong, `field` which field below `spec.queues[…].postgres` fixes it.

    The queue's name is added last: one read of the catalog serves every queue on the table.
    """

    why: Why
    text: str
    field: str = ""

    def unknown(self, queue: str, at: datetime) -> Unknown:
        """This problem as the reason why the readings of `queue` are missing."""
        fix = f"; set spec.queues[{queue}].postgres.{self.field}" if self.field else ""
        return Unknown(self.why, f"{self.text[:1].upper()}{self.text[1:]}{fix}.", at)
