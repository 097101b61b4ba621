"""Specs in Python: the same defaults as the API server's, durations, and what a parse forgives."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.cluster.crd_examples import EVERYTHING, MINIMAL
from tests.thorough import THOROUGH

from reference import crd
from starforge_backlog.api.base import format_duration, parse_duration, wire_name
from starforge_backlog.api.policy import Priority, QueueBacklogPolicySpec
from starforge_backlog.api.status import QueueBacklogPolicyStatus, Step

SPEC = crd.schema()["properties"]["spec"]


def spec_of(text: str) -> dict[str, Any]:
    """The spec of a policy in YAML."""
    spec: dict[str, Any] = yaml.safe_load(text)["spec"]
    return spec


def defaulted(schema: Mapping[str, Any], value: Any) -> Any:
    """What the API server does to a value (apiextensions' structural defaulting)."""
    if isinstance(value, dict):
        out = dict(value)
        for name, field in schema.get("properties", {}).items():
            if name not in out and "default" in field:
                out[name] = copy.deepcopy(field["default"])
            if name in out:
                out[name] = defaulted(field, out[name])
        return out
    if isinstance(value, list):
        return [defaulted(schema["items"], item) for item in value]
    return value


@st.composite
def partial_specs(draw: st.DrawFn) -> dict[str, Any]:
    """The spec that uses everything, with optional fields left out at random."""

    def thinned(schema: Mapping[str, Any], value: Any) -> Any:
        if isinstance(value, dict):
            required = schema.get("required", ())
            return {
                name: thinned(schema["properties"][name], inner)
                for name, inner in value.items()
                if name in required or draw(st.booleans())
            }
        if isinstance(value, list):
            return [thinned(schema["items"], item) for item in value]
        return value

    thin: dict[str, Any] = thinned(SPEC, spec_of(EVERYTHING))
    return thin


search = settings(max_examples=1000 if THOROUGH else 40)  # 0.1 s each


@search
@given(partial_specs())
def test_the_schemas_defaults_are_the_models(spec: dict[str, Any]) -> None:
    read = QueueBacklogPolicySpec.model_validate(spec)
    assert QueueBacklogPolicySpec.model_validate(defaulted(SPEC, spec)) == read


@search
@given(partial_specs())
def test_a_spec_survives_writing_and_reading(spec: dict[str, Any]) -> None:
    read = QueueBacklogPolicySpec.model_validate(spec)
    written = read.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert QueueBacklogPolicySpec.model_validate(written) == read


def test_the_runbooks_numbers_are_the_defaults() -> None:
    spec = QueueBacklogPolicySpec.model_validate(spec_of(MINIMAL))
    assert spec.database is not None
    assert spec.database.headroom == 20
    assert spec.target.connections_per_replica.variable == "PG_POOL_MAX"
    assert 1 <= spec.scaling.step_up <= 2
    assert timedelta(minutes=1) <= spec.scaling.observe_for <= timedelta(minutes=2)
    assert spec.queues[0].objectives.waiting == 500
    assert spec.queues[0].objectives.failed_percent == 1
    assert spec.queues[0].oldest_age == timedelta(minutes=30)


def test_a_background_queue_may_be_a_day_behind() -> None:
    spec = QueueBacklogPolicySpec.model_validate(spec_of(MINIMAL))
    background = spec.queues[0].model_copy(update={"priority": Priority.BACKGROUND})
    assert background.oldest_age == timedelta(hours=24)


def test_what_a_newer_crd_fills_in_does_not_stop_an_older_operator() -> None:
    spec = {**spec_of(MINIMAL), "addedLater": {"on": True}}
    assert QueueBacklogPolicySpec.model_validate(spec) == QueueBacklogPolicySpec.model_validate(
        spec_of(MINIMAL)
    )


def test_a_bound_that_was_tightened_later_does_not_keep_a_pause() -> None:
    """The server holds bounds; what it accepted once must be readable to be released."""
    spec = spec_of(EVERYTHING)
    spec["scaling"]["stepUp"] = 50
    spec["producers"][0]["featureFlag"]["table"] = "odd-name"
    assert QueueBacklogPolicySpec.model_validate(spec).scaling.step_up == 50


def test_a_spec_is_frozen() -> None:
    spec = QueueBacklogPolicySpec.model_validate(spec_of(MINIMAL))
    with pytest.raises(ValidationError, match="frozen"):
        spec.suspend = True


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_reads_back(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("1h1s", 3601), ("0s", 0)]
)
def test_durations_as_people_write_them(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "-5s", "1.5h", "1d", "5m1h", 90, None])
def test_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="write it like 90s, 15m or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("name", "wire"), [("for_", "for"), ("from_", "from"), ("step_up", "stepUp"), ("id", "id")]
)
def test_names_on_the_wire(name: str, wire: str) -> None:
    assert wire_name(name) == wire


def test_a_status_keeps_its_words_on_the_wire() -> None:
    moment = "2026-01-01T00:00:00Z"
    step = Step.model_validate({"from": 1, "to": 3, "message": "need 5", "at": moment})
    assert (step.from_, step.to) == (1, 3)
    assert step.model_dump(by_alias=True, mode="json")["from"] == 1


def test_a_newer_operators_status_is_readable() -> None:
    status = QueueBacklogPolicyStatus.model_validate({"summary": "fine", "addedLater": 1})
    assert status.summary == "fine"
