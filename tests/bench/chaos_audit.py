"""An auditor beside the operator: it samples the real state of the server and the targets several
times a second, and compares each write of replicas with it afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
from tests.e2e.api import APPS, CORE, POLICIES, Api, Json
from tests.e2e.audit import Request

from local.postgres import PostgresServer
from starforge_backlog.decide.budget.formula import surge

SAMPLE_SECONDS: Final = 0.25
# What came later than this before a write (another client, a rollout that a user
# started) could not be known: a pass is up to one interval old, and takes a moment itself.
UNKNOWN_SECONDS: Final = 3.5
SESSIONS: Final = """
    SELECT usename::text, count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1"""


@dataclass(frozen=True)
class Kind:
    """A target, as its policy knows it."""

    role: str
    pool: int
    max_surge: str


@dataclass(frozen=True)
class Pods:
    """Of one target."""

    replicas: int
    living: int
    ending: int

    def most(self, kind: Kind, replicas: int | None = None) -> int:
        """Connections that they can open, during a rollout as well."""
        asked = self.replicas if replicas is None else replicas
        living = max(asked + surge(asked, kind.max_surge), self.living)
        return (living + self.ending) * kind.pool


@dataclass(frozen=True)
class Sample:
    """The truth at a moment (Unix time)."""

    at: float
    sessions: Mapping[str, int]  # by role, of the whole server
    pods: Mapping[str, Pods]
    guarded: frozenset[str]  # targets that have a policy now


@dataclass(frozen=True)
class Verdict:
    """One write of replicas, and what it could mean together with everything else."""

    at: float
    target: str
    to: int
    most: int  # connections of all policies' pods, other clients and headroom
    text: str


class Auditor:
    """Samples between `start` and `stop`, in a thread of its own, on a superuser's connection: its
    slot is none of those that are shared."""

    def __init__(
        self, api: Api, server: PostgresServer, namespace: str, kinds: Mapping[str, Kind]
    ) -> None:
        self._api = api
        self._server = server
        self._namespace = namespace
        self._kinds = kinds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="auditor")
        self.samples: list[Sample] = []
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        try:
            with psycopg.connect(self._server.url(), autocommit=True) as connection:
                while not self._over.wait(SAMPLE_SECONDS):
                    self.samples.append(self._sample(connection))
        except BaseException as error:
            self.failure = error
            raise

    def _sample(self, connection: psycopg.Connection[tuple[object, ...]]) -> Sample:
        at = time.time()
        sessions = {str(role): int(str(n)) for role, n in connection.execute(SESSIONS)}
        deployments = self._api.items(f"{APPS}/namespaces/{self._namespace}/deployments")
        pods = self._api.items(f"{CORE}/namespaces/{self._namespace}/pods")
        policies = self._api.items(f"{POLICIES}/namespaces/{self._namespace}/queuebacklogpolicies")
        return Sample(
            at,
            sessions,
            {d["metadata"]["name"]: _pods(d, pods) for d in deployments},
            frozenset(
                p["spec"]["target"]["name"]
                for p in policies
                if not p["metadata"].get("deletionTimestamp")
            ),
        )

    # --- afterwards ----------------------------------------------------------------------------

    def others(self, sample: Sample) -> int:
        """Sessions that are no policy's workers: the operator's own, and those of targets that
        have no policy, among them."""
        workers = {self._kinds[name].role for name in sample.guarded}
        return sum(n for role, n in sample.sessions.items() if role not in workers)

    def potential(self, sample: Sample) -> int:
        """Connections that the pods of all policies can open."""
        return sum(sample.pods[name].most(self._kinds[name]) for name in sample.guarded)

    def judge(self, writes: Sequence[Request], headroom: int) -> list[Verdict]:
        """Every up-step: what it could mean at that moment, by what could be known of it."""
        written: dict[str, tuple[float, int]] = {}
        found = []
        for write in sorted(writes, key=lambda request: request.at):
            at = datetime.fromisoformat(write.at).timestamp()
            known = [sample for sample in self.samples if at - UNKNOWN_SECONDS <= sample.at <= at]
            if write.replicas is None or not known:
                continue
            before = known[-1].pods[write.name].replicas
            written[write.name] = (at, write.replicas)
            if write.replicas > before:
                found.append(self._verdict(write.name, at, known, written, headroom))
        return found

    def _verdict(
        self,
        target: str,
        at: float,
        known: Sequence[Sample],
        written: Mapping[str, tuple[float, int]],
        headroom: int,
    ) -> Verdict:
        last, to = known[-1], written[target][1]
        terms: dict[str, int] = {}
        for name in sorted(last.guarded):
            kind, seen = self._kinds[name], [sample.pods[name] for sample in known]
            wrote_at, wrote = written.get(name, (0.0, 0))
            # A sample shows a write only after it.
            asked = wrote if wrote_at > last.at else seen[-1].replicas
            living = min(pods.living for pods in seen)
            ending = min(pods.ending for pods in seen)
            terms[name] = Pods(asked, living, ending).most(kind)
        others = min(self.others(sample) for sample in known)
        most = sum(terms.values()) + others + headroom
        text = f"{terms} + {others} other clients + {headroom} headroom = {most}"
        return Verdict(at, target, to, most, text)


def _pods(deployment: Json, pods: Sequence[Json]) -> Pods:
    name = deployment["metadata"]["name"]
    mine = [p["metadata"] for p in pods if p["metadata"].get("labels", {}).get("app") == name]
    ending = sum(1 for meta in mine if meta.get("deletionTimestamp"))
    return Pods(int(deployment["spec"]["replicas"]), len(mine) - ending, ending)
