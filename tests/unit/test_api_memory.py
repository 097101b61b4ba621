"""`status.memory`: apart on the wire, together in the models, and nothing lost between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reference import crd
from starforge_backlog.api.bounds import MOST_MEMORY_BYTES, MOST_STATUS_BYTES, REMEMBERED
from starforge_backlog.api.memory import MEMORY, apart, together
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    ExternalWriter,
    GuardStatus,
    OldPool,
    PausedBy,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    RuleStatus,
    ScalingStatus,
    Surplus,
)
from starforge_backlog.cluster.lenient import parse_status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FULL = QueueBacklogPolicyStatus(
    summary="400 waiting",
    released_at=NOW,
    scaling=ScalingStatus(
        replicas=3,
        applied_replicas=3,
        target_uid="t",
        idle_since=NOW,
        quiet_since=NOW,
        throughput_per_replica=1.5,
        old_pool=OldPool(pool=8, since=NOW),
        surplus=Surplus(connections=4),
        guard=GuardStatus(kind="ScaledObject", name="etl", uid="g", token="o/g/1", maximum=4),
        last_external=ExternalWriter(manager="hpa", replicas=4, since=NOW),
    ),
    breakers=(
        BreakerStatus(
            name="b",
            state=BreakerState.OPEN,
            trips=2,
            seen_at=NOW,
            rules=(RuleStatus(signal="waiting>=5", exceeded_since=NOW),),
        ),
        BreakerStatus(name="calm"),
    ),
    paused=(
        PauseStatus(
            producer="p",
            by=PausedBy.US,
            state=PauseState.HELD,
            since=NOW,
            token="o/p/1",
            version="7",
            previous="false",
            locator={"featureFlag": "{}"},
            server="db",
            arrivals_before=3.0,
            failed=True,
        ),
        PauseStatus(
            producer="q",
            by=PausedBy.OTHER,
            state=PauseState.FOREIGN,
            since=NOW,
            foreign_token="x/q/1",
        ),
    ),
)


def keys_of(value: object, path: str = "") -> Iterator[str]:
    match value:
        case dict():
            for key, inner in value.items():
                yield f"{path}.{key}"
                yield from keys_of(inner, f"{path}.{key}")
        case list():
            for inner in value:
                yield from keys_of(inner, f"{path}[]")
        case _:
            pass


def test_what_was_written_is_read() -> None:
    read, dropped = parse_status(json.loads(json.dumps(apart(FULL))))
    assert (read, dropped) == (FULL, ())


def test_what_people_read_has_no_memory_in_it() -> None:
    written = apart(FULL)
    memory = written.pop(MEMORY)
    assert written["paused"][0].keys() == {
        "producer", "by", "state", "since", "breaker", "foreignToken", "progress", "message",
    }  # fmt: skip
    assert set(memory) == {"releasedAt", "scaling", "breakers", "paused"}
    assert memory["scaling"]["guard"] == {"uid": "g", "token": "o/g/1"}
    assert [item["name"] for item in memory["breakers"]] == ["b"], "a calm breaker has none"
    assert [item["producer"] for item in memory["paused"]] == ["p"]
    shared = {path for path in keys_of(written) if f"{path}" in set(keys_of(memory))}
    assert {path.rpartition(".")[2] for path in shared} <= {
        "scaling", "guard", "breakers", "name", "paused", "producer",
    }, "only ways and keys are in both"  # fmt: skip


def test_a_status_with_nothing_to_remember_has_no_memory() -> None:
    assert MEMORY not in apart(QueueBacklogPolicyStatus(summary="calm"))


@pytest.mark.parametrize(
    ("memory", "dropped"),
    [
        (None, ()),
        ({}, ()),
        ("text", ()),
        ([1], ()),
        ({"paused": "text"}, ()),
        ({"paused": [None, {"token": "o/p/9"}]}, ()),
        ({"paused": [{"producer": "nobody", "token": "o/p/9"}]}, ()),
        ({"scaling": 3, "breakers": [7]}, ()),
        ({"paused": [{"producer": "p", "token": 7}]}, ("paused.0.token",)),
    ],
    ids=str,
)
def test_memory_that_was_edited_is_no_memory(memory: object, dropped: tuple[str, ...]) -> None:
    """People's part is read all the same, and nothing of it is taken for memory."""
    written = {**apart(FULL), MEMORY: memory}
    read, said = parse_status(written)
    assert said == dropped
    assert read.summary == FULL.summary
    assert [(entry.state, entry.token) for entry in read.paused] == [
        (PauseState.HELD, ""),
        (PauseState.FOREIGN, ""),
    ]
    assert read.released_at is None
    assert read.scaling.applied_replicas is None


def test_memory_of_an_entry_that_people_removed_goes_with_it() -> None:
    written = apart(FULL)
    written["paused"] = [item for item in written["paused"] if item["producer"] == "q"]
    read, _ = parse_status(written)
    assert [(entry.producer, entry.token) for entry in read.paused] == [("q", "")]


def test_the_schema_has_each_remembered_field_in_memory_alone() -> None:
    schema = crd.schema()["properties"]["status"]["properties"]
    names = {
        "PauseStatus": (schema["paused"]["items"], schema[MEMORY]["properties"]["paused"]["items"]),
        "BreakerStatus": (
            schema["breakers"]["items"],
            schema[MEMORY]["properties"]["breakers"]["items"],
        ),
        "ScalingStatus": (schema["scaling"], schema[MEMORY]["properties"]["scaling"]),
    }
    for model in (PauseStatus, BreakerStatus, ScalingStatus):
        shown, memory = names[model.__name__]
        for field in model.model_fields.values():
            there = memory if REMEMBERED in field.metadata else shown
            other = shown if REMEMBERED in field.metadata else memory
            assert field.alias in there["properties"]
            key = field.alias in {"name", "producer", "guard"}
            assert key or field.alias not in other["properties"]


def test_memory_says_that_it_is_internal_and_how_large_it_can_be() -> None:
    said: str = crd.schema()["properties"]["status"]["properties"][MEMORY]["description"]
    assert said.startswith("Internal:")
    assert f"{MOST_MEMORY_BYTES // 1024} KiB" in said
    assert f"{MOST_STATUS_BYTES // 1024} KiB" in said


def test_the_original_is_not_changed() -> None:
    written: dict[str, Any] = apart(FULL)
    before = json.dumps(written)
    together(written)
    assert json.dumps(written) == before
    later = FULL.model_copy(update={"released_at": NOW + timedelta(seconds=1)})
    assert apart(later)[MEMORY]["releasedAt"] != written[MEMORY]["releasedAt"]
