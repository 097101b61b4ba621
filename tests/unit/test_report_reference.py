"""The catalogue has an entry for each condition, reason and Event that the code can make.

What the code can make is read from its syntax: each `Draft` is a condition, each `Note` and each
`post` an Event. An expression that this file cannot follow fails, so that nothing is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

import starforge_backlog
from reference import status as status_reference
from reference.catalogue import conditions, events, readings, scaling
from reference.catalogue.events import EVENTS
from reference.catalogue.readings import MISSING
from reference.catalogue.scaling import SCALING as SCALINGS
from starforge_backlog.api.status import BreakerState, ConditionStatus, StepVerdict
from starforge_backlog.decide.plan import Cause, StepKind
from starforge_backlog.decide.reasons import Reported, ScalingReason
from starforge_backlog.decide.results import NotDone
from starforge_backlog.report.transitions import FLIPPED, FLIPPED_FOR
from starforge_backlog.snapshot import Why

REPORT: Final = Path(starforge_backlog.__file__).parent / "report"
SCALING: Final = "Scaling"

Function = ast.FunctionDef | ast.AsyncFunctionDef

# A conflict is no reason of a condition: the next pass tries again.
FAILED: Final = frozenset({*Why, NotDone.ELSEWHERE})
ALWAYS_REPORTED: Final = frozenset(
    r for r in ScalingReason if r.means.reported is not Reported.NEVER
)
# What an expression can be, where the syntax alone does not show it: function and expression.
VALUES: Final[Mapping[tuple[str, str], Iterable[str]]] = {
    # Conditions.
    ("_ready", "broken[0][1].why"): Why,
    ("_ready", "trouble[0]"): FAILED,
    ("_backlog", "causes[0].cause.value"): Cause,
    ("_unread", "reason"): Why,
    ("_headroom", "why"): Why,
    ("_headroom", "reason"): Why,
    ("_consumers", "unknown.why"): Why,
    ("_producers", "reading.why"): Why,
    ("_scaling", "stuck[0]"): Why,
    ("_scaling", "reason"): ScalingReason,
    ("_scaling", "reason.means.status"): ConditionStatus,
    ("not_followed", "NOT_FOLLOWED"): (ScalingReason.NOT_FOLLOWED,),
    # Events.
    ("_breakers", "b.state"): BreakerState,
    # A step that is judged is observed no more.
    ("_verdict", "step.verdict"): frozenset(StepVerdict) - {StepVerdict.OBSERVING},
    ("_actions", "action.kind"): StepKind,
    ("_scaling", "now.reason"): ALWAYS_REPORTED,
    ("_scaling", "was"): tuple(
        r for r in ScalingReason if r.means.reported is Reported.FIRST_AND_LAST
    ),
}
CONSTANTS: Final = {"TRUE": "True", "FALSE": "False", "UNKNOWN": "Unknown"}


class Unclear(AssertionError):
    """An expression whose values this file does not know."""


class Module:
    """One file of report/."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._tree = ast.parse(path.read_text("utf-8"))
        self.functions = {
            node.name: node
            for node in ast.walk(self._tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }

    def calls(self, name: str) -> Iterator[tuple[Function, ast.Call]]:
        """Calls of a function or method of that name, each with the function it stands in."""
        for function in self.functions.values():
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and name in {_name_of(node.func), _attr(node.func)}:
                    yield function, node


def modules() -> tuple[Module, ...]:
    return tuple(Module(path) for path in sorted(REPORT.glob("*.py")))


MODULES: Final = modules()


def values(node: ast.expr, function: Function) -> frozenset[str]:
    """Each text that the expression can be."""
    known = VALUES.get((function.name, ast.unparse(node)))
    if known is not None:
        return frozenset(str(value) for value in known)
    match node:
        case ast.Constant(value=str(text)):
            return frozenset({text})
        case ast.IfExp(body=one, orelse=other):
            return values(one, function) | values(other, function)
        case ast.JoinedStr(values=parts):
            each = [values(part, function) for part in parts]
            return frozenset("".join(words) for words in product(*each))
        case ast.FormattedValue(value=inner):
            return values(inner, function)
        case ast.Attribute(value=ast.Name(id="ScalingReason"), attr=name):
            return frozenset({str(ScalingReason[name])})
        case ast.Name(id=name) if name in CONSTANTS:
            return frozenset({CONSTANTS[name]})
        case ast.Name(id="READY"):
            return frozenset({"Ready"})
        case ast.Name(id=name):
            return _assigned(name, function)
        case ast.Subscript(value=ast.Name(id=name)):
            return _items(name, function)
        case ast.Call(func=ast.Name(id=name)):
            return _returned(name)
        case _:
            text = ast.unparse(node)
            raise Unclear(f"{function.name}: what can {text} be? Say it in VALUES")


def _assigned(name: str, function: Function) -> frozenset[str]:
    """What a local name is set to, anywhere in the function."""
    found: list[ast.expr] = []
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        (target,) = node.targets
        match target, node.value:
            case ast.Name(id=left), value if left == name:
                found.append(value)
            case ast.Tuple(elts=left), ast.Tuple(elts=right):
                pairs = zip(left, right, strict=True)
                found += [v for t, v in pairs if isinstance(t, ast.Name) and t.id == name]
            case _:
                pass
    if not found:
        raise Unclear(f"{function.name}: what can {name} be? Say it in VALUES")
    return frozenset().union(*(values(value, function) for value in found))


def _items(name: str, function: Function) -> frozenset[str]:
    """The values of a dictionary that the function writes out."""
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Assign)
            and _name_of(node.targets[0]) == name
            and isinstance(node.value, ast.Dict)
        ):
            return frozenset().union(*(values(value, function) for value in node.value.values))
    raise Unclear(f"{function.name}: {name} is no dictionary that can be read")


def _returned(name: str) -> frozenset[str]:
    """What a function of report/ returns."""
    for module in MODULES:
        if name in module.functions:
            function = module.functions[name]
            returns = [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value]
            return frozenset().union(*(values(value, function) for value in returns))
    raise Unclear(f"no function {name} in report/")


def _name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _attr(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else ""


def _argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    named = next((word.value for word in call.keywords if word.arg == name), None)
    return named or (call.args[place] if len(call.args) > place else None)


# --- what the code can make --------------------------------------------------------------------


def made_conditions() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Reasons and statuses by the type of the condition."""
    reasons: dict[str, set[str]] = {}
    statuses: dict[str, set[str]] = {}
    for module in MODULES:
        for function, call in module.calls("Draft"):
            kind, status, reason = call.args[:3]
            if ast.unparse(kind) == "c.type":
                continue  # all conditions at once, with a reason that they share with Ready
            for name in values(kind, function):
                statuses.setdefault(name, set()).update(values(status, function))
                reasons.setdefault(name, set()).update(_reasons(reason, function))
    # Where the reason is the first of a list that is filled on the way.
    reasons["ProducersRunning"] |= _words_of_pauses()
    # A draft that is changed: `replace(draft, reason=…)`.
    for module in MODULES:
        for function, call in module.calls("replace"):
            changed = _argument(call, 99, "reason")
            if changed is not None:
                assert function.name == "unless_nothing_works", "whose condition is it?"
                reasons[SCALING] |= values(changed, function)
    return reasons, statuses


def _reasons(node: ast.expr, function: Function) -> frozenset[str]:
    if (function.name, ast.unparse(node)) == ("_producers", "pauses[0][0]"):
        return _words_of_pauses()
    return values(node, function)


def _words_of_pauses() -> frozenset[str]:
    """First parts of the pairs that `_producers` and `_pause` put on the list."""
    (module,) = (m for m in MODULES if m.name == "conditions.py")
    found = set()
    for name in ("_producers", "_pause"):
        for node in ast.walk(module.functions[name]):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"\A[A-Z][a-z]+[A-Z]?\w*\Z", node.value))
    return frozenset(found - {"ProducersRunning"})


def made_events() -> set[str]:
    """Every reason of an Event."""
    found = set(FLIPPED_FOR.values())
    _, statuses = made_conditions()
    for kind, possible in statuses.items():
        if kind != SCALING:
            found |= {FLIPPED[kind][status] for status in possible}
    for module in MODULES:
        for function, call in module.calls("Note"):
            if function.name != "_conditions":  # counted above
                reason = _argument(call, 1, "reason")
                assert reason is not None
                found |= values(reason, function)
        for function, call in module.calls("post"):
            reason = _argument(call, 99, "reason")
            assert reason is not None
            if ast.unparse(reason) not in {"note.reason", "reason"}:  # handed on
                found |= values(reason, function)
    return found


REASONS, STATUSES = made_conditions()
TYPES: Final = tuple(sorted(REASONS))
EVENT_REASONS: Final = frozenset(made_events())


# --- what the catalogue says -------------------------------------------------------------------


def test_the_code_is_read() -> None:
    """Else everything below would pass because nothing was found."""
    assert set(TYPES) == {
        *("Ready", "BacklogHealthy", "DatabaseHeadroom", "ConsumersHealthy"),
        *("ProducersRunning", SCALING),
    }
    assert {"BreakerOpen", "ScaledSafe", "MaximumLowered", "HeldEnded"} <= EVENT_REASONS
    assert {"NotReady", "ReadyNotKnown"} & EVENT_REASONS == {"NotReady"}
    assert {"AnotherOperator", "StatusRefused", "ResumedByOthers", "Resuming"} <= EVENT_REASONS
    assert {"PausedWithoutEffect", "ReleaseFailed", "Probing"} <= REASONS["ProducersRunning"]


def test_what_cannot_be_followed_is_no_silence() -> None:
    function = ast.parse("def new(x): return Note(True, x.word)").body[0]
    assert isinstance(function, ast.FunctionDef)
    with pytest.raises(Unclear, match=r"what can x\.word be"):
        values(ast.parse("x.word", mode="eval").body, function)


def test_reasons_and_events_name_what_happened() -> None:
    """The status of a condition says that something is unknown or not so; its reason says what."""
    assert [kind for kind, reasons in REASONS.items() if "Unknown" in reasons] == []
    events = EVENT_REASONS - {str(reason) for reason in ScalingReason}
    assert {word for word in events if re.match("Not[A-Z]|.*Unknown", word)} == {"NotReady"}


def test_each_type_of_a_condition_has_an_entry() -> None:
    assert set(conditions.TYPES) == set(TYPES)


@pytest.mark.parametrize("kind", TYPES)
def test_each_reason_of_a_condition_has_an_entry(kind: str) -> None:
    """Those of missing readings have theirs once, for all conditions."""
    found = SCALINGS if kind == SCALING else conditions.REASONS[kind]
    assert set(found) == REASONS[kind] - {str(why) for why in Why}


@pytest.mark.parametrize("kind", sorted(conditions.REASONS))
def test_each_reason_names_the_status(kind: str) -> None:
    named = {entry.kind for entry in conditions.REASONS[kind].values()}
    assert named <= {status.value for status in ConditionStatus} | {"True or False"}


def test_each_reason_of_a_missing_reading_has_an_entry() -> None:
    assert set(MISSING) == set(Why)


def test_each_event_has_an_entry() -> None:
    """A reason of Scaling is an Event of that name; it has its entry there."""
    scaling = {str(reason) for reason in ScalingReason}
    assert set(EVENTS) == EVENT_REASONS - scaling
    assert {entry.kind.partition(",")[0] for entry in EVENTS.values()} == {"Normal", "Warning"}


def test_no_entry_is_empty() -> None:
    entries = [*SCALINGS.values(), *MISSING.values(), *EVENTS.values()]
    entries += [entry for reasons in conditions.REASONS.values() for entry in reasons.values()]
    assert all(entry.meaning and entry.action for entry in entries)


def test_the_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_reference.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "table", "word"),
    [
        (readings, "MISSING", Why.STALE),
        (scaling, "SCALING", ScalingReason.HELD),
        (events, "EVENTS", "StepFailed"),
        (events, "EVENTS", "ObjectivesNotKnown"),
        (conditions, "TYPES", "Ready"),
    ],
)
def test_a_word_without_an_entry_fails_the_check(
    module: ModuleType,
    table: str,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = {key: entry for key, entry in getattr(module, table).items() if key != word}
    monkeypatch.setattr(status_reference, table, left)
    assert status_reference.main(["--check"]) == 1
    assert str(word) in capsys.readouterr().err


def test_the_page_says_when_a_reason_of_scaling_is_an_event() -> None:
    page = status_reference.render()
    assert "| `Held` | False | yes, and `HeldEnded` |" in page
    assert "| `Steady` | True | no |" in page
