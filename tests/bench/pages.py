"""`docs/benchmarks.md` from the pages of the single benchmarks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.result import PAGES, ROOT, Bar, Table

WHOLE: Final = ROOT / "docs" / "benchmarks.md"
# How a benchmark marks a case that failed.
NO_REST: Final = "**did not come to rest**"
# The order in which a reader asks: does it hurt, does it help, is it quick, does it last.
ORDER: Final = (
    *("observer", "bullmq", "bullmq_arrivals", "bullmq_large"),
    *("simulator",),
    *("latency", "start"),
    *("policies", "mixed", "hanging", "isolation", "chaos"),
)


@dataclass(frozen=True)
class Page:
    """What one benchmark left behind when it ran last."""

    name: str
    text: str
    bars: tuple[Bar, ...]
    written: float  # Unix time

    @property
    def title(self) -> str:
        return self.text.splitlines()[0].removeprefix("# ")


def read_page(name: str) -> Page | None:
    """None: it never ran."""
    file = PAGES / f"{name}.md"
    if not file.exists():
        return None
    text = file.read_text("utf-8")
    document = PAGES / f"{name}.json"
    bars = _bars_of(document) if document.exists() else _bars_in(text)
    return Page(name, text, bars, file.stat().st_mtime)


def _bars_of(document: Path) -> tuple[Bar, ...]:
    return tuple(Bar(**bar) for bar in json.loads(document.read_text("utf-8"))["bars"])


def _bars_in(text: str) -> tuple[Bar, ...]:
    """Of a page that was written by hand or by its benchmark alone: `| bar | reached |`."""
    found = []
    rows = text.partition("| bar | reached |")[2].splitlines()[2:]
    for row in rows:
        if not row.startswith("|"):
            break
        promise, reached = (cell.strip() for cell in row.strip("|").split("|"))
        found.append(Bar(promise, "", reached, reached.startswith("yes")))
    return tuple(found)


def summary(pages: list[Page], *, failed: frozenset[str] = frozenset()) -> Table:
    """Every bar, and whether it was reached."""
    rows = [
        (page.name, bar.what, bar.bar, bar.measured, bar.verdict)
        for page in pages
        for bar in page.bars
    ]
    rows += [(name, "ran to its end", "yes", "no", "**missed**") for name in sorted(failed)]
    return Table("", ("benchmark", "what", "bar", "measured", ""), rows)


def assemble(pages: list[Page]) -> str:
    """The page of all pages."""
    bars = [bar for page in pages for bar in page.bars]
    missed = [bar for bar in bars if not bar.ok]
    verdict = (
        f"{len(missed)} of {len(bars)} bars are missed." if missed else "All bars are reached."
    )
    lines = [
        "# Benchmarks",
        "",
        "<!-- Generated: `make bench`, or `python -m tests.bench --assemble` from docs/bench/. -->",
        "",
        f"{verdict} Each number is from one run on one machine. Each section names its machine",
        "and the load. Ratios compare slices that alternated in the same run. `make bench` repeats",
        "all benchmarks (about 60 minutes); each section says how to repeat one.",
        "",
        *summary(pages).markdown(),
        *(f"Beyond the bars, {line.removeprefix('- ')}" for line in _failures(pages)),
        "",
    ]
    for page in pages:
        lines += [re.sub(r"(?m)^#", "##", page.text).rstrip(), ""]
    return "\n".join(lines)


def _failures(pages: list[Page]) -> list[str]:
    """Cases without a bar that failed: they belong at the top as well."""
    lines = [line for page in pages for line in page.text.splitlines()]
    return [line for line in lines if line.startswith("- ") and NO_REST in line]


def write() -> list[Page]:
    """Put the page together from what is there."""
    pages = [page for name in ORDER if (page := read_page(name)) is not None]
    WHOLE.write_text(assemble(pages), "utf-8")
    return pages
