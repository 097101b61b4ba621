"""Queues and databases that only Prometheus reports, through the whole operator: a real Prometheus
that scrapes a real exporter."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

import pytest
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from tests.e2e.api import Json
from tests.e2e.sources import OBJECTIVES, in_prometheus, own_prometheus
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import SPEC, TRIPS, World
from tests.prometheus.exporter import Exporter

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus, pytest.mark.timeout(1800)]

SCRAPE: Final = 1.0  # seconds; one that is late ends its series until the next
WAITING: Final = "starforge_queue_jobs_waiting_total"
RECEIVED: Final = "starforge_etl_snapshots_received"
PROCESSED: Final = "starforge_etl_snapshots_processed"
FAILED: Final = "starforge_etl_snapshots_failed"
ARRIVALS: Final = 40.0  # jobs per second
PER_REPLICA: Final = 8.0  # jobs per second

# Rates want half of their window, and four scrapes of it.
SCALING: Final[Json] = {**SPEC["scaling"], "observeFor": "10s"}

SERVER_LIMIT: Final = 50
SUPERUSERS: Final = 3
POOL: Final = 5
OTHERS: Final = 12  # connections of a web application


class Application(Exporter):
    """The ETL and its database: what they export follows the target's replicas, which is how long
    workers take. The age of the oldest job has the time at which it was read with it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._over = threading.Event()
        self._speeds: dict[str, float] = {}  # per second
        self._counted = time.monotonic()
        self.read_at: float | None = None  # seconds; None: just now
        super().__init__(
            **{WAITING: 1200.0},
            pg_settings_max_connections=SERVER_LIMIT,
            pg_settings_superuser_reserved_connections=SUPERUSERS,
            pg_stat_activity_max_tx_duration=1,
        )
        self._work(1)

    def collect(self) -> Iterator[Metric]:
        # By the time that passed: on a busy machine a scrape comes late, and the work is no less.
        now = time.monotonic()
        passed, self._counted = now - self._counted, now
        self.rates = {name: speed * passed for name, speed in self._speeds.items()}
        yield from super().collect()
        age = GaugeMetricFamily("oldest_job_age_seconds", "")
        age.add_metric((), 90, timestamp=self.read_at or time.time())
        yield age

    def _work(self, replicas: int) -> None:
        self._speeds = {RECEIVED: ARRIVALS, PROCESSED: replicas * PER_REPLICA, FAILED: 0.0}
        self.by_role = {self._world.store.worker: replicas * POOL, "web": OTHERS}

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        def follow() -> None:
            while not self._over.wait(SCRAPE):
                self._work(self._world.replicas())

        with ThreadPoolExecutor(1) as together:
            following = together.submit(follow)
            try:
                yield
            finally:
                self._over.set()
                following.result()


@contextlib.contextmanager
def exported(world: World) -> Iterator[tuple[Application, str]]:
    """An application with a Prometheus that has scraped it long enough for its rates."""
    world.deploy(env={"PG_POOL_MAX": f"{POOL}"})
    application = Application(world)
    with application, application.working():
        targets = {"starforge": [application.address]}
        with own_prometheus(world, targets, interval=SCRAPE) as prometheus:
            prometheus.wait_for(f"count_over_time({RECEIVED}_total[10s]) > 5")
            yield application, prometheus.url


def queue(world: World) -> Json:
    """The first queue of status."""
    found: Json = world.status()["queues"][0]
    return found


def about(world: World, field: str, rate: float) -> bool:
    """Whether a rate of status is that one."""
    found = queue(world)[field]
    return found != "unknown" and float(found) == pytest.approx(rate, rel=0.3)


def holds(world: World, reason: str, *words: str) -> None:
    """Reported with a reason and the query; no step while it lasts."""
    found = world.until_condition("Ready", reason)
    for text in words:
        assert text in found["message"]
    world.until_not_known("Scaling")
    steps = len(world.scale_writes())
    world.until_passes(4)
    world.until_condition("Ready", reason)
    world.until_not_known("Scaling")
    assert len(world.scale_writes()) == steps


def goes_on(world: World) -> None:
    steps = len(world.scale_writes())
    world.until_ready()
    world.until(lambda: len(world.scale_writes()) > steps, "a further step")


def a_queue_of_series_is_reported_and_stepped_for(world: World) -> None:
    with exported(world) as (_, url):
        jobs = in_prometheus(url, oldestAgeSeconds="max(oldest_job_age_seconds)")
        world.apply(queues=[jobs], scaling=SCALING, database=world.roomy())
        world.until_ready()
        expected = ("1200", "1m")
        world.until(
            lambda: (queue(world)["waiting"], queue(world)["oldest"]) == expected, "the jobs"
        )
        world.until(lambda: about(world, "arrivalsPerSecond", ARRIVALS), "rates")
        assert f"Prometheus at {url}" in queue(world)["source"]
        world.until(lambda: len(world.scale_writes()) >= 2, "two steps")
        world.until_reported("StepPassed")
        replicas = [1, *(write.replicas or 0 for write in world.scale_writes())]
        assert {after - before for before, after in pairwise(replicas)} == {1}


def an_exporter_that_repeats_itself_is_stale(world: World) -> None:
    """Prometheus goes on answering with the sample of before."""
    with exported(world) as (application, url):
        jobs = in_prometheus(url, oldestAgeSeconds="max(oldest_job_age_seconds)")
        world.apply(queues=[jobs], scaling=SCALING, database=world.roomy())
        world.until(world.scale_writes, "a step")
        application.read_at = time.time()
        holds(world, "Stale", "oldestAgeSeconds (max(oldest_job_age_seconds))", "staleAfter")
        assert queue(world)["oldest"] == "unknown"
        world.until(lambda: queue(world)["waiting"] == "1200", "the others are known")
        application.read_at = None
        goes_on(world)


def an_exporter_that_died_is_no_empty_queue(world: World) -> None:
    with exported(world) as (application, url):
        world.apply(queues=[in_prometheus(url)], scaling=SCALING, database=world.roomy())
        world.until(world.scale_writes, "a step")
        application.stop()
        holds(world, "EmptyResult", "queues[jobs].prometheus.waiting", WAITING)
        assert queue(world)["waiting"] == "unknown"


def single_signals_replace_the_tables_own(world: World) -> None:
    """The throughput of the application, the waiting jobs of the table."""
    with exported(world) as (application, url):
        signals = {
            "url": url,
            "staleAfter": "5s",
            "arrivals": f"sum(rate({RECEIVED}_total[$window]))",
            "completed": f"sum(rate({PROCESSED}_total[$window]))",
        }
        jobs = {"name": "jobs", "postgres": {}, "signals": signals, "objectives": OBJECTIVES}
        world.store.enqueue(TRIPS)
        world.apply(queues=[jobs], scaling=SCALING, database=world.roomy(), mode="Observe")
        world.until_ready()
        world.until(lambda: queue(world)["waiting"] == f"{TRIPS}", "the table's own")
        world.until(lambda: about(world, "throughputPerSecond", PER_REPLICA), "rates")
        world.until(lambda: about(world, "arrivalsPerSecond", ARRIVALS), "rates")
        world.apply(mode="Enforce")
        world.until(world.scale_writes, "a step")
        # The table is still there; half of what a step needs is not.
        application.stop()
        world.until_not_known("Scaling")
        steps = len(world.scale_writes())
        world.until_passes(4)
        assert len(world.scale_writes()) == steps
        world.until(lambda: queue(world)["waiting"] == f"{TRIPS}", "the table's own")
        assert queue(world)["throughputPerSecond"] == "unknown"
        world.until(lambda: "signals" in world.condition("Scaling")["message"], "what is missing")


def a_database_without_a_login_gives_a_budget(world: World) -> None:
    """No URL anywhere: connections and limits by postgres_exporter's metrics."""
    with exported(world) as (_, url):
        scraped = {"url": url, "server": world.namespace, "staleAfter": "5s"}
        database = {
            "prometheus": scraped,
            "headroom": 2,
            "workerRole": world.store.worker,
            "pressure": {"utilizationPercent": 100},
        }
        world.apply(queues=[in_prometheus(url)], scaling=SCALING, database=database)
        world.until_ready()
        budget = world.until(lambda: world.status().get("budget"), "a budget")
        slots = (SERVER_LIMIT - SUPERUSERS - OTHERS - 2) // POOL
        assert budget["replicas"] == slots - 1, budget  # one for the surge of a rollout
        world.until_condition("Scaling", "BudgetExhausted")
        replicas = [1, *(write.replicas or 0 for write in world.scale_writes())]
        assert max(replicas) == slots - 1
        assert {after - before for before, after in pairwise(replicas)} == {1}
        with world.store.connect() as admin:
            row = admin.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = %s", (world.store.operator,)
            ).fetchone()
        assert row == (0,), "nobody logged in"


STORIES: Final[tuple[Story, ...]] = (
    a_queue_of_series_is_reported_and_stepped_for,
    an_exporter_that_repeats_itself_is_stale,
    an_exporter_that_died_is_no_empty_queue,
    single_signals_replace_the_tables_own,
    a_database_without_a_login_gives_a_budget,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_prometheus_queue(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
