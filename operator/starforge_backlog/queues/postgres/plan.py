"""Reading `EXPLAIN (FORMAT JSON)`: what a statement would do, before it does it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Plan:
    """The root's cost in the planner's units, and what stands below it."""

    cost: float
    nodes: tuple[Mapping[str, Any], ...]

    @property
    def indexes(self) -> tuple[str, ...]:
        """Names of the indexes that are used, in order, each once."""
        names = (node["Index Name"] for node in self.nodes if "Index Name" in node)
        return tuple(dict.fromkeys(names))

    def scans_more_than(self, cost: float) -> bool:
        """Whether a sequential scan that costs more than `cost` is part of it.

        A cheap one is a small table or an empty partition, which has no better way.
        """
        return any(
            node["Node Type"] == "Seq Scan" and node["Total Cost"] > cost for node in self.nodes
        )

    @property
    def sorts(self) -> bool:
        """Whether rows are sorted below a LIMIT, which then does not bound what is read."""
        return any(node["Node Type"] in ("Sort", "Incremental Sort") for node in self.limited)

    @property
    def skips_rows(self) -> bool:
        """Whether rows are fetched only to be thrown away: then nothing bounds what is read.

        A bitmap is not that: it reads index entries only until the LIMIT has its rows.
        """
        return any("Filter" in node and "Relation Name" in node for node in self.nodes)

    @property
    def rounds(self) -> float:
        """How many rounds the planner expects of recursive queries."""
        return sum(
            float(node["Plan Rows"])
            for node in self.nodes
            if node["Node Type"] == "Recursive Union"
        )

    @property
    def limited(self) -> Iterator[Mapping[str, Any]]:
        """Nodes below a LIMIT."""
        for node in self.nodes:
            if node["Node Type"] == "Limit":
                for child in node["Plans"]:
                    yield from _walk(child)


def parse_plan(rows: list[dict[str, Any]]) -> Plan:
    """The plan from the one row that EXPLAIN returns. Raises ValueError for anything else."""
    if not rows:
        raise ValueError("EXPLAIN returned no row")
    value = next(iter(rows[0].values()))
    document = json.loads(value) if isinstance(value, str) else value
    root = document[0]["Plan"]
    return Plan(float(root["Total Cost"]), tuple(_walk(root)))


def _walk(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)
