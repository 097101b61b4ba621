"""A cluster with the operator in it, as its chart installs it, and objects made by the dozen."""

from __future__ import annotations

import base64
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import yaml
from tests.e2e.api import APPS, CORE, POLICIES, Api, Json
from tests.e2e.audit import AuditLog
from tests.e2e.place import ACCOUNT, CHART, NAMESPACE, RELEASE, Place

from local.cluster import LocalCluster, NodeOptions, PostgresOptions
from local.node import DEFAULT_IMAGES
from local.paths import new_run_dir
from local.postgres import Setting
from local.waiting import eventually

SECRET: Final = "starforge-db"
KEY: Final = "DATABASE_URL"
# Requests in flight while objects are made: what one API server on two cores keeps busy with.
MAKERS: Final = 8
_began = time.monotonic()


def say(text: str) -> None:
    """Progress on standard error; standard output is for the result."""
    sys.stderr.write(f"[bench {time.monotonic() - _began:5.0f} s] {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def stage(
    name: str,
    *,
    max_connections: int = 100,
    settings: Mapping[str, Setting] | None = None,
    restart_backoff: float = 0.02,
) -> Iterator[Place]:
    """Started on entry, gone on exit. The API server keeps an audit log of the operator."""
    run_dir = new_run_dir(f"bench-{name}")
    log, flags = AuditLog.configure(run_dir, ACCOUNT)
    cluster = LocalCluster(
        f"bench-{name}",
        node=NodeOptions(images=DEFAULT_IMAGES, restart_backoff=restart_backoff),
        postgres=PostgresOptions(max_connections=max_connections, settings=settings or {}),
        run_dir=run_dir,
        apiserver_flags=flags,
        existing=False,
    )
    say("starting a cluster, a PostgreSQL and the operator")
    with cluster:
        assert cluster.control_plane is not None
        with contextlib.closing(Api.admin(cluster.control_plane)) as api:
            cluster.helm(
                *("install", RELEASE, CHART, "-n", NAMESPACE, "--create-namespace", "-f", "-"),
                stdin=yaml.safe_dump({"logFormat": "json", "logLevel": "info"}),
            )
            place = Place(cluster, api, log, run_dir)
            place.back(after=-1)
            yield place
    say("everything is stopped")


def make_namespace(place: Place, name: str) -> None:
    place.api.create(f"{CORE}/namespaces", {"metadata": {"name": name}})


def make_secret(place: Place, namespace: str, name: str, url: str) -> None:
    """A Secret as policies refer to it."""
    data = {KEY: base64.b64encode(url.encode()).decode()}
    place.api.create(
        f"{CORE}/namespaces/{namespace}/secrets", {"metadata": {"name": name}, "data": data}
    )


def make_deployments(place: Place, namespace: str, names: list[str]) -> None:
    """Targets of one replica with one connection, Ready without a process."""
    path = f"{APPS}/namespaces/{namespace}/deployments"
    _all(lambda name: place.api.create(path, _deployment(name)), names)

    def ready() -> bool:
        found = place.api.items(path)
        serving = [d for d in found if (d.get("status") or {}).get("readyReplicas") == 1]
        return len(serving) >= len(names)

    eventually(ready, within=300, what=f"{len(names)} targets are ready", every=1)


def make_policies(place: Place, namespace: str, specs: Mapping[str, Json]) -> None:
    """Policies, each a name and its spec."""
    path = f"{POLICIES}/namespaces/{namespace}/queuebacklogpolicies"
    _all(lambda item: place.api.create(path, _policy(*item)), list(specs.items()))


def policies(place: Place, namespace: str) -> list[Json]:
    return place.api.items(f"{POLICIES}/namespaces/{namespace}/queuebacklogpolicies")


def is_ready(policy: Json) -> bool:
    """Everything that it names could be read by its last pass."""
    conditions = (policy.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def until_ready(place: Place, namespace: str, count: int, within: float = 180) -> None:
    """Wait until so many policies are Ready."""

    def all_ready() -> bool:
        return sum(map(is_ready, policies(place, namespace))) >= count

    eventually(all_ready, within=within, what=f"{count} policies are Ready", every=1)


def _all(make: Any, items: list[Any]) -> None:
    with ThreadPoolExecutor(MAKERS) as pool:
        list(pool.map(make, items))


def _policy(name: str, spec: Json) -> Json:
    return {
        "apiVersion": "backlog.starforge.dev/v1alpha1",
        "kind": "QueueBacklogPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def _deployment(name: str) -> Json:
    labels = {"app": name}
    container = {
        "name": "worker",
        "image": "none",
        "env": [{"name": "PG_POOL_MAX", "value": "1"}],
    }
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {"local.starforge.dev/process": "none"},
                },
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }
