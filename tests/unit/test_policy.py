"""A policy as the API server hands it over, also one that this version cannot read."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from starforge_backlog.policy import Policy, SpecNotUnderstood

SPEC: dict[str, Any] = {
    "target": {"name": "etl-worker"},
    "database": {"url": {"secretKeyRef": {"name": "starforge-db", "key": "DATABASE_URL"}}},
    "queues": [{"name": "jobs", "postgres": {}}],
    "producers": [{"name": "ingestion", "featureFlag": {}}],
}


def body(**parts: Any) -> dict[str, Any]:
    meta = {"namespace": "starforge", "name": "etl", "uid": "u", "generation": 3}
    note = {"backlog.starforge.dev/release": "abandon"}
    return {"metadata": {**meta, "annotations": note}, "spec": {**SPEC, **parts}}


@pytest.mark.parametrize(
    "newer",
    [
        {"queues": [{"name": "jobs", "postgres": {"table": {"name": "jobs"}}}]},
        {"mode": "Tomorrow"},
        {"database": {**SPEC["database"], "headroom": "some"}},
        {"producers": [*SPEC["producers"], {"name": "new", "workload": {"kind": "Pod"}}]},
        {"breakers": [{"name": "storm", "pause": ["ingestion"], "trip": [{"for": "later"}]}]},
    ],
    ids=lambda parts: next(iter(parts)),
)
def test_what_a_release_needs_is_read_from_a_spec_of_a_newer_version(newer: dict[str, Any]) -> None:
    given = body(**newer)
    with pytest.raises(SpecNotUnderstood):
        Policy.parse(given)
    policy = Policy.for_release(given)
    assert (policy.key, policy.generation, policy.abandon) == ("starforge/etl", 3, True)
    assert policy.spec.database is not None
    assert policy.spec.database.url is not None
    assert policy.spec.database.url.secret_key_ref.name == "starforge-db"
    assert policy.spec.producer("ingestion") is not None
    assert policy.spec.breakers == ()


@pytest.mark.parametrize("lost", ["target", "database", "producers", "queues"])
def test_a_part_that_cannot_be_read_at_all_takes_only_itself_away(lost: str) -> None:
    given = body(**{lost: "not what it was"})
    policy = Policy.for_release(given)
    assert (policy.spec.database is None) == (lost == "database")
    assert (policy.spec.producer("ingestion") is None) == (lost == "producers")


def test_a_readable_spec_is_read_as_ever() -> None:
    assert Policy.for_release(body()).spec == Policy.parse(body()).spec


def test_views_of_the_framework_are_read_as_well() -> None:
    database = MappingProxyType(
        {"url": MappingProxyType({"secretKeyRef": MappingProxyType({"name": "s", "key": "K"})})}
    )
    policy = Policy.for_release(body(database=database, mode="Tomorrow"))
    assert policy.spec.database is not None
