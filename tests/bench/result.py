"""What a benchmark hands over: rows for people, bars with their verdict, JSON for machines.

`docs/bench/<name>.json` and `.md` are written by each run and committed, so that a number can be
traced to its machine; `python -m tests.bench` puts the pages together in `docs/benchmarks.md`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.bench.machine import Busy, facts

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ROOT / "docs" / "bench"


@dataclass(frozen=True)
class Bar:
    """One number that was promised, and what came out."""

    what: str
    bar: str
    measured: str
    ok: bool

    @property
    def verdict(self) -> str:
        return "ok" if self.ok else "**missed**"


@dataclass(frozen=True)
class Table:
    """Rows under a title."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> list[str]:
        lines = [f"### {self.title}", ""] if self.title else []
        lines += [_row(self.columns), _row(["---"] * len(self.columns))]
        return [*lines, *(_row(row) for row in self.rows), ""]


@dataclass
class Result:
    """Everything that one benchmark says. `notes` are sentences: how it was measured, what is
    missing."""

    name: str
    title: str
    busy: Busy = field(default_factory=Busy)
    bars: list[Bar] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def bar(self, what: str, bar: str, measured: str, ok: bool) -> None:
        self.bars.append(Bar(what, bar, measured, ok))

    @property
    def ok(self) -> bool:
        return all(bar.ok for bar in self.bars)

    def save(self) -> int:
        """Write both files; the exit code is 0 when every bar was reached."""
        machine = {**facts(), "busy during the run": self.busy.text()}
        PAGES.mkdir(parents=True, exist_ok=True)
        document = {
            "name": self.name,
            "title": self.title,
            "machine": machine,
            "bars": [asdict(bar) for bar in self.bars],
            "tables": [asdict(table) for table in self.tables],
            "notes": self.notes,
            "raw": self.raw,
        }
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (PAGES / f"{self.name}.json").write_text(text + "\n", "utf-8")
        page = self.markdown(machine)
        (PAGES / f"{self.name}.md").write_text(page, "utf-8")
        print(page)
        return 0 if self.ok else 1

    def markdown(self, machine: dict[str, str]) -> str:
        lines = [f"# {self.title}", ""]
        verdicts = [(bar.what, bar.bar, bar.measured, bar.verdict) for bar in self.bars]
        lines += Table("", ("what", "bar", "measured", ""), verdicts).markdown()
        for table in self.tables:
            lines += table.markdown()
        lines += [*(f"- {note}" for note in self.notes), ""] if self.notes else []
        lines += ["Measured on " + "; ".join(f"{k}: {v}" for k, v in machine.items()) + ".", ""]
        lines += [f"Repeat: `make bench` for all, `{command(self.name)}` for this one.", ""]
        return "\n".join(lines)


def command(name: str) -> str:
    """How one benchmark is run from the checkout."""
    return f"PYTHONPATH=operator:deploy .venv/bin/python -m tests.bench.{name}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100).__int__() - 1)]


def spread(values: Sequence[float], unit: str = "s", digits: int = 2) -> list[str]:
    """p50, p99 and the largest, for a row."""
    figures = (percentile(values, 50), percentile(values, 99), max(values))
    return [f"{figure:.{digits}f} {unit}" for figure in figures]
