"""What the stories share: a ScaledObject on a real queue, what became of it, and a full server."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg import sql
from tests.e2e.api import APPS, Refused
from tests.e2e.autoscaling import HPAS, SCALED_OBJECT, SCALED_OBJECTS_OF, database, marks
from tests.e2e.world import TARGET, World

Json = dict[str, Any]

GUARDED: Final[Json] = {"name": TARGET, "guard": {"scaledObject": SCALED_OBJECT}}
OWN_HPA: Final = f"keda-hpa-{SCALED_OBJECT}"
# A pod opens ten connections of a server's hundred, twenty are headroom: six or seven fit.
POOL: Final = {"PG_POOL_MAX": "10"}
CONNECTIONS: Final = 100
OWNERS: Final = 20
# Jobs for a hundred pods: KEDA wants its maximum, whatever that is.
JOBS: Final = 500
JOBS_PER_POD: Final = 5
# KEDA, its adapter and the controller on a busy machine.
SOON: Final = 60.0
NUMBERS: Final = "numbers.jsonl"  # of a run
# Between two polls of a `Watcher`, in seconds.
POLL_SECONDS: Final = 0.02


def scaled_object(maximum: int = OWNERS, **changes: Any) -> Json:
    """Of the target, by the number of jobs; its autoscaler may go up in one step."""
    query = "SELECT count(*) FROM queue_jobs WHERE status = 'pending'"
    trigger = {
        "type": "postgresql",
        "metadata": {
            "connectionFromEnv": "DATABASE_URL",
            "query": query,
            "targetQueryValue": str(JOBS_PER_POD),
        },
    }
    up = {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}],
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": SCALED_OBJECT},
        "spec": {
            "scaleTargetRef": {"name": TARGET},
            "pollingInterval": 2,
            "minReplicaCount": 1,
            "maxReplicaCount": maximum,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": up}}},
            "triggers": [trigger],
            **changes,
        },
    }


def so_path(world: World) -> str:
    return f"{SCALED_OBJECTS_OF.format(world.namespace)}/{SCALED_OBJECT}"


def make(world: World, document: Json) -> None:
    world.api.create(SCALED_OBJECTS_OF.format(world.namespace), document)


def get(world: World) -> Json:
    return world.api.get(so_path(world))


def so_maximum(world: World) -> int:
    return int(get(world)["spec"]["maxReplicaCount"])


def write_maximum(world: World, maximum: int) -> None:
    """As a pipeline does."""
    world.api.patch(so_path(world), {"spec": {"maxReplicaCount": maximum}})


def pause(world: World, **annotations: str | None) -> None:
    notes = {f"autoscaling.keda.sh/{k.replace('_', '-')}": v for k, v in annotations.items()}
    world.api.patch(so_path(world), {"metadata": {"annotations": notes}})


def hpa_maximum(world: World) -> int:
    """Of KEDA's own autoscaler; LookupError while there is none."""
    try:
        found = world.api.get(f"{HPAS.format(world.namespace)}/{OWN_HPA}")
    except Refused as refused:
        if refused.status == 404:
            raise LookupError(OWN_HPA) from refused
        raise
    return int(found["spec"]["maxReplicas"])


def unmarked(world: World) -> bool:
    return not marks(get(world))


def budget(world: World) -> int:
    return int(world.status()["budget"]["replicas"])


def deploy(world: World) -> None:
    """A target whose login, which is KEDA's as well, may count jobs."""
    world.deploy(env=POOL)
    right = sql.SQL("GRANT SELECT ON queue_jobs TO {}").format(sql.Identifier(world.store.worker))
    with world.store.connect() as admin:
        admin.execute(right)


def scaled_by_keda(world: World, *, maximum: int = OWNERS, jobs: int = JOBS) -> None:
    """As many pods as there is work for, or KEDA at its maximum."""
    deploy(world)
    world.store.enqueue(jobs)
    make(world, scaled_object(maximum))
    wanted = min(maximum, jobs // JOBS_PER_POD)
    world.until(lambda: world.replicas() == wanted, f"{wanted} pods by KEDA", SOON)


def guard(world: World, *, headroom: int = 20, **parts: Any) -> None:
    world.apply(target=GUARDED, database=database(headroom), **parts)


def bounded(world: World) -> int:
    """Wait until the ScaledObject and KEDA's autoscaler show a number of ours."""

    def poll() -> int | None:
        found = get(world)
        maximum = int(found["spec"]["maxReplicaCount"])
        return maximum if marks(found) and hpa_maximum(world) == maximum else None

    return world.until(poll, "a lower maximum, followed", SOON)


AGAIN_SECONDS: Final = 0.02


@contextlib.contextmanager
def full(world: World) -> Iterator[list[psycopg.Connection[Any]]]:
    """Other clients take every connection that is left, and keep it; also one that becomes free:
    KEDA closes its own before it opens the next."""
    clients: list[psycopg.Connection[Any]] = []
    over = threading.Event()
    role = f"web_{world.store.database}"
    with world.store.connect() as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'web'").format(sql.Identifier(role)))
    url = world.store.server.url(role, world.store.database, "web")

    def take() -> bool:
        try:
            clients.append(psycopg.connect(url))
        except psycopg.OperationalError:
            return False
        return True

    def take_what_becomes_free() -> None:
        while not over.wait(AGAIN_SECONDS):
            take()

    taking = threading.Thread(target=take_what_becomes_free, daemon=True)
    try:
        while take():
            pass
        taking.start()
        yield clients
    finally:
        over.set()
        if taking.is_alive():
            taking.join()
        for client in clients:
            client.close()


@dataclass
class Watcher:
    """How many pods were asked for at most, and when the two maximums came down."""

    world: World
    most: int = 0
    when: dict[str, float] = field(default_factory=dict)  # seconds since the beginning
    _over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watching(self, limit: int) -> Iterator[Watcher]:
        """While the block lasts. A time is that of the first reading of `limit` or less after one
        above it."""
        began = time.monotonic()
        parts: dict[str, Callable[[], int]] = {
            "scaledobject": lambda: so_maximum(self.world),
            "hpa": lambda: hpa_maximum(self.world),
            "replicas": self._replicas,
        }
        threads = [
            threading.Thread(target=self._watch, args=(n, p, limit, began), daemon=True)
            for n, p in parts.items()
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join(10)

    def _watch(self, name: str, part: Callable[[], int], limit: int, began: float) -> None:
        above = False
        while not self._over.wait(POLL_SECONDS):
            try:
                now = part()
            except (Refused, LookupError):
                continue
            if now > limit:
                above = True
                self.when.pop(name, None)
            elif above and name not in self.when:
                self.when[name] = time.monotonic() - began

    def _replicas(self) -> int:
        path = f"{APPS}/namespaces/{self.world.namespace}/deployments/{TARGET}"
        now = int(self.world.api.get(path)["spec"]["replicas"])
        self.most = max(self.most, now)
        return now


def note(world: World, title: str, **numbers: object) -> None:
    """Numbers of a story, for docs/autoscalers.md: they are printed at the end of the run."""
    file = world.place.run_dir / NUMBERS
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps({"story": title, **numbers}) + "\n")
