"""Six policies on one PostgreSQL in chaos: is there ever more than the server can serve?

python -m tests.bench.chaos [--seconds 660] [--seed 1]

Real pods with real connections; rollouts, other clients, policies that are deleted, suspended and
broken, and the operator killed again and again. An auditor compares every step with the state that
server and targets really had.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import sql
from tests.bench import stage
from tests.bench.chaos_audit import Auditor, Kind, Verdict
from tests.bench.chaos_fleet import FINALIZER, Crew, Fleet
from tests.bench.database import PASSWORD, JobDatabase
from tests.bench.result import Result, Table
from tests.bench.stage import say
from tests.e2e.api import APPS, POLICIES, Json, Refused
from tests.e2e.audit import Request
from tests.e2e.place import Place

from local.errors import LocalError
from local.waiting import eventually

NAMESPACE: Final = "chaos"
MAX_CONNECTIONS: Final = 130
HEADROOM: Final = 20
INTERVAL_SECONDS: Final = 2
# Other clients hold so many connections. At most the headroom comes at once: the connections that
# are left free for other clients are those that they may take at any moment.
OTHERS: Final = (8, 26)
# Something happens after so many seconds, and the operator is killed after so many.
EVENT_SECONDS: Final = (0.5, 3.0)
KILL_SECONDS: Final = (30.0, 75.0)
# A policy that was deleted, suspended or broken is made whole again after so many.
REPAIRED_SECONDS: Final = (8.0, 25.0)
# The end is quiet for so long, so that what was killed last is started again.
QUIET_SECONDS: Final = 15.0
STARTS_SECONDS: Final = 2
WORKER_SPEED: Final = 6.0  # jobs per second of one pod
HUNGRY: Final = 3000  # jobs that wait for a policy that needs its whole share
MODEST: Final = 150
SHARE_TEXT: Final = "the share is"
REFUSALS: Final = ("too many clients", "remaining connection slots")


@dataclass(frozen=True)
class Policy:
    """One of the six."""

    name: str
    priority: str
    pool: int
    max_surge: str

    @property
    def role(self) -> str:
        return self.name.replace("-", "_")

    @property
    def spec(self) -> Json:
        return {
            "interval": f"{INTERVAL_SECONDS}s",
            "target": {"name": self.name},
            "database": {
                "url": {"secretKeyRef": {"name": stage.SECRET, "key": stage.KEY}},
                "workerRole": self.role,
                "headroom": HEADROOM,
                "pressure": {"utilizationPercent": 95},
            },
            "queues": [
                {
                    "name": "jobs",
                    "priority": self.priority,
                    "postgres": {"types": [self.name]},
                    "objectives": {"waiting": 10, "oldestAge": "1h", "for": "1s"},
                }
            ],
            "scaling": {
                "stepUp": 3,
                "observeFor": "5s",
                "scaleDownAfter": "10s",
                "drainWithin": "30s",
                "yieldFor": "4s",
            },
        }

    @property
    def deployment(self) -> Json:
        labels = {"app": self.name}
        container = {
            "name": "worker",
            "image": "none",
            "env": [{"name": "PG_POOL_MAX", "value": str(self.pool)}],
        }
        return {
            "metadata": {"name": self.name},
            "spec": {
                "replicas": 1,
                # A worker takes its time to start; without it a rollout has all pods end at once.
                "minReadySeconds": STARTS_SECONDS,
                "selector": {"matchLabels": labels},
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": _surge(self.max_surge), "maxUnavailable": 1},
                },
                "template": {
                    "metadata": {
                        "labels": labels,
                        "annotations": {"local.starforge.dev/process": "none"},
                        "finalizers": [FINALIZER],
                    },
                    "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
                },
            },
        }


def _surge(text: str) -> str | int:
    return text if text.endswith("%") else int(text)


SIX: Final = (
    Policy("orders", "Critical", 3, "25%"),
    Policy("payments", "Critical", 4, "1"),
    Policy("snapshots", "Normal", 2, "0"),
    Policy("mails", "Normal", 3, "1"),
    Policy("reports", "Background", 4, "25%"),
    Policy("backfill", "Background", 2, "50%"),
)


@dataclass
class Chaos:
    """What happens, at random, until the time is over."""

    place: Place
    database: JobDatabase
    chance: random.Random
    happened: Counter[str] = field(default_factory=Counter)
    others: list[psycopg.Connection[Any]] = field(default_factory=list)
    refused: int = 0  # other clients that found no connection
    _repairs: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _spoiled: set[str] = field(default_factory=set)

    def play(self, seconds: float) -> None:
        """One thing after another; the operator dies in between. All begin with work for more."""
        for policy in SIX:
            self._enqueue(policy, HUNGRY)
        over = time.monotonic() + seconds
        kill_at = time.monotonic() + self.chance.uniform(*KILL_SECONDS)
        kinds = (
            *((self._hunger,) * 8),
            *((self._other_clients,) * 6),
            *((self._rollout,) * 3),
            *(self._delete, self._suspend, self._break),
        )
        while time.monotonic() < over:
            self._repair_what_is_due()
            if time.monotonic() >= kill_at:
                self._kill()
                kill_at = time.monotonic() + self.chance.uniform(*KILL_SECONDS)
            # A policy that is gone for a moment, or an API server that is busy: the next thing.
            with contextlib.suppress(Refused):
                self.chance.choice(kinds)()
            time.sleep(self.chance.uniform(*EVENT_SECONDS))
        for _, repair in self._repairs:
            repair()
        self._repairs.clear()

    def close(self) -> None:
        for connection in self.others:
            connection.close()

    # --- what happens --------------------------------------------------------------------------

    def _hunger(self) -> None:
        """Work comes for one policy, little or much; or it is all gone."""
        policy = self.chance.choice(SIX)
        self._enqueue(policy, self.chance.choice((0, MODEST, HUNGRY, HUNGRY)))
        self.happened["work comes or goes"] += 1

    def _enqueue(self, policy: Policy, jobs: int) -> None:
        with self.database.connect() as connection:
            connection.execute("DELETE FROM queue_jobs WHERE type = %s", (policy.name,))
            connection.execute(
                "INSERT INTO queue_jobs (type, payload)"
                " SELECT %s, '{}' FROM generate_series(1, %s)",
                (policy.name, jobs),
            )

    def _other_clients(self) -> None:
        wanted = self.chance.randint(*OTHERS)
        while len(self.others) > wanted:
            self.others.pop().close()
        while len(self.others) < wanted:
            try:
                self.others.append(psycopg.connect(self._others_url, connect_timeout=5))
            except psycopg.OperationalError:
                self.refused += 1
                break
        self.happened["other clients come or go"] += 1

    @property
    def _others_url(self) -> str:
        return self.database.server.url("web", self.database.name, PASSWORD)

    def _rollout(self) -> None:
        policy = self.chance.choice(SIX)
        note = {"chaos/restarted": datetime.now(UTC).isoformat()}
        template = {"metadata": {"annotations": note}}
        self.place.api.patch(
            f"{APPS}/namespaces/{NAMESPACE}/deployments/{policy.name}",
            {"spec": {"template": template}},
        )
        self.happened["rollouts"] += 1

    def _delete(self) -> None:
        """Its pods stay."""
        policy = self._whole()
        if policy is None:
            return
        self.place.api.delete(_path(policy.name))
        self.happened["policies deleted and created again"] += 1

        def again() -> None:
            eventually(lambda: not self._exists(policy.name), within=60, what="it is gone")
            stage.make_policies(self.place, NAMESPACE, {policy.name: policy.spec})

        self._repair_later(policy, again)

    def _suspend(self) -> None:
        policy = self._whole()
        if policy is not None:
            self._patch(policy, {"suspend": True})
            self.happened["policies suspended"] += 1
            self._repair_later(policy, lambda: self._patch(policy, {"suspend": False}))

    def _break(self) -> None:
        """A variable that its pods do not have: what they can open is unknown."""
        policy = self._whole()
        if policy is not None:
            self._patch(policy, {"target": {"connectionsPerReplica": {"env": "NOT_THERE"}}})
            self.happened["policies made unreadable"] += 1
            repaired = {"target": {"connectionsPerReplica": {"env": "PG_POOL_MAX"}}}
            self._repair_later(policy, lambda: self._patch(policy, repaired))

    def _kill(self) -> None:
        with contextlib.suppress(LookupError, ProcessLookupError):
            os.kill(self.place.pid(), signal.SIGKILL)
            self.happened["operator killed"] += 1

    # --- and is repaired -----------------------------------------------------------------------

    def _whole(self) -> Policy | None:
        left = [policy for policy in SIX if policy.name not in self._spoiled]
        # Half of them at most, so that there is always another policy to share with.
        return self.chance.choice(left) if len(left) > len(SIX) / 2 else None

    def _repair_later(self, policy: Policy, repair: Callable[[], None]) -> None:
        self._spoiled.add(policy.name)

        def whole() -> None:
            repair()
            self._spoiled.discard(policy.name)

        due = time.monotonic() + self.chance.uniform(*REPAIRED_SECONDS)
        self._repairs.append((due, whole))

    def _repair_what_is_due(self) -> None:
        now = time.monotonic()
        due = [item for item in self._repairs if item[0] <= now]
        self._repairs = [item for item in self._repairs if item[0] > now]
        for _, repair in due:
            repair()

    def _patch(self, policy: Policy, spec: Json) -> None:
        self.place.api.patch(_path(policy.name), {"spec": spec})

    def _exists(self, name: str) -> bool:
        return any(p["metadata"]["name"] == name for p in stage.policies(self.place, NAMESPACE))


def _path(name: str) -> str:
    return f"{POLICIES}/namespaces/{NAMESPACE}/queuebacklogpolicies/{name}"


def prepare(place: Place) -> JobDatabase:
    """The database with a role for each policy's workers, the targets and the policies."""
    server = place.cluster.postgres
    database = JobDatabase.create(server, "jobs", ("queue_jobs",))
    with database.connect() as connection:
        connection.execute("CREATE INDEX ON queue_jobs (type, status, created_at)")
        for name in ("web", *(policy.role for policy in SIX)):
            role = sql.Identifier(name)
            create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            connection.execute(create.format(role, sql.Literal(PASSWORD)))
            grant = sql.SQL("GRANT SELECT, UPDATE ON queue_jobs TO {}")
            connection.execute(grant.format(role))
    stage.make_namespace(place, NAMESPACE)
    stage.make_secret(place, NAMESPACE, stage.SECRET, database.url)
    for policy in SIX:
        place.api.create(f"{APPS}/namespaces/{NAMESPACE}/deployments", policy.deployment)
    stage.make_policies(place, NAMESPACE, {policy.name: policy.spec for policy in SIX})
    return database


@contextlib.contextmanager
def watched(place: Place, database: JobDatabase, seed: int) -> Iterator[tuple[Fleet, Auditor]]:
    """The pods' connections, and the auditor."""
    server = place.cluster.postgres
    crews = {
        p.name: Crew(server.url(p.role, database.name, PASSWORD), p.pool, p.name, WORKER_SPEED)
        for p in SIX
    }
    kinds = {p.name: Kind(p.role, p.pool, p.max_surge) for p in SIX}
    fleet = Fleet(place.api, NAMESPACE, crews, seed)
    auditor = Auditor(place.api, server, NAMESPACE, kinds)
    fleet.start()
    auditor.start()
    try:
        yield fleet, auditor
    finally:
        auditor.stop()
        fleet.stop()


@dataclass(frozen=True)
class Story:
    """What was seen."""

    seconds: float
    chaos: Chaos
    fleet: Fleet
    auditor: Auditor
    writes: list[Request]
    verdicts: list[Verdict]
    refused_in_log: int
    kinds: Counter[str]  # Events by reason
    restarts: int
    usable: int


def run(place: Place, seconds: float, seed: int) -> Story:
    """Chaos, and then what is left of it."""
    database = prepare(place)
    stage.until_ready(place, NAMESPACE, len(SIX))
    mark, restarts = place.audit.mark(), place.restarts()
    log = place.cluster.postgres.log
    log_begins = log.stat().st_size
    chaos = Chaos(place, database, random.Random(seed))
    with watched(place, database, seed) as (fleet, auditor):
        say(f"chaos for {seconds:g} s")
        began = time.monotonic()
        try:
            chaos.play(seconds)
        finally:
            chaos.close()
        time.sleep(QUIET_SECONDS)
        took = time.monotonic() - began
        eventually(lambda: place.probe("readyz")[0] == 200, within=60, what="it is back")
        stage.until_ready(place, NAMESPACE, len(SIX))
    for thread in (fleet, auditor):
        if thread.failure is not None:
            raise LocalError(f"the run is void: {thread.failure!r}")
    writes = [r for r in place.audit.since(mark, namespace=NAMESPACE) if _scales(r)]
    with log.open("rb") as file:
        file.seek(log_begins)
        text = file.read().decode(errors="replace")
    events = place.api.items(f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events")
    return Story(
        took,
        chaos,
        fleet,
        auditor,
        writes,
        auditor.judge(writes, HEADROOM),
        sum(text.count(word) for word in REFUSALS),
        Counter(str(e["reason"]) for e in events if e["regarding"]["kind"] == "QueueBacklogPolicy"),
        place.restarts() - restarts,
        MAX_CONNECTIONS - 3,
    )


def _scales(request: Request) -> bool:
    ok = 200 <= request.code < 300
    return ok and request.writes and request.resource.endswith("/scale")


def judge(result: Result, story: Story) -> None:
    """The promise: nothing beyond the server, ever."""
    beyond = [v for v in story.verdicts if v.most > story.usable]
    auditor, samples = story.auditor, story.auditor.samples
    result.bar(
        "steps up that together could exceed the server minus headroom",
        "0",
        f"{len(beyond)} of {len(story.verdicts)}",
        not beyond,
    )
    over = [k for k in samples if auditor.potential(k) + auditor.others(k) > story.usable]
    result.bar(
        "samples at which full pools would have exhausted the server",
        "0",
        f"{len(over)} of {len(samples)}",
        not over,
    )
    refused = sum(story.fleet.refused.values()) + story.chaos.refused + story.refused_in_log
    result.bar("connections refused (too many clients)", "0", str(refused), refused == 0)
    minutes = story.seconds / 60
    result.bar("length", "≥ 10 min", f"{minutes:.1f} min", minutes >= 10)
    gave_back = sum(1 for write in story.writes if write.replicas is not None)
    result.bar("writes of replicas", "≥ 100", str(gave_back), gave_back >= 100)
    for verdict in beyond[:5]:
        result.notes.append(f"beyond: {verdict.target} to {verdict.to}: {verdict.text}")


def rows(story: Story) -> list[tuple[str, object]]:
    samples, auditor = story.auditor.samples, story.auditor
    most_sessions = max(sum(k.sessions.values()) for k in samples)
    most = max(auditor.potential(k) + auditor.others(k) for k in samples)
    per_second = len(samples) / story.seconds
    return [
        *sorted(story.chaos.happened.items()),
        ("operator's process started again", story.restarts),
        ("pods that lived", len(story.fleet.pods_seen)),
        ("connections that pods opened", story.fleet.opened),
        ("jobs finished", story.fleet.finished),
        ("samples of the auditor", f"{len(samples)}, {per_second:.1f} per second"),
        ("most sessions at once", f"{most_sessions} of {story.usable}"),
        ("most that pods and other clients could have opened", f"{most} of {story.usable}"),
        *((f"Event {reason}", count) for reason, count in sorted(story.kinds.items())),
    ]


def main() -> int:
    """The exit code is 0 when every bar was reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=660)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    result = Result("chaos", "Six policies on one database, in chaos")
    with stage.stage("chaos", max_connections=MAX_CONNECTIONS) as place:
        story = run(place, chosen.seconds, chosen.seed)
    judge(result, story)
    counts = [(what, str(number)) for what, number in rows(story)]
    result.tables.append(Table("What happened", ("what", "how often"), counts))
    kinds = [(p.name, p.priority, str(p.pool), p.max_surge) for p in SIX]
    columns = ("policy", "priority", "pool of a pod", "maxSurge")
    result.tables.append(Table("The policies", columns, kinds))
    result.raw = {"seed": chosen.seed, "counts": dict(counts)}
    result.notes.append(HOW.replace("\n", " "))
    return result.save()


HOW: Final = f"""\
One PostgreSQL with {MAX_CONNECTIONS} connections (3 for superusers), a headroom of {HEADROOM}, six
policies with an interval of {INTERVAL_SECONDS} s. Each pod has a pool of real connections that
fills and empties; a pod that ends keeps them for up to 6 s. Other clients hold {OTHERS[0]} to
{OTHERS[1]} connections. The auditor reads pg_stat_activity, all targets and their pods on its own.
It compares every step up with what could be known before it: pods with surge and pods that are
about to end, other clients, and the headroom. A policy that is deleted leaves its pods, which then
count as other clients."""

if __name__ == "__main__":
    sys.exit(main())
