"""Two operators, a person at each point, and SIGKILL: objects end as their people left them.

ConfigMaps, Deployments, StatefulSets and CronJobs alike (P4, P6).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pytest
from tests.e2e.api import CORE, Api, Json
from tests.producers.lives import field_of
from tests.producers.nursery import nursery
from tests.producers.objects import AT, OWNER, Person, operators, paused, resumed
from tests.producers.test_workload import BATCH, NAME, manifest
from tests.thorough import THOROUGH

from local.cluster import LocalCluster
from starforge_backlog.api.pausing import WorkloadKind
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import ClusterClient, Operations, Resource
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.marked_object import MarkedObjectProducer
from starforge_backlog.snapshot import Unknown, Why

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

ROUNDS: Final = 25 if THOROUGH else 8
KILLS: Final = 60 if THOROUGH else 16
ANNOTATION: Final = "backlog.starforge.dev/paused"


@dataclass(frozen=True)
class Subject:
    """An object of some kind, and the person who made it."""

    kind: str
    person: Person
    namespace: str

    @property
    def value(self) -> Any:
        """What pauses or does not."""
        found = self.person.read()
        if self.kind == "ConfigMap":
            return found["data"].get("ingest_paused")
        return found["spec"].get("suspend", found["spec"].get("replicas"))

    @property
    def stopped(self) -> Any:
        return {"ConfigMap": "true", "CronJob": True}.get(self.kind, 0)

    def body(self, value: Any) -> Json:
        if self.kind == "ConfigMap":
            return {"data": {"ingest_paused": value}}
        return {"spec": {"suspend" if self.kind == "CronJob" else "replicas": value}}

    def set(self, value: Any) -> None:
        self.person.write(self.body(value), "alice")


def made(api: Api, namespace: str, kind: str) -> Subject:
    if kind == "ConfigMap":
        path = f"{CORE}/namespaces/{namespace}/configmaps"
        body: Json = {"metadata": {"name": NAME}, "data": {"ingest_paused": "no", "other": "x"}}
    else:
        group = BATCH if kind == "CronJob" else "/apis/apps/v1"
        path = f"{group}/namespaces/{namespace}/{kind.lower()}s"
        body = manifest(WorkloadKind(kind))
        if "replicas" in body["spec"]:
            body["spec"]["replicas"] = 1  # each pod is work for five controllers
    api.create(path, body)
    return Subject(kind, Person(api, f"{path}/{NAME}"), namespace)


@pytest.fixture(params=["ConfigMap", "Deployment", "StatefulSet", "CronJob"])
def subject(api: Api, namespace: str, request: pytest.FixtureRequest) -> Subject:
    return made(api, namespace, request.param)


async def test_two_operators_at_once(cluster: LocalCluster, subject: Subject) -> None:
    """Exactly one pauses, and neither releases the other's."""
    before = subject.value
    field = field_of(subject.namespace, subject.kind, NAME)
    async with operators(cluster, field, 2) as pair:
        for _ in range(ROUNDS):
            got = await asyncio.gather(
                *(p.pause(owner=OWNER, token=f"t{n}", at=AT) for n, p in enumerate(pair))
            )
            outcomes = [g.outcome if isinstance(g, Paused) else g.why for g in got]
            assert outcomes.count(PauseOutcome.PAUSED) == 1, got
            assert set(outcomes) <= {PauseOutcome.PAUSED, PauseOutcome.ALREADY_PAUSED}
            winner = outcomes.index(PauseOutcome.PAUSED)
            held = got[winner]
            assert isinstance(held, Paused)
            stray = await pair[1 - winner].resume(
                token=f"t{1 - winner}", version=held.version, previous=None
            )
            assert isinstance(stray, Resumed)
            assert stray.outcome is ResumeOutcome.NOT_OURS
            left = await asyncio.gather(
                *(p.resume(token=f"t{winner}", version=held.version, previous=None) for p in pair)
            )
            ended = [x.outcome if isinstance(x, Resumed) else x.why for x in left]
            assert ended.count(ResumeOutcome.RESUMED) == 1, left
            assert set(ended) <= {ResumeOutcome.RESUMED, ResumeOutcome.NOT_PAUSED, Why.LOCK_BUSY}
            assert subject.value == before


class Meddled(ClusterClient):
    """Another client does something right before the given request."""

    point: int
    meddle: Callable[[], None]
    asked: int = 0

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Any:
        await self._at_the_point()
        return await super().get(resource, namespace, name, sub=sub)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Any | Operations,
        *,
        sub: str = "",
    ) -> Any:
        await self._at_the_point()
        return await super().patch(resource, namespace, name, body, sub=sub)

    async def _at_the_point(self) -> None:
        self.asked += 1
        if self.asked == self.point:
            await asyncio.to_thread(self.meddle)


RUNNING: Final = {"ConfigMap": "off", "CronJob": False}  # of the others: 2 replicas
PAUSE, RESUME = PauseOutcome, ResumeOutcome

# What a person does before request 1 and 2 (read and write of our pause), 3 and 4 (of our resume);
# how both end there, and whether the person's value, or the one before all, stands at the end.
MEDDLING: Final[dict[str, tuple[PauseOutcome, ResumeOutcome, PauseOutcome, ResumeOutcome]]] = {
    # The same value again is no write to the API server, so 3 and 4 are as if nobody came.
    "pauses": (PAUSE.ALREADY_PAUSED, RESUME.NOT_OURS, PAUSE.PAUSED, RESUME.RESUMED),
    "resumes": (PAUSE.PAUSED, RESUME.RESUMED, PAUSE.PAUSED, RESUME.NOT_PAUSED),
    "resumes and pauses": (
        *(PAUSE.ALREADY_PAUSED, RESUME.NOT_OURS),
        *(PAUSE.PAUSED, RESUME.CHANGED_SINCE),
    ),
    "labels": (PAUSE.PAUSED, RESUME.RESUMED, PAUSE.PAUSED, RESUME.RESUMED),
    "takes the mark": (PAUSE.PAUSED, RESUME.RESUMED, PAUSE.PAUSED, RESUME.CHANGED_SINCE),
    "deletes": (PAUSE.ROW_MISSING, RESUME.ROW_MISSING, PAUSE.PAUSED, RESUME.ROW_MISSING),
}


def meddling(subject: Subject, what: str) -> Callable[[], None]:
    running = RUNNING.get(subject.kind, 2)

    def pauses() -> None:
        subject.set(subject.stopped)

    def resumes() -> None:
        subject.set(running)

    def both() -> None:
        resumes()
        pauses()

    def labels() -> None:
        subject.person.write({"metadata": {"labels": {"by": "alice"}}}, "alice")

    def takes() -> None:
        subject.person.write({"metadata": {"annotations": {ANNOTATION: None}}}, "alice")

    return {
        "pauses": pauses,
        "resumes": resumes,
        "resumes and pauses": both,
        "labels": labels,
        "takes the mark": takes,
        "deletes": subject.person.delete,
    }[what]


@pytest.mark.parametrize("point", [1, 2, 3, 4])
@pytest.mark.parametrize("what", MEDDLING)
@pytest.mark.parametrize("subject", ["ConfigMap", "CronJob", "Deployment"], indirect=True)
async def test_a_person_at_each_point(
    cluster: LocalCluster, subject: Subject, what: str, point: int
) -> None:
    before = subject.value
    client = await Meddled.connect({"KUBECONFIG": str(cluster.kubeconfig)})
    assert isinstance(client, Meddled)
    client.meddle = meddling(subject, what)
    producer = MarkedObjectProducer(
        client, field_of(subject.namespace, subject.kind, NAME), utc_now
    )
    try:
        client.point = point if point <= 2 else 0
        held = await paused(producer)
        # Counted from here: a controller's write makes a pause ask more often.
        client.asked, client.point = 2, point if point > 2 else 0
        left = await resumed(producer, held if held.outcome is PAUSE.PAUSED else None)
    finally:
        await client.close()
    early = MEDDLING[what][:2] if point <= 2 else MEDDLING[what][2:]
    assert (held.outcome, left.outcome) == early
    if what == "deletes":
        return
    theirs = {
        "pauses": subject.stopped if point <= 2 else before,
        "resumes": RUNNING.get(subject.kind, 2),
        "resumes and pauses": subject.stopped,
        "takes the mark": before if point <= 2 else subject.stopped,
    }
    assert subject.value == theirs.get(what, before)


async def test_operators_killed_at_random(cluster: LocalCluster, subject: Subject) -> None:
    """SIGKILL between any two instructions; the token in status is all that the next one has."""
    before = subject.value
    chance = random.Random(subject.kind)
    held = 0
    field = field_of(subject.namespace, subject.kind, NAME)
    given = (str(cluster.kubeconfig), subject.namespace, subject.kind, NAME)
    async with (
        operators(cluster, field) as (successor,),
        nursery("tests.producers.lives:by_object", *given) as forks,
    ):
        for kill in range(KILLS):
            token = await forks.live_and_be_killed(f"t{kill}", chance)
            held += await settled(successor, subject, token, before)
    assert 0 < held < KILLS, "the kills met one side of the write only"


async def settled(
    successor: MarkedObjectProducer, subject: Subject, token: str, before: Any
) -> bool:
    """Released by its token alone, until nothing that was sent before the kill can come any more.
    Whether it was paused."""
    was_paused, quiet = False, 0
    while quiet < 3:
        left: Resumed | Unknown = await successor.resume(token=token, version="", previous=None)
        assert isinstance(left, Resumed), left
        assert left.outcome in {ResumeOutcome.RESUMED, ResumeOutcome.NOT_PAUSED}, left
        quiet = 0 if left.outcome is ResumeOutcome.RESUMED else quiet + 1
        was_paused |= left.outcome is ResumeOutcome.RESUMED
        await asyncio.sleep(0.01)
    assert subject.value == before
    assert subject.person.marks() is None
    return was_paused


async def test_a_pause_of_a_person_survives_all_kills(
    cluster: LocalCluster, api: Api, namespace: str
) -> None:
    """Paused by hand before: whatever dies, nothing is written at all."""
    subject = made(api, namespace, "ConfigMap")
    subject.set("true")
    version = subject.person.read()["metadata"]["resourceVersion"]
    chance = random.Random(5)
    given = (str(cluster.kubeconfig), namespace, "ConfigMap", NAME)
    async with nursery("tests.producers.lives:by_object", *given) as forks:
        for kill in range(KILLS // 3):
            await forks.live_and_be_killed(f"t{kill}", chance)
            assert subject.person.read()["metadata"]["resourceVersion"] == version
