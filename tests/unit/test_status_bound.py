"""A status has a size that no input can exceed, and what it remembers is never cut (P6)."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulator.given import NOW, fresh_policy, queue, seen, spec

from reference.structural import structural
from starforge_backlog.api.base import StatusModel
from starforge_backlog.api.bounds import (
    MOST_MEMORY_BYTES,
    MOST_PREVIOUS_BYTES,
    MOST_STATUS_BYTES,
    MOST_WHERE_CHARACTERS,
    Kept,
    Shown,
)
from starforge_backlog.api.breaker import MOST_NAMES, MOST_RULES
from starforge_backlog.api.fitting import fitted, size
from starforge_backlog.api.status import (
    MOST_CONDITIONS,
    MOST_PAUSES,
    MOST_TYPES_SHOWN,
    BreakerState,
    BreakerStatus,
    PausedBy,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.decide.pauses import server_identity
from starforge_backlog.decide.pauses.memory import MARK_BYTES, storable
from starforge_backlog.decide.pauses.pausing import Producers
from starforge_backlog.decide.plan import Pause
from starforge_backlog.decide.results import Paused, PauseOutcome, Result
from starforge_backlog.producers.job_types_plan import HoldPlan
from starforge_backlog.report.status import MORE_TYPES, report
from starforge_backlog.snapshot import Count, FlagValue, Known, ProducerReading

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
# What takes most bytes per character in JSON, here or at the API server, and what it refuses.
HOSTILE = ["x", "<", "\u2028", "é", "𝔘", "\x00", "\n", '"', "\\", "\ud800"]
# Lists that are as long as a spec allows, or longer than they are shown.
LONGEST = {
    "queues": MOST_NAMES,
    "breakers": MOST_NAMES,
    "rules": MOST_RULES,
    "conditions": MOST_CONDITIONS,
    "paused": MOST_PAUSES,
    "owners": 60,
    "notes": 60,
    "missed": 60,
    "types": 60,
    "held_by": 60,
}

# Lists whose items differ in a field.
KEYS = {"queues": "name", "breakers": "name", "paused": "producer", "conditions": "type"}


def models(root: type[StatusModel] = QueueBacklogPolicyStatus) -> Iterator[type[StatusModel]]:
    """The status and all models in it."""
    yield root
    for field in root.model_fields.values():
        for part in parts_of(field.annotation):
            if isinstance(part, type) and issubclass(part, StatusModel):
                yield from models(part)


def parts_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in typing.get_args(annotation):
        yield from parts_of(part)


def test_every_text_and_list_says_whether_it_is_shown_or_kept() -> None:
    for model in models():
        for name, field in model.model_fields.items():
            texts = [part for part in parts_of(field.annotation) if part in {str, dict}]
            marked = any(isinstance(mark, Shown | Kept) for mark in field.metadata)
            assert marked or not texts, f"{model.__name__}.{name} has no bound"
            of_texts = texts and typing.get_origin(field.annotation) in {tuple, dict}
            for mark in field.metadata:
                if of_texts and isinstance(mark, Shown):
                    assert mark.items is not None, f"{model.__name__}.{name} has no end"


def filled(model: type[StatusModel], text: str) -> StatusModel:
    """Every text field holds `text`, every list is as long as it can be, memory is ordinary."""
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if any(isinstance(mark, Kept) for mark in field.metadata):
            values[name] = {"way": "{}"} if name == "locator" else "memory"
            continue
        values[name] = value_of(field.annotation, name, text)
    return model.model_construct(**values)


def value_of(annotation: Any, name: str, text: str) -> object:
    if isinstance(annotation, type) and issubclass(annotation, StatusModel):
        return filled(annotation, text)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return next(iter(annotation))
    match typing.get_origin(annotation):
        case types.UnionType | typing.Union:
            return value_of(typing.get_args(annotation)[0], name, text)
        case origin if origin is tuple:
            item: Any = value_of(typing.get_args(annotation)[0], name, text)
            if name not in KEYS:
                return (item,) * LONGEST[name]
            numbers = range(LONGEST[name])
            return tuple(item.model_copy(update={KEYS[name]: f"n{number}"}) for number in numbers)
        case origin if origin is dict:
            return {f"{number}{text}": text for number in range(LONGEST[name])}
    samples: dict[Any, object] = {str: text, int: 10**9, float: 1 / 3, bool: True}
    return samples.get(annotation, MOMENT)


@pytest.mark.parametrize("sign", HOSTILE, ids=ascii)
def test_a_status_full_of_hostile_text_fits_and_keeps_its_memory(sign: str) -> None:
    status = filled(QueueBacklogPolicyStatus, sign * 1_000)
    assert isinstance(status, QueueBacklogPolicyStatus)
    cut = fitted(status)
    assert size(cut) <= MOST_STATUS_BYTES
    assert [e.previous for e in cut.paused] == ["memory"] * MOST_PAUSES
    assert [e.token for e in cut.paused] == ["memory"] * MOST_PAUSES
    assert fitted(cut) == cut, "a steady status is written once"
    read_back = json.loads(json.dumps(cut.model_dump(mode="json", by_alias=True)))
    assert len(read_back["queues"]) == MOST_NAMES


def test_it_fits_beside_as_much_memory_as_is_ever_remembered() -> None:
    status = filled(QueueBacklogPolicyStatus, "<" * 1_000)
    assert isinstance(status, QueueBacklogPolicyStatus)
    each = MOST_MEMORY_BYTES // MOST_PAUSES
    entries = tuple(e.model_copy(update={"previous": "x" * each}) for e in status.paused)
    cut = fitted(status.model_copy(update={"paused": entries}))
    assert size(cut) <= MOST_STATUS_BYTES
    assert {e.previous for e in cut.paused} == {"x" * each}


def test_no_list_is_longer_than_the_schema_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server would refuse the status, and with it all that is remembered."""
    for name, length in LONGEST.items():
        monkeypatch.setitem(LONGEST, name, 3 * length)
    status = filled(QueueBacklogPolicyStatus, "x")
    assert isinstance(status, QueueBacklogPolicyStatus)
    found = fitted(status).model_dump(mode="json", by_alias=True, exclude_none=True)
    lengths = lists_in(structural(QueueBacklogPolicyStatus), found)
    assert len({path for path, _, _ in lengths}) == 9, "each list was filled"
    assert [(path, long, most) for path, long, most in lengths if long > most] == []


def lists_in(schema: Any, value: Any, path: str = "status") -> list[tuple[str, int, int]]:
    """Each list with its length and its bound."""
    if schema["type"] == "array":
        inside = [found for item in value for found in lists_in(schema["items"], item, f"{path}[]")]
        return [(path, len(value), schema["maxItems"]), *inside]
    fields = schema.get("properties", {})
    return [
        found
        for name, field in fields.items()
        if name in value
        for found in lists_in(field, value[name], f"{path}.{name}")
    ]


@settings(max_examples=20)
@given(st.text(alphabet=st.characters(), max_size=300), st.integers(1, 3_000))
def test_any_text_fits(text: str, times: int) -> None:
    status = filled(QueueBacklogPolicyStatus, (text * times)[:3_000])
    assert isinstance(status, QueueBacklogPolicyStatus)
    cut = fitted(status)
    assert size(cut) <= MOST_STATUS_BYTES
    assert fitted(cut) == cut


def test_an_ordinary_status_is_left_as_it_is() -> None:
    policy = fresh_policy()
    plan = policy.decide(seen())
    status = report(policy.spec, policy.status, plan, (), 1, NOW)
    assert fitted(status) is status


def test_a_full_list_keeps_what_has_to_be_released() -> None:
    def entry(number: int, state: PauseState) -> PauseStatus:
        return PauseStatus(producer=f"p{number}", by=PausedBy.US, state=state, since=NOW)

    others = [entry(number, PauseState.FOREIGN) for number in range(MOST_PAUSES)]
    ours = [entry(1_000, PauseState.HELD), entry(1_001, PauseState.OVERRIDDEN)]
    cut = fitted(QueueBacklogPolicyStatus(paused=tuple(others + ours)))
    assert len(cut.paused) == MOST_PAUSES
    assert cut.paused[-2:] == tuple(ours)


def test_of_two_items_with_the_same_key_the_last_one_counts() -> None:
    """The API server refuses a status with both, and with it all that is remembered."""
    first, last = (entry("p", token=token, state=PauseState.HELD) for token in ("1", "2"))
    cut = fitted(QueueBacklogPolicyStatus(paused=(first, entry("q"), last)))
    assert cut.paused == (last, entry("q"))


def test_types_that_are_not_shown_are_counted() -> None:
    policy = fresh_policy()
    names = [f"{number:05}{'{' * 80_000 if number < 3 else ''}" for number in range(10_000)]
    # a payload that was given as the name of its job, three times
    reading = replace(queue(20_000), types={name: Count(2) for name in names})
    plan = policy.decide(seen(queues=reading))
    status = report(policy.spec, policy.status, plan, (), 1, NOW)
    types_ = status.queues[0].types
    assert len(types_) == MOST_TYPES_SHOWN + 1
    assert types_[MORE_TYPES] == "and 10000 more types"
    assert max(map(len, types_)) <= 100
    again = report(policy.spec, status, plan, (), 1, NOW)
    assert again.queues == status.queues
    assert size(status) < 20_000


# --- a pause whose memory does not fit ----------------------------------------------------------

BACKFILLS = {"name": "backfills", "backfillJobs": {}}
MAP = {"name": "api", "configMap": {"name": "api"}}


def entry(name: str, **changes: Any) -> PauseStatus:
    found: dict[str, Any] = {
        "producer": name,
        "by": PausedBy.US,
        "state": PauseState.INTENDED,
        "since": NOW,
        "breaker": "b",
        "token": f"uid-1/{name}/2026-01-01T00:00:00.000+00:00",
    }
    return PauseStatus(**(found | changes))


def pause(name: str, way: str) -> Pause:
    return Pause(name, "b", entry(name).token, "storm", way=way)


def ids(count: int, length: int) -> str:
    return json.dumps({f"{number:0{length}}": None for number in range(count)})


def test_a_pause_whose_memory_fits_is_made() -> None:
    policy = spec(producers=[BACKFILLS, MAP])
    wanted = Producers(
        (pause("api", "configMap"), pause("backfills", "backfillJobs")),
        (entry("api"), entry("backfills", previous=ids(200, 36))),
    )
    assert storable(policy, wanted, ()) == wanted


def test_a_pause_whose_memory_does_not_fit_is_refused_and_the_others_are_made() -> None:
    """Ids may be any text: 200 of them of 2 kB are more than status holds."""
    policy = spec(producers=[BACKFILLS, MAP])
    large = entry("backfills", previous=ids(200, 2_000))
    found = storable(
        policy,
        Producers(
            (pause("backfills", "backfillJobs"), pause("api", "configMap")), (large, entry("api"))
        ),
        (),
    )
    assert [action.producer for action in found.actions if isinstance(action, Pause)] == ["api"]
    refused = found.entries[0]
    assert refused.state is PauseState.REFUSED
    assert refused.previous is None
    assert "nothing was paused" in refused.message
    assert f"of {MOST_MEMORY_BYTES // 1024} kB" in refused.message
    assert found.entries[1] == entry("api")


def test_more_of_a_held_pause_is_refused_and_what_is_held_stays() -> None:
    policy = spec(producers=[BACKFILLS])
    held = entry("backfills", state=PauseState.HELD, previous=ids(3, 10))
    wider = held.model_copy(update={"previous": ids(200, 2_000)})
    found = storable(policy, Producers((pause("backfills", "backfillJobs"),), (wider,)), (held,))
    assert found.actions == ()
    (kept,) = found.entries
    assert (kept.state, kept.previous) == (PauseState.HELD, held.previous)
    assert "no further part is paused" in kept.message


def test_no_pause_is_made_where_the_list_is_full_of_those_that_wait_for_release() -> None:
    policy = spec(producers=[MAP])
    waiting = tuple(
        entry(f"old-{number}", state=PauseState.HELD, locator={"configMap": "{}"})
        for number in range(MOST_PAUSES)
    )
    found = storable(
        policy, Producers((pause("api", "configMap"),), (*waiting, entry("api"))), waiting
    )
    assert found.actions == ()
    assert found.entries[:-1] == waiting
    assert found.entries[-1].state is PauseState.REFUSED


@given(st.integers(0, 200), st.integers(1, 3_000), st.integers(0, 15))
def test_what_is_accepted_fits_after_it_was_paused(count: int, length: int, before: int) -> None:
    """With the marks of its rows in place of what was planned."""
    policy = spec(producers=[BACKFILLS])
    others = tuple(
        entry(
            f"o{number}",
            state=PauseState.HELD,
            previous='"' + "x" * 4_000 + '"',
            locator={"w": "{}"},
        )
        for number in range(before)
    )
    wanted = (*others, entry("backfills", previous=ids(count, length)))
    found = storable(policy, Producers((pause("backfills", "backfillJobs"),), wanted), others)
    if not found.actions:
        return
    mark = ["4294967295", "0123456789ab", "0123456789ab"]
    assert len(json.dumps(json.dumps(mark))) - len("null") <= MARK_BYTES
    marks = json.dumps(dict.fromkeys(json.loads(wanted[-1].previous or "{}"), mark))
    after = wanted[-1].model_copy(update={"previous": marks, "state": PauseState.HELD})
    paused = (*others, after)
    empty = size(QueueBacklogPolicyStatus())
    assert size(QueueBacklogPolicyStatus(paused=paused)) - empty <= MOST_MEMORY_BYTES


def test_a_decision_refuses_it_and_says_so() -> None:
    policy = fresh_policy(
        producers=[BACKFILLS],
        breakers=[{"name": "b", "pause": ["backfills"], "trip": [{"waiting": 10, "for": "1s"}]}],
    )
    policy.status = QueueBacklogPolicyStatus(
        breakers=(BreakerStatus(name="b", state=BreakerState.OPEN, since=NOW, message="storm"),)
    )
    running = ProducerReading(FlagValue.RUNNING, None, "rows", plan=ids(200, 5_000))
    plan = policy.decide(seen(queues=queue(9_000), producers={"backfills": Known(running, NOW)}))
    assert not any(isinstance(action, Pause) for action in plan.actions)
    status = report(policy.spec, policy.status, plan, (), 1, NOW)
    condition = status.condition("ProducersRunning")
    assert condition is not None
    assert condition.reason == "PauseFailed"
    assert "is NOT paused" in condition.message
    assert "TO DO: backfills" in status.summary
    assert size(status) < 20_000


# --- where memory is made -----------------------------------------------------------------------


def test_where_a_pause_was_made_is_bounded_and_stays_comparable() -> None:
    many = [f"redis-{number:05}.example:6379" for number in range(5_000)]
    made_at = server_identity.redis("etl", 0, many)
    assert len(str(made_at)) <= MOST_WHERE_CHARACTERS
    assert server_identity.same_server(made_at, server_identity.redis("etl", 0, reversed(many)))
    assert len(str(server_identity.postgres("7", "db", ["h" * 9_000]))) <= MOST_WHERE_CHARACTERS


def test_ids_of_any_length_are_no_part_of_a_plan_of_held_types() -> None:
    plan = HoldPlan(1, ("a",)).with_moved(3, ["1", "x" * 80_000, "2"])
    assert plan.ids == ("1", "2")
    assert plan.held == 3
    assert len(plan.text) < MOST_PREVIOUS_BYTES


def test_a_long_message_of_a_failed_pause_is_cut() -> None:
    policy = fresh_policy()
    plan = policy.decide(seen())
    plan = plan.with_status(plan.status.model_copy(update={"paused": (entry("ingestion"),)}))
    said = Paused(PauseOutcome.BAD_SHAPE, message="no such column\n" * 80_000)
    result = Result(pause("ingestion", "featureFlag"), said)
    status = report(policy.spec, policy.status, plan, (result,), 1, NOW)
    assert size(status) < 30_000
    assert "\n" not in status.summary
