"""No decision depends on wording: other sentences, the same decisions, reasons and statuses."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import Phase, given, settings
from tests.simulator import operator as simulated
from tests.simulator.given import NOW, OWNER, fresh_policy, queue, seen, workload
from tests.simulator.pasts import held, remembering, storm
from tests.simulator.play import play
from tests.simulator.setup import Event, Setup
from tests.simulator.situations import other_clients
from tests.simulator.storms import STORM, setups, storms
from tests.simulator.wordless import garbled, without_semicolons, wordless
from tests.thorough import THOROUGH
from tests.unit.guards import at as guarded
from tests.unit.test_decide_guard import HELD

import starforge_backlog
from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import BreakerState, QueueBacklogPolicyStatus
from starforge_backlog.decide.claims import reported_claim
from starforge_backlog.decide.decision import decide
from starforge_backlog.decide.guard import maximum
from starforge_backlog.decide.plan import Plan
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.decide.situation import Outcome, Situation, hold
from starforge_backlog.decide.steps import ownership, scaling, sleep, step_observation
from starforge_backlog.report.conditions import Troubles, conditions
from starforge_backlog.report.status import report
from starforge_backlog.report.transitions import transitions
from starforge_backlog.snapshot import Claim, Snapshot, Unknown, Why

NEW = QueueBacklogPolicyStatus()
T = TypeVar("T")
SALTS = ("a", "b", "c")


def in_other_words(salt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules hear other sentences from each other as well."""

    def other(at: Situation, reason: ScalingReason, message: str) -> Outcome:
        return garbled(hold(at, reason, message), salt)

    for rules in (scaling, sleep, step_observation, maximum, ownership):
        monkeypatch.setattr(rules, "hold", other)


class Passes:
    """Decides and reports, and keeps what is left of it without its words."""

    def __init__(self, salt: str | None) -> None:
        """`salt` makes the other words; None: our own."""
        self._salt = salt
        self.course: list[object] = []
        self._shown = NEW

    def __call__(
        self,
        spec: QueueBacklogPolicySpec,
        before: QueueBacklogPolicyStatus,
        snapshot: Snapshot,
        now: datetime,
        **more: Any,
    ) -> Plan:
        plan = self._said(decide(spec, self._said(before), self._said(snapshot), now, **more))
        shown = report(spec, self._shown, plan, (), 1, now)
        notes = transitions(self._shown, shown, ())
        self.course.append(
            (
                [wordless(action) for action in plan.actions],
                len(plan.would),
                wordless(plan.status),
                (plan.claim, plan.allowed, plan.assessment.scaling_reason),
                wordless(shown),
                # A part that says nothing is left out, whatever the words for nothing are.
                shown.summary.count(";"),
                [(note.warning, note.reason, note.action) for note in notes],
            )
        )
        self._shown = self._said(shown)
        return plan

    def _said(self, value: T) -> T:
        return without_semicolons(value) if self._salt is None else garbled(value, self._salt)


# --- over random storms --------------------------------------------------------------------------


@pytest.mark.timeout(600)
@settings(
    max_examples=4 if THOROUGH else 2,
    phases=[Phase.generate],
    derandomize=True,
)
@given(setups(), storms())
def test_a_storm_goes_the_same_way_in_any_words(setup: Setup, events: tuple[Event, ...]) -> None:
    def course(salt: str | None) -> list[object]:
        passes = Passes(salt)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(simulated, "decide", passes)
            if salt is not None:
                in_other_words(salt, patched)
            play(setup, events, until=STORM)
        return passes.course

    ours = course(None)
    assert course("a") == ours


# --- with each reading missing for each reason ----------------------------------------------------


def missing(part: str, why: Why) -> Snapshot:
    gone: Any = Unknown(why, "connection refused", NOW)
    if part == "autoscaler":
        return replace(storm(), autoscaler=gone)
    changes = {part: gone}
    if part in {"arrivals", "oldest", "throughput"}:
        return seen(queues=queue(9000, **changes))
    return storm(**changes)


@pytest.mark.parametrize(
    "part",
    [
        *("target", "each", "open_now", "state", "producers", "autoscaler"),
        *("arrivals", "oldest", "throughput"),
    ],
)
def test_a_missing_reading_means_the_same_in_any_words(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = remembering(
        fresh_policy(), breaker=BreakerState.OPEN, paused=(held(message="it is paused"),)
    )

    def course(salt: str | None) -> list[object]:
        passes = Passes(salt)
        for why in Why:
            passes(policy.spec, policy.status, missing(part, why), NOW, owner=OWNER)
        return passes.course

    ours = course(None)
    in_other_words("a", monkeypatch)
    assert course("a") == ours


@pytest.mark.parametrize("salt", SALTS)
def test_nothing_to_say_is_said_in_no_words(salt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steady, and no step needed: the summary has no part for it."""
    policy, calm = fresh_policy(), seen(target=workload(1), queues=queue(0))
    ours = Passes(None)
    plan = ours(policy.spec, policy.status, calm, NOW, owner=OWNER)
    assert plan.assessment.scaling_reason == "Steady"
    in_other_words(salt, monkeypatch)
    others = Passes(salt)
    others(policy.spec, policy.status, calm, NOW, owner=OWNER)
    assert others.course == ours.course


@pytest.mark.parametrize("changes", [changes for changes, _ in HELD])
def test_a_guard_decides_the_same_in_any_words(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    situation = guarded(**changes)
    ours = wordless(maximum.guard(situation))
    in_other_words("a", monkeypatch)
    assert wordless(maximum.guard(garbled(situation))) == ours


# --- a reason in another word --------------------------------------------------------------------


def renamed(reason: ScalingReason) -> ScalingReason:
    """A reason of the same meaning that nobody has heard of."""
    other = str.__new__(ScalingReason, f"Not{reason.value}")
    other._name_, other._value_ = f"NOT_{reason.name}", f"Not{reason.value}"
    other.means = reason.means
    return other


PODS = workload(4)
CLAIM = Claim("ns/etl", "etl", 40, per_replica=10, asked=70)


@pytest.mark.parametrize("reason", ScalingReason)
def test_a_reason_is_known_by_its_meaning(reason: ScalingReason) -> None:
    budget, other = other_clients(10, PODS), renamed(reason)
    assert other != reason
    assert reported_claim(CLAIM, budget, 9, PODS, other) == reported_claim(
        CLAIM, budget, 9, PODS, reason
    )

    policy = fresh_policy()
    plan = policy.decide(seen())

    def status(word: ScalingReason) -> str:
        said = replace(plan, assessment=replace(plan.assessment, scaling_reason=word))
        found = conditions(policy.spec, said, NEW, Troubles(), 1, NOW)
        return next(one.status for one in found if one.type == "Scaling")

    assert status(other) == status(reason)


# --- in the code ---------------------------------------------------------------------------------

CODE = Path(starforge_backlog.__file__).parent
# Those who read what others wrote: URLs, expressions, answers of servers, and their own lines.
READS_TEXT = (
    *("databases/", "redis/", "prometheus/", "http/", "cluster/", "queues/", "producers/rows.py"),
    "api/server_place.py",
    *("report/rounding.py", "report/logs.py", "release_command.py"),
)
# ... but sentences of ours are not read there either.
NOT_THESE = ("queues/bullmq/observer.py", "queues/postgres/reading.py")
ASKS = {"split", "rsplit", "partition", "rpartition", "replace", "startswith", "endswith", "find"}
ASKS |= {"removeprefix", "removesuffix", "index", "count"}
SENTENCES = {
    "message",
    "summary",
    "evidence",
    "scaling_message",
    "verdict_message",
    "not_ready_why",
}


def read_sentences(code: str) -> Iterator[str]:
    """Places that compare, search or cut what seems to be a sentence: by a piece of one, with a
    blank or a placeholder in it, or by the name of what holds one."""
    tree = ast.parse(code)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }

    def is_piece(node: ast.expr) -> bool:
        value = constants.get(node.id) if isinstance(node, ast.Name) else None
        value = node.value if isinstance(node, ast.Constant) else value
        return isinstance(value, str) and (" " in value.replace(", ", "") or "[]" in value)

    def is_sentence(node: ast.expr) -> bool:
        return isinstance(node, ast.Attribute) and node.attr in SENTENCES

    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            words = any(isinstance(side, ast.Constant) and side.value for side in sides)
            if any(map(is_piece, sides)) or (words and any(map(is_sentence, sides))):
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            cuts = node.func.attr in ASKS
            if cuts and (any(map(is_piece, node.args)) or is_sentence(node.func.value)):
                yield f"{node.lineno}: {ast.unparse(node)}"


def test_no_code_reads_a_sentence() -> None:
    found = {
        f"{name}:{place}"
        for path in sorted(CODE.rglob("*.py"))
        for name in [path.relative_to(CODE).as_posix()]
        if name in NOT_THESE or not name.startswith(READS_TEXT)
        for place in read_sentences(path.read_text())
    }
    assert found == set()


@pytest.mark.parametrize(
    "code",
    [
        'text == "no step needed"',
        '"That is Secret" in fault.message',
        'made_at.partition(" at ")',
        '_SYSTEM = "system "\nwas.startswith(_SYSTEM)',
        'pods.not_ready_why.partition(": ")',
        'seen.message.replace("queues[]", name)',
    ],
)
def test_such_code_is_found(code: str) -> None:
    assert list(read_sentences(code))
