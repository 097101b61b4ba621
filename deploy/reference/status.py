"""Writes `docs/reference/status.md`: each condition, reason and Event, and what to do.

`python -m reference.status` writes the page; with `--check` it fails where
the page differs from the catalogue, or where a reason or an Event has no entry in it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from reference.catalogue.conditions import REASONS, TYPES
from reference.catalogue.entry import Entry
from reference.catalogue.events import EVENTS
from reference.catalogue.readings import MISSING
from reference.catalogue.scaling import SCALING
from starforge_backlog.api.status import BreakerState, StepVerdict
from starforge_backlog.decide.plan import Cause, StepKind
from starforge_backlog.decide.reasons import Reported, ScalingReason
from starforge_backlog.report.transitions import FLIPPED, FLIPPED_FOR, READY
from starforge_backlog.snapshot import Why

PAGE: Final = Path("docs", "reference", "status.md")
_CHECKOUT: Final = Path(__file__).resolve().parents[2]

_INTRODUCTION: Final = """\
<!-- Generated from deploy/reference/catalogue by `make crd`; edit the catalogue. -->
# Conditions, reasons and Events

What the status of a policy says, what it means, and what to do. The other fields of the status are
in [policy.md](policy.md#status); what to check first is in [operations.md](../operations.md).

## Conditions

`True` is good for every type. A reason of a missing reading (`Timeout`, `NoPermission` …) can be
in each of them; these reasons are in one table: [Missing readings](#missing-readings).

"""
_INTRODUCTIONS: Final[Mapping[str, str]] = {
    "ProducersRunning": """\
The message lists all pauses. The reason is that of the most urgent one, in the order of this table
from `ReleaseFailed` to `PausedByOthers`.

""",
    "Scaling": """\
The column *Event* says whether a change to the reason is an Event of the same name.

""",
    "Missing readings": """\
A reading that is missing is never taken for 0. A fault of the target, the database, a producer, or
of what waits in a queue and its age makes `Ready` False with one of these reasons. The message
names the object, the field or the Secret, and the statement to run. `Ready` stays True for
`NotYetObserved`, `NoSamples`, `NotInTable`, `NoSource` and `NotConfigured`, and for a missing rate
unless its reason is `QueryError` or `SeveralSeries`. Once the cause is gone, the reading comes back
with one of the next passes; the operator needs no restart.

""",
    "Events": """\
Events are objects of `events.k8s.io/v1`, regarding the policy. Kubernetes keeps them for one hour
by default. Every action is an Event. What can flap is limited to 6 at once and then one per 2
minutes, per kind; the next Event says how many were left out. A change of the reason of `Scaling`
is an Event with the name of the reason ([Scaling](#scaling)), except where it repeats what `Ready`
says.

""",
}
_EVENT: Final[Mapping[Reported, str]] = {
    Reported.NEVER: "no",
    Reported.FIRST: "yes",
    Reported.FIRST_AND_LAST: "yes, and `{reason}Ended`",
}


def render() -> str:
    """The page as Markdown."""
    types = ([f"`{kind}`", *says] for kind, says in TYPES.items())
    parts = [_INTRODUCTION, *_table(("type", "True means", "False means"), types)]
    for kind, reasons in REASONS.items():
        parts += _section(f"### {kind}", ("reason", "status"), reasons)
    parts += _heading("### Scaling")
    columns = ("reason", "status", "Event", "meaning", "what to do")
    parts += _table(columns, map(_scaling, SCALING))
    parts += _section("## Missing readings", ("reason",), MISSING)
    parts += _section("## Events", ("reason", "type"), EVENTS)
    return "".join(parts)


def without_entry() -> tuple[str, ...]:
    """Reasons and Events that the operator can give and the catalogue does not explain. Those that
    code writes out are compared by tests/unit/test_report_reference.py."""
    types, missing = {*FLIPPED, "Scaling"}, {why.value for why in Why}
    scaling = [reason for reason in ScalingReason if reason.value not in missing]
    asked: tuple[tuple[str, Iterable[str], Iterable[str]], ...] = (
        ("type", types, TYPES),
        ("reason of a missing reading", Why, MISSING),
        ("reason of Scaling", scaling, SCALING),
        ("reason of BacklogHealthy", Cause, REASONS["BacklogHealthy"]),
        ("Event", _events(), EVENTS),
    )
    return tuple(
        f"{what} {word}"
        for what, words, known in asked
        for word in words
        if word not in frozenset(known)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when the page is up to date or written, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m reference.status")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument("--root", type=Path, default=_CHECKOUT, help="checkout (%(default)s)")
    chosen = parser.parse_args(arguments)
    for missing in without_entry():
        sys.stderr.write(f"reference/catalogue has no entry for the {missing}\n")
    if without_entry():
        return 1
    page = chosen.root / PAGE
    if not chosen.check:
        page.write_text(render(), encoding="utf-8")
        sys.stdout.write(f"wrote {PAGE}\n")
        return 0
    if not page.is_file() or page.read_text(encoding="utf-8") != render():
        sys.stderr.write(f"{PAGE} differs from reference/catalogue: run `make crd`, commit both\n")
        return 1
    return 0


def _events() -> Iterator[str]:
    for kind, words in FLIPPED.items():
        # Ready is True or False: whether it is cannot be unknown.
        yield from (w for status, w in words.items() if (kind, status) != (READY, "Unknown"))
    yield from FLIPPED_FOR.values()
    yield from (f"Breaker{state}" for state in BreakerState)
    yield from (f"Step{v}" for v in StepVerdict if v is not StepVerdict.OBSERVING)
    yield from (f"Scaled{kind}" for kind in StepKind)
    yield from (
        f"{reason}Ended"
        for reason in ScalingReason
        if reason.means.reported is Reported.FIRST_AND_LAST
    )


def _heading(title: str) -> Iterator[str]:
    yield f"\n{title}\n\n"
    yield _INTRODUCTIONS.get(title.lstrip("# "), "")


def _section(
    title: str, columns: tuple[str, ...], entries: Mapping[str, Entry] | Mapping[Why, Entry]
) -> Iterator[str]:
    yield from _heading(title)
    rows = (
        [f"`{word}`", *([entry.kind] if entry.kind else []), entry.meaning, entry.action]
        for word, entry in entries.items()
    )
    yield from _table((*columns, "meaning", "what to do"), rows)


def _scaling(reason: ScalingReason) -> list[str]:
    entry, means = SCALING[reason], reason.means
    event = _EVENT[means.reported].format(reason=reason)
    return [f"`{reason}`", means.status, event, entry.meaning, entry.action]


def _table(columns: tuple[str, ...], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


if __name__ == "__main__":
    sys.exit(main())
