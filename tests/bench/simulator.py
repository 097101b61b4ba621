"""How fast the decision drains a storm, against the best time possible within the budget.

    python -m tests.bench.simulator

Time is virtual, so drain times are the same on every machine; passes per second are not.
"""

from __future__ import annotations

import sys
from typing import Final

from tests.bench.result import Result, Table
from tests.simulator.drains import SCENARIOS, STORM_FOR, Drain, measure

# Draining a storm takes at most this many times the best time within the budget.
BAR: Final = 1.15
# "Thousands of passes per second": fewer would make the search for broken promises too slow.
LEAST_PASSES_PER_SECOND: Final = 1000

COLUMNS: Final = (
    "scenario",
    "drained after",
    "best",
    "ratio",
    "peak waiting",
    "most replicas",
    "violations",
    "steps up",
    "reverts",
    "pauses",
    "paused for",
    "passes/s",
)

HOW: Final = f"""\
The real `decide` runs against a model of queue, pods, pools, database and flag in virtual time: 200
connections, 40 of them of other clients, headroom 20, pressure from 80 %, interval 15 s,
observation 90 s. A storm of {STORM_FOR / 60:.0f} minutes brings about a third more jobs than the
whole budget finishes. *Best* is the time to drain the same arrivals for an operator that knows the
storm and runs the whole budget (with a slow database, the best number within it) from its first
second. Where a breaker pauses producers, both drain what the pause let through. Scaling up by
observed steps costs the same few minutes for a storm of any length, so short storms have the
highest ratio. Passes per second are of CPU time. The bar holds where arrivals are steady and steps
may grow (SlowStart)."""


def main() -> int:
    """Measure every scenario, print the table and keep it."""
    result = Result("simulator", "Draining a storm within the budget")
    drains = [measure(scenario) for scenario in SCENARIOS]
    for drain in drains:
        if drain.scenario.bar:
            ratio = drain.ratio
            shown = "never drained" if ratio is None else f"{ratio:.2f} × best"
            result.bar(
                drain.scenario.name, f"≤ {BAR} × best", shown, ratio is not None and ratio <= BAR
            )
    broken = sum(len(drain.broken) for drain in drains)
    result.bar("promises broken, all scenarios", "0", str(broken), broken == 0)
    slowest = min(drain.passes_per_second for drain in drains)
    result.bar(
        "passes per second, slowest scenario",
        f"≥ {LEAST_PASSES_PER_SECOND}",
        f"{slowest:.0f}",
        slowest >= LEAST_PASSES_PER_SECOND,
    )
    result.tables.append(Table("Storms", COLUMNS, [_row(drain) for drain in drains]))
    result.notes.append(HOW.replace("\n", " "))
    return result.save()


def _row(drain: Drain) -> tuple[str, ...]:
    return (
        drain.scenario.name,
        _minutes(drain.seconds),
        _minutes(drain.best),
        "-" if drain.ratio is None else f"{drain.ratio:.2f}",
        str(drain.peak),
        str(drain.most_replicas),
        str(len(drain.broken)),
        str(drain.tally.ups),
        str(drain.tally.reverts),
        str(drain.tally.pauses),
        _minutes(drain.paused_for),
        f"{drain.passes_per_second:.0f}",
    )


def _minutes(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds / 60:.1f} min"


if __name__ == "__main__":
    sys.exit(main())
