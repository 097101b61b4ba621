"""Sources of every kind in which nothing happens: BullMQ queues, Prometheus series, job tables."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final

import redis
from tests.bench import stage
from tests.bench.bullmq_source import OPERATOR
from tests.e2e.api import Json
from tests.e2e.place import Place
from tests.node.bull import Bull
from tests.prometheus.exporter import Exporter

from local.prometheus import PrometheusServer
from local.redis import RedisServer

# Jobs of each queue that are due in a day: there is something to read, and it does not change.
DELAYED: Final = 20
DAY_MS: Final = 86_400_000
# Different questions among the policies that ask Prometheus.
SERIES: Final = 10
SCRAPE_SECONDS: Final = 5.0
_ESTABLISHED: Final = "01"


def start_redis(
    stack: contextlib.ExitStack, place: Place, bull: Bull, queues: list[str], name: str = "redis"
) -> RedisServer:
    """With real queues of BullMQ 5."""
    server = RedisServer.start(place.run_dir, name=name, run=place.cluster.run)
    stack.callback(server.close)
    for queue in queues:
        made = bull.queue(server.url(), queue, version=5)
        made.add_bulk(DELAYED, {"process_snapshot": 3, "send_webhook": 1}, delay=DAY_MS)
        made.close()
    return server


def start_prometheus(
    stack: contextlib.ExitStack, place: Place, name: str = "prometheus"
) -> PrometheusServer:
    """The runbook's metrics of a StarForge that rests, and a gauge for each series."""
    exporter = stack.enter_context(Exporter(**{f"waiting_{n}": 0 for n in range(SERIES)}))
    for counter in ("received", "processed", "failed"):
        exporter.rates[f"starforge_etl_snapshots_{counter}"] = 0
    server = PrometheusServer.start(
        place.run_dir,
        name=name,
        targets={"starforge": [exporter.address]},
        interval=SCRAPE_SECONDS,
        run=place.cluster.run,
    )
    stack.callback(server.close)
    server.wait_for(f"waiting_{SERIES - 1}")
    return server


def secret(name: str) -> Json:
    """A reference to what `stage.make_secret` has made."""
    return {"secretKeyRef": {"name": name, "key": stage.KEY}}


def in_redis(url: str, queue: str) -> Json:
    return {"name": "jobs", "bullmq": {"url": secret(url), "name": queue}}


def in_prometheus(url: str, number: int) -> Json:
    series = {"url": url, "waiting": f"sum(waiting_{number % SERIES})"}
    return {"name": "jobs", "prometheus": series}


def in_table(types: int, number: int) -> Json:
    return {"name": "jobs", "postgres": {"types": [f"type-{number % types}"]}}


def paused_by(way: Json) -> Json:
    """A producer and a breaker that never opens: a pass reads both."""
    return {
        "producers": [{"name": "ingestion", **way}],
        "breakers": [
            {"name": "ingestion", "pause": ["ingestion"], "trip": [{"waiting": 5000, "for": "10m"}]}
        ],
    }


def redis_connections(client: redis.Redis) -> int:
    """Of the operator, as the server lists them."""
    found: list[dict[str, Any]] = client.client_list()
    return sum(1 for one in found if one["name"] == OPERATOR)


def connections_to(port: int) -> int:
    """TCP connections that were made to a port of this machine, by the kernel's list."""
    rows = Path("/proc/net/tcp").read_text("utf-8").splitlines()[1:]
    fields = [row.split() for row in rows]
    return sum(
        1 for row in fields if int(row[2].rpartition(":")[2], 16) == port and row[3] == _ESTABLISHED
    )
