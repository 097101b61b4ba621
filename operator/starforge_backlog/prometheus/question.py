"""An expression of a policy, and how it is named in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from starforge_backlog.api.prometheus import WINDOW

# An expression in a sentence is there to be recognised; the whole of it is in the spec.
SHOWN = 120


@dataclass(frozen=True, slots=True)
class Question:
    """One expression."""

    field: str  # "queues[jobs].prometheus.waiting"
    expression: str  # as it stands in the policy
    window: timedelta  # what $window stands for
    stale_after: timedelta

    @property
    def promql(self) -> str:
        """What is sent."""
        return self.expression.replace(WINDOW, f"{round(self.window.total_seconds())}s")

    def sentence(self, message: str) -> str:
        """A message about it, with the field and the query."""
        query = " ".join(self.promql.split())
        if len(query) > SHOWN:
            query = query[: SHOWN - 1] + "…"
        return f"{self.field} ({query}): {message}"
