"""Each rule of the CRD against a real API server: an accepted and a refused example, and the
sentence that the writer of the refused one reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from tests.cluster.crd_examples import GONE, Leaf, Policy, edited, everything, leaves, minimal
from tests.cluster.crd_policies import Policies, Refused

from local.cluster import LocalCluster
from reference.crd import schema
from starforge_backlog.api.rules import RULES

pytestmark = pytest.mark.cluster

Edits = Mapping[str, object]


@dataclass(frozen=True)
class Case:
    """A rule by its message, with the place the API server names, and both examples as edits of
    the policy that uses everything."""

    where: str
    message: str
    refused: tuple[Edits, ...]
    accepted: tuple[Edits, ...]
    only_updates: bool = False
    by_rule: bool = True  # False: another keyword of the schema says it


TRIP = "spec.breakers.0.trip"
POOL = "spec.target.connectionsPerReplica"
STATUSES = "spec.queues.0.postgres.statuses"
TABLE_OF_SECOND = "spec.queues.1.postgres.table"
GUARD = "spec.target.guard"
SIGNALS = "spec.queues.0.signals"
SCOPE = "spec.breakers.0.scope"
WORKLOAD = "spec.producers.4.workload"
NO_DATABASE: Edits = {"spec.database": GONE}
# What a policy without a database cannot have, but its queues.
WITHOUT_TABLES: Edits = {"spec.producers": GONE, "spec.breakers": GONE}

REFERENCE = {"secretKeyRef": {"name": "some", "key": "key"}}
LOGIN = {"username": REFERENCE, "password": REFERENCE}
SERIES = {"url": "http://prometheus:9090"}
BULLMQ = {"url": REFERENCE, "name": "etl-snapshots"}
ON_REDIS = {"name": "jobs", "bullmq": BULLMQ}
HOOK = {"url": "https://host/pause"}
WAYS: Mapping[str, object] = {
    "configMap": {"name": "ingest-api"},
    "webhook": HOOK,
    "workload": {"name": "crawler"},
    "queue": BULLMQ,
    "backfillJobs": {},
    "jobTypes": {"types": ["backfill_range"]},
}
ONE_LOGIN = "give bearerToken or basicAuth, not both: one request has one Authorization header"

CASES = [
    Case(
        "spec.target.connectionsPerReplica",
        "give one of env (a variable of the pods that holds the pool size) and value (the number"
        " itself), not both",
        refused=({f"{POOL}.value": 4},),
        accepted=(
            {POOL: {"value": 4}},
            {POOL: {"env": "DB_POOL", "extra": 2}},
            {POOL: {"processes": 2}},
            {POOL: GONE},
        ),
    ),
    Case(
        "spec.target.minReplicas",
        "minReplicas must not be above maxReplicas: lower minReplicas or raise maxReplicas",
        refused=({"spec.target.minReplicas": 21}, {"spec.target.maxReplicas": 1}),
        accepted=(
            {"spec.target.minReplicas": 20},
            {"spec.target.minReplicas": 0},
            {"spec.target.maxReplicas": GONE},
        ),
    ),
    Case(
        "spec.queues[0].postgres.statuses",
        "a status word is in two of waiting, inProgress, failed, finished and ignored: keep it in"
        " one, or jobs would be counted twice",
        refused=(
            {f"{STATUSES}.waiting": ["running"]},
            {f"{STATUSES}.waiting": ["failed"]},
            {f"{STATUSES}.finished": ["pending", "done"]},
            {f"{STATUSES}.finished": ["processing"]},
            {f"{STATUSES}.failed": ["running"]},
            {f"{STATUSES}.failed": ["done"]},
            {f"{STATUSES}.ignored": ["done"]},
        ),
        accepted=({f"{STATUSES}.waiting": ["pending", "new"]}, {STATUSES: {"failed": ["dead"]}}),
    ),
    Case(
        "spec.target.guard",
        "give exactly one of horizontalPodAutoscaler and scaledObject (KEDA): the name of the"
        " object that scales the target",
        refused=({GUARD: {}}, {f"{GUARD}.scaledObject": "etl-worker"}),
        accepted=({GUARD: {"scaledObject": "etl-worker"}}, {GUARD: GONE}),
    ),
    Case(
        "spec.queues[0]",
        "a queue needs exactly one source: postgres: {} for a job table in spec.database, bullmq"
        " for a queue on Redis, prometheus for series",
        refused=(
            {"spec.queues.0.postgres": GONE},
            {"spec.queues.0.bullmq": BULLMQ},
            {"spec.queues.0.prometheus": SERIES, "spec.queues.0.signals": GONE},
        ),
        accepted=(
            {"spec.queues.0.postgres": {}, TABLE_OF_SECOND: "other"},
            {"spec.queues.0.postgres": GONE, "spec.queues.0.bullmq": BULLMQ},
            {"spec.queues.0": {"name": "jobs", "prometheus": SERIES}},
        ),
    ),
    Case(
        "spec.queues[0].signals",
        "signals is for single signals of a postgres or bullmq queue: put the expressions into"
        " prometheus",
        refused=({"spec.queues.0.postgres": GONE, "spec.queues.0.prometheus": SERIES},),
        accepted=({"spec.queues.0.postgres": GONE, "spec.queues.0.bullmq": BULLMQ},),
    ),
    Case(
        "spec.queues[0].signals",
        "signals replaces nothing: give at least one of waiting, oldestAgeSeconds, arrivals,"
        " completed and failed",
        refused=({SIGNALS: SERIES},),
        accepted=tuple(
            {SIGNALS: {**SERIES, signal: "vector(1)"}}
            for signal in ("waiting", "oldestAgeSeconds", "arrivals", "completed")
        ),
    ),
    Case(
        "spec.queues[0].signals.failed",
        "failed is a part of completed: give completed as well, or there is no ratio",
        refused=({f"{SIGNALS}.completed": GONE}, {SIGNALS: {**SERIES, "failed": "vector(1)"}}),
        accepted=({SIGNALS: {**SERIES, "failed": "vector(1)", "completed": "vector(2)"}},),
    ),
    Case(
        "spec.queues[0].signals",
        ONE_LOGIN,
        refused=({f"{SIGNALS}.basicAuth": LOGIN},),
        accepted=({f"{SIGNALS}.bearerToken": GONE, f"{SIGNALS}.basicAuth": LOGIN},),
    ),
    Case(
        "spec.queues[3].prometheus",
        ONE_LOGIN,
        refused=({"spec.queues.3.prometheus.basicAuth": LOGIN},),
        accepted=({"spec.queues.3.prometheus": {**SERIES, "basicAuth": LOGIN}},),
    ),
    Case(
        "spec.database.prometheus",
        ONE_LOGIN,
        refused=({"spec.database.prometheus.basicAuth": LOGIN},),
        accepted=({"spec.database.prometheus": {**SERIES, "server": "a", "basicAuth": LOGIN}},),
    ),
    Case(
        "spec.database",
        "the database is read by url or, where the operator gets no login, by prometheus: add"
        " url.secretKeyRef or prometheus.url",
        refused=({"spec.database": {"headroom": 20}},),
        accepted=(
            {"spec.database.prometheus": GONE},
            {"spec.database.url": GONE, "spec.queues": [ON_REDIS], **WITHOUT_TABLES},
        ),
    ),
    Case(
        "spec.producers[0]",
        "a producer needs exactly one way to pause it: featureFlag, configMap, webhook, workload,"
        " queue, backfillJobs or jobTypes; featureFlag: {} is a row of feature_flags in"
        " spec.database",
        refused=(
            {"spec.producers.0.featureFlag": GONE},
            *({f"spec.producers.0.{way}": given} for way, given in WAYS.items()),
            {"spec.producers.0": {"name": "ingestion", "queue": BULLMQ, "webhook": HOOK}},
        ),
        accepted=(
            {"spec.producers.0.featureFlag": {}},
            *({"spec.producers.0": {"name": "ingestion", way: WAYS[way]}} for way in WAYS),
        ),
    ),
    Case(
        "spec.producers",
        "a producer's workload is the policy's own target: without its consumers the queue would"
        " only grow; name the workload that feeds the queue",
        refused=(
            {WORKLOAD: {"kind": "StatefulSet", "name": "etl-worker"}},
            {WORKLOAD: {"name": "etl-worker"}, "spec.target.kind": "Deployment"},
        ),
        accepted=(
            {WORKLOAD: {"kind": "Deployment", "name": "etl-worker"}},
            {WORKLOAD: {"kind": "StatefulSet", "name": "other"}},
        ),
    ),
    Case(
        "spec.producers[4].workload.kind",
        'supported values: "Deployment", "StatefulSet", "CronJob"',
        refused=tuple({f"{WORKLOAD}.kind": kind} for kind in ("DaemonSet", "Job", "Pod")),
        accepted=tuple({f"{WORKLOAD}.kind": k} for k in ("Deployment", "StatefulSet", "CronJob")),
        by_rule=False,
    ),
    Case(
        "spec.breakers[0].trip[0]",
        "a trip rule needs exactly one of waiting, oldestAge, failedPercent and"
        " databaseUtilizationPercent: write a rule of its own for each signal",
        refused=(
            {f"{TRIP}.0": {"for": "5m"}},
            {f"{TRIP}.0": {"waiting": 1, "oldestAge": "5m"}},
            {f"{TRIP}.0": {"failedPercent": 5, "databaseUtilizationPercent": 90}},
        ),
        accepted=(
            {TRIP: [{"waiting": 1}]},
            {TRIP: [{"oldestAge": "5m"}]},
            {TRIP: [{"failedPercent": 5}]},
            {TRIP: [{"databaseUtilizationPercent": 90}]},
        ),
    ),
    Case(
        "spec.breakers[0].pause",
        "a breaker that pauses nothing has no effect: list at least one of spec.producers in pause",
        refused=({"spec.breakers.0.pause": []}, {"spec.breakers.0.pause": GONE}),
        accepted=({"spec.breakers.0.pause": ["ingestion", "imports"]},),
    ),
    Case(
        "spec.queues",
        "a queue with postgres needs spec.database: add database.url.secretKeyRef",
        refused=(NO_DATABASE, {"spec.database.url": GONE}),
        accepted=({}, {**NO_DATABASE, "spec.queues": [ON_REDIS], **WITHOUT_TABLES}),
    ),
    Case(
        "spec.producers",
        "a producer with featureFlag, backfillJobs or jobTypes needs spec.database: add"
        " database.url.secretKeyRef",
        refused=(
            NO_DATABASE,
            {"spec.database.url": GONE},
            *(
                {**NO_DATABASE, **WITHOUT_TABLES, "spec.producers": [{"name": "a", way: given}]}
                for way, given in {**WAYS, "featureFlag": {}}.items()
                if way in {"featureFlag", "backfillJobs", "jobTypes"}
            ),
        ),
        accepted=tuple(
            {
                **NO_DATABASE,
                **WITHOUT_TABLES,
                "spec.queues": [ON_REDIS],
                "spec.producers": [{"name": "a", way: WAYS[way]}],
            }
            for way in ("configMap", "webhook", "workload", "queue")
        ),
    ),
    Case(
        "spec.breakers",
        "databaseUtilizationPercent needs spec.database: add database.url.secretKeyRef",
        refused=(NO_DATABASE,),
        accepted=({},),
    ),
    Case(
        "spec.queues",
        "two queues of one table would count a job twice: give each of them types, and each type"
        " to one of them",
        refused=(
            {TABLE_OF_SECOND: "app.queue_jobs", "spec.queues.1.postgres.types": GONE},
            {TABLE_OF_SECOND: "app.queue_jobs", "spec.queues.0.postgres.types": GONE},
            {
                TABLE_OF_SECOND: "app.queue_jobs",
                "spec.queues.1.postgres.types": ["backfill_range", "process_snapshot"],
            },
        ),
        accepted=({TABLE_OF_SECOND: "app.queue_jobs"}, {"spec.queues.1.postgres.types": GONE}),
    ),
    Case(
        "spec.database.headroom",
        "headroom leaves no connection of maxConnections: lower headroom (the runbook's is 20) or"
        " correct maxConnections",
        refused=({"spec.database.headroom": 200}, {"spec.database.maxConnections": 10}),
        accepted=({"spec.database.headroom": 199}, {"spec.database.maxConnections": GONE}),
    ),
    Case(
        "spec.breakers",
        "breakers[].pause names a producer that is not in spec.producers: add it there or correct"
        " the name",
        refused=(
            {"spec.breakers.0.pause": ["ingestion", "unknown"]},
            {"spec.producers": GONE},
            {"spec.producers.0.name": "renamed"},
        ),
        accepted=({"spec.breakers.0.pause": ["imports"]},),
    ),
    Case(
        "spec.breakers",
        "breakers[].scope.queues names a queue that is not in spec.queues: add it there or correct"
        " the name",
        refused=({f"{SCOPE}.queues": ["jobs", "unknown"]}, {"spec.queues.0.name": "other"}),
        accepted=(
            {f"{SCOPE}.queues": ["backfill"]},
            {f"{SCOPE}.queues": GONE},
            {SCOPE: {"type": "backfill_range"}},
            {SCOPE: GONE},
        ),
    ),
    Case(
        "spec.target",
        "target.apiVersion, target.kind and target.name cannot change: the step under observation"
        " belongs to the old workload. Delete this policy (it releases what it paused) and create"
        " one for the new target",
        refused=(
            {"spec.target.name": "other"},
            {"spec.target.kind": "Deployment"},
            {"spec.target.apiVersion": "apps/v2"},
        ),
        accepted=({"spec.target.maxReplicas": 30}, {POOL: {"value": 4}}),
        only_updates=True,
    ),
]


@pytest.fixture(scope="module")
def policies(cluster: LocalCluster, crd: None) -> Iterator[Policies]:
    """A namespace of a real API server with the CRD as it is committed."""
    yield from Policies.opened(cluster, "crd-rules")


@pytest.fixture
def stored(policies: Policies) -> Iterator[Policy]:
    """The policy that uses everything, stored, to be updated."""
    created = policies.create(everything(), keep=True)
    yield created
    policies.delete(created["metadata"]["name"])


def examples(kind: str, *, updates: bool) -> list[Any]:
    """Parameters: each case with each of its examples."""
    return [
        pytest.param(case, edits, id=f"{case.where}-{case.message.split(':')[0][:40]}-{number}")
        for case in CASES
        if case.only_updates is updates
        for number, edits in enumerate(getattr(case, kind))
    ]


@pytest.mark.parametrize(("case", "edits"), examples("refused", updates=False))
def test_a_wrong_policy_is_refused_with_the_fix(
    policies: Policies, case: Case, edits: Edits
) -> None:
    with pytest.raises(Refused) as refused:
        policies.create(edited(everything(), edits))
    assert said(refused.value, case.where, case.message)


@pytest.mark.parametrize(("case", "edits"), examples("accepted", updates=False))
def test_its_right_neighbour_is_accepted(policies: Policies, case: Case, edits: Edits) -> None:
    policies.create(edited(everything(), edits))


@pytest.mark.parametrize(("case", "edits"), examples("refused", updates=True))
def test_what_cannot_change_is_refused_with_the_fix(
    policies: Policies, stored: Policy, case: Case, edits: Edits
) -> None:
    with pytest.raises(Refused) as refused:
        policies.update(edited(stored, edits))
    assert said(refused.value, case.where, case.message)


@pytest.mark.parametrize(("case", "edits"), examples("accepted", updates=True))
def test_what_can_change_is_accepted(
    policies: Policies, stored: Policy, case: Case, edits: Edits
) -> None:
    policies.update(edited(stored, edits))


MOVED: tuple[Edits, ...] = (
    {"spec.database.url.secretKeyRef.name": "other"},
    {**WITHOUT_TABLES, "spec.queues": [ON_REDIS], **NO_DATABASE},
    {"spec.producers.0.featureFlag.table": "other", "spec.producers.0.featureFlag.path": ["b"]},
    {"spec.producers.0": {"name": "ingestion", "configMap": {"name": "other"}}},
    {"spec.producers.2.configMap.key": "other", "spec.producers.3.webhook.url": "https://other"},
    {"spec.producers.4.workload.name": "other", "spec.producers.5.queue.url": REFERENCE},
    {"spec.producers.6.backfillJobs.table": "b", "spec.producers.7.jobTypes.types": ["other"]},
    {"spec.producers": GONE, "spec.breakers": GONE},
)


@pytest.mark.parametrize("edits", MOVED)
@pytest.mark.parametrize("state", ["Intended", "Held"])
def test_whatever_is_paused_a_manifest_is_accepted(
    policies: Policies, stored: Policy, state: str, edits: Edits
) -> None:
    """A pipeline is not refused in the middle of an incident; the operator releases the old place
    (decide/pauses/moved.py)."""
    names = [producer["name"] for producer in stored["spec"]["producers"]]
    policies.update(edited(held(policies, stored, dict.fromkeys(names, state)), edits))


def test_every_rule_of_the_crd_has_its_example() -> None:
    by_hand = {case.message for case in CASES if case.by_rule}
    of_values = {
        rule["message"]
        for leaf in leaves(schema(), ())
        for rule in leaf.schema.get(RULES, ())
        if leaf.schema["type"] != "object"
    }
    assert by_hand | of_values == set(messages(schema()))
    assert not by_hand & of_values


def test_the_minimal_policy_works_as_it_stands(policies: Policies) -> None:
    policies.create(minimal())


def said(refused: Refused, where: str, message: str) -> bool:
    """Whether the API server's answer names the place and gives the message."""
    text = str(refused)
    assert message in text
    assert any(
        line.rpartition("invalid: ")[2].lstrip("[* ").startswith(f"{where}: ") and message in line
        for line in text.replace(", spec", "\nspec").splitlines()
    ), text
    return True


def held(policies: Policies, stored: Policy, pauses: Mapping[str, str]) -> Policy:
    """The stored policy with pauses in its status, as the operator would write them."""
    name = stored["metadata"]["name"]
    paused = [
        {"producer": producer, "by": "Us", "state": state, "since": "2026-01-01T00:00:00Z"}
        for producer, state in pauses.items()
    ]
    return policies.set_status(name, {"paused": paused}, keep=True)


def messages(root: Mapping[str, Any]) -> Iterator[str]:
    """The message of every rule below a schema, the schema's own included."""
    for leaf in (Leaf((), root), *leaves(root, ())):
        yield from (rule["message"] for rule in leaf.schema.get(RULES, ()))
