"""Puts everything in its place: database, operator by its chart, the guarded system, the policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from demo import database
from demo.bullmq import BACKFILL_JOBS
from demo.manifests import NAMESPACE, manifest, namespace, secret
from demo.place import IMAGE, NODE_IMAGE, OPERATOR_IMAGE, Place, pod_ip
from demo.remote import RELEASE, RELEASE_NAMESPACE
from demo.scenario import Scenario, Stack
from demo.watch import Watch
from local.paths import REPOSITORY

CHART = REPOSITORY / "charts" / "starforge-backlog"
READY_SECONDS = 300.0

REDIS_KEYS = ("REDIS_URL", "BACKLOG_REDIS_URL")
"""Keys of the Secret `starforge-redis`: the application's and the operator's."""

KEYS = {
    "DATABASE_URL": "etl",
    "API_DATABASE_URL": "api",
    "WEB_DATABASE_URL": "web",
    "STRANGER_DATABASE_URL": "stranger",
    "BACKLOG_DATABASE_URL": "backlog",
}
"""Keys of the Secret `starforge-db` → whose connection string."""


def everything(place: Place, scenario: Scenario, say: Callable[[str], None]) -> Watch:
    """All of it, what can be done at once at once; returns eyes that are open."""
    say("Making tables and roles, installing the operator's chart, starting the guarded system.")
    bullmq = scenario.stack is Stack.BULLMQ
    passwords = database.passwords()
    database.prepare(place.admin_url, passwords, *(["schema_bullmq"] if bullmq else []))
    urls = {
        key: database.url_for(
            place.admin_url, who, passwords[who], host=place.pods_reach_postgres_at
        )
        for key, who in KEYS.items()
    }
    apply(place, namespace(), secret("starforge-db", urls))
    redis_url = ""
    if bullmq:
        redis_url = place.start_redis()
        apply(place, secret("starforge-redis", dict.fromkeys(REDIS_KEYS, redis_url)))
    with ThreadPoolExecutor(max_workers=2) as pool:
        chart = pool.submit(_operator, place)
        system = pool.submit(_system, place, scenario)
        chart.result()
        system.result()
    watch = Watch(place.admin_url, place.kubeconfig, redis_url)
    watch.start()
    _wait_for_workers(place)
    apply(place, _policy(place, scenario))
    watch.cluster_eye.policy_was_applied()
    say(
        f"Watch it from another terminal:\n"
        f"  export KUBECONFIG={place.kubeconfig}\n"
        f"  {place.kubectl.program} get qbp -n {NAMESPACE} -w"
    )
    return watch


def apply(place: Place, *documents: object) -> None:
    """Manifests as text or as mappings."""
    texts = [d if isinstance(d, str) else json.dumps(d) for d in documents]
    place.kubectl("apply", "-f", "-", stdin="\n---\n".join(texts))


def _operator(place: Place) -> None:
    repository, _, tag = OPERATOR_IMAGE.partition(":")
    place.helm(
        *("upgrade", "--install", RELEASE, CHART, "--namespace", RELEASE_NAMESPACE),
        *("--create-namespace", "--wait", "--timeout", f"{READY_SECONDS:.0f}s"),
        *("--set", f"image.repository={repository}", "--set", f"image.tag={tag}"),
        *("--set", "logFormat=text", "--set", f"watchNamespaces={{{NAMESPACE}}}"),
        timeout=READY_SECONDS + 10,
    )


def _system(place: Place, scenario: Scenario) -> None:
    values: dict[str, object] = {
        "IMAGE": IMAGE,
        "WEB_CONNECTIONS": scenario.web_connections,
        "JOB_MS": scenario.job_ms,
    }
    if scenario.stack is Stack.TABLE:
        apply(place, manifest("workloads", **values))
        return
    values |= {"NODE_IMAGE": NODE_IMAGE, "BACKFILL_JOBS": BACKFILL_JOBS}
    apply(place, manifest("workloads-bullmq", **values))


def _policy(place: Place, scenario: Scenario) -> str:
    if scenario.stack is Stack.TABLE:
        return manifest("policy", TRIP_WAITING=scenario.trip_waiting)
    # The API serves the application's metrics; only now its address is known.
    prometheus = place.start_prometheus([f"{pod_ip(place.kubectl, api_pod(place))}:8080"])
    return manifest("policy-bullmq", TRIP_WAITING=scenario.trip_waiting, PROMETHEUS_URL=prometheus)


def api_pod(place: Place) -> str:
    """Name of the ingestion API's pod."""
    label = ("-l", "app=api", "-o", "jsonpath={.items[0].metadata.name}")
    return place.kubectl("get", "pod", "-n", NAMESPACE, *label)


def _wait_for_workers(place: Place) -> None:
    names = [f"deployment/{name}" for name in ("api", "webapp", "etl-worker")]
    limit = f"--timeout={READY_SECONDS:.0f}s"
    place.kubectl(
        *("wait", "-n", NAMESPACE, "--for=condition=Available", limit, *names),
        timeout=READY_SECONDS + 10,
    )


def clients(place: Place, scenario: Scenario) -> str:
    """Start the clients' pod; returns the address of its controls."""
    address = pod_ip(place.kubectl, api_pod(place))
    apply(place, manifest("storm", IMAGE=IMAGE, API_IP=address, SCHEDULE=scenario.schedule))
    _wait_for_pod(place, "clients")
    return place.pod_url("clients", 8080)


def _wait_for_pod(place: Place, name: str) -> None:
    limit = f"--timeout={READY_SECONDS:.0f}s"
    place.kubectl(
        *("wait", "-n", NAMESPACE, f"pod/{name}", "--for=condition=Ready", limit),
        timeout=READY_SECONDS + 10,
    )


def operator_pod(place: Place) -> str:
    """State of the operator's pod in a line, for messages."""
    columns = "custom-columns=N:.metadata.name,P:.status.phase,R:.status.containerStatuses[*].ready"
    return place.kubectl(
        "get", "pods", "-n", RELEASE_NAMESPACE, "--no-headers", "-o", columns
    ).strip()
