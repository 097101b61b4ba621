"""Reads the database, the cluster and the clients once a second, from outside the operator."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import redis
from kubernetes import client, config
from psycopg.rows import dict_row
from urllib3.exceptions import HTTPError

from demo.bullmq import QueuesEye
from demo.database import statement
from demo.latest import Latest
from demo.manifests import NAMESPACE
from demo.recording import Backfill, Clients, Connections, Jobs, Operator, Sample, Workload

POLICY, TARGET = "etl", "etl-worker"
SECONDS = 1.5
"""Time limit of one read of the cluster or the clients."""


@dataclass(frozen=True, slots=True)
class DatabaseView:
    """One read of the database."""

    jobs: Jobs
    connections: Connections
    flag_paused: bool
    backfill: Backfill | None = None


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One read of the cluster."""

    workload: Workload
    operator: Operator | None


class DatabaseEye:
    """One connection of the demo's own, as a superuser: it is let in when others are not."""

    def __init__(self, url: str, queues: QueuesEye | None = None) -> None:
        self._url = url
        self._queues = queues
        self._connection: psycopg.Connection[Any] | None = None

    def read(self) -> DatabaseView:
        """Count. Opens the connection again after it was lost."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=3, application_name="demo-recorder"
            )
        cursor = self._connection.cursor(row_factory=dict_row)
        connections = cursor.execute(statement("connections")).fetchone()
        flag = self._connection.execute(statement("flag")).fetchone()
        jobs, backfill = self._jobs(cursor)
        return DatabaseView(
            jobs=jobs,
            connections=Connections.model_validate(connections),
            flag_paused=bool(flag and flag[0]),
            backfill=backfill,
        )

    def _jobs(self, cursor: psycopg.Cursor[dict[str, Any]]) -> tuple[Jobs, Backfill | None]:
        if self._queues is None:
            return Jobs.model_validate(cursor.execute(statement("jobs")).fetchone()), None
        # The queue first: a job that ends in between is counted twice for a second, and not lost.
        seen = self._queues.read()
        done = cursor.execute(statement("jobs_done")).fetchone() or {}
        return seen.jobs(done["done"], done["repeated"]), seen.backfill(done["backfill_done"])

    def close(self) -> None:
        """Give the connections back."""
        if self._queues is not None:
            self._queues.close()
        if self._connection is not None:
            self._connection.close()


class ClusterEye:
    """Reads the Deployment, its pods and the policy's status."""

    def __init__(self, kubeconfig: Path) -> None:
        api = config.new_client_from_config(config_file=str(kubeconfig))
        self._objects = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._policy_there = threading.Event()

    def read(self) -> ClusterView:
        """One read; the policy may not be there yet."""
        deployment = self._get("apps", "v1", "deployments", TARGET)
        pods = self._core.list_namespaced_pod(
            NAMESPACE, label_selector=f"app={TARGET}", _request_timeout=SECONDS
        )
        terminating = sum(pod.metadata.deletion_timestamp is not None for pod in pods.items)
        workload = Workload(
            replicas=deployment["spec"]["replicas"],
            ready=deployment.get("status", {}).get("readyReplicas", 0),
            terminating=terminating,
        )
        if not self._policy_there.is_set():
            return ClusterView(workload, None)
        policy = self._get("backlog.starforge.dev", "v1alpha1", "queuebacklogpolicies", POLICY)
        return ClusterView(workload, operator(policy.get("status") or {}))

    def policy_was_applied(self) -> None:
        """From now on its absence is an error."""
        self._policy_there.set()

    def _get(self, group: str, version: str, plural: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._objects.get_namespaced_custom_object(
            group, version, NAMESPACE, plural, name, _request_timeout=SECONDS
        )
        return found


def operator(status: Mapping[str, Any]) -> Operator | None:
    """The part of a policy's status that the recording keeps; None before the first pass."""
    if not status.get("summary"):
        return None
    scaling = status.get("scaling") or {}
    step = scaling.get("lastStep") or {}
    budget = status.get("budget") or {}
    breakers = status.get("breakers") or [{}]
    return Operator(
        summary=status["summary"],
        cause=status.get("cause") or "",
        budget=budget.get("replicas"),
        formula=budget.get("formula") or "",
        breaker=breakers[0].get("state") or "",
        breaker_why=breakers[0].get("message") or "",
        step=f"{step['from']} → {step['to']}" if {"from", "to"} <= step.keys() else "",
        step_why=step.get("message") or "",
        verdict=step.get("verdict") or "",
        verdict_message=step.get("verdictMessage") or "",
        held=tuple(p["producer"] for p in status.get("paused") or () if p.get("by") == "Us"),
    )


def ask_clients(url: str, path: str = "/counts", *, post: bool = False) -> Clients:
    """Talk to the storm's controls."""
    method = "POST" if post else "GET"
    request = urllib.request.Request(f"{url}{path}", method=method)  # noqa: S310 - our own pod
    # Stopping waits for the answers of all requests in flight.
    limit = 15.0 if post else SECONDS
    with urllib.request.urlopen(request, timeout=limit) as answer:  # noqa: S310 - our own pod
        return Clients.model_validate(json.load(answer))


class Watch:
    """All three, and one sample out of what they saw last."""

    def __init__(self, database_url: str, kubeconfig: Path, redis_url: str = "") -> None:
        self.cluster_eye = ClusterEye(kubeconfig)
        eye = DatabaseEye(database_url, QueuesEye(redis_url) if redis_url else None)
        self._database = Latest(
            "database", eye.read, expected=(psycopg.Error, redis.RedisError), close=eye.close
        )
        self._cluster = Latest(
            "cluster",
            self.cluster_eye.read,
            expected=(client.ApiException, OSError, HTTPError),
            every=0.5,
            fresh=4.0,
        )
        self._clients: Latest[Clients] | None = None

    def start(self) -> None:
        """Begin to read."""
        self._database.start()
        self._cluster.start()

    def follow_clients(self, url: str) -> None:
        """The clients' address is known only when their pod runs."""
        self._clients = Latest(
            "clients",
            lambda: ask_clients(url),
            expected=(urllib.error.URLError, OSError),
            every=0.5,
            fresh=4.0,
        )
        self._clients.start()

    def stop(self) -> None:
        """Stop reading."""
        for source in (self._database, self._cluster, self._clients):
            if source is not None:
                source.stop()

    def problems(self) -> str:
        """What is not answering, for people who wonder."""
        sources: list[tuple[str, Latest[Any] | None]] = [
            ("database", self._database),
            ("cluster", self._cluster),
            ("clients", self._clients),
        ]
        return "; ".join(f"{name}: {s.problem}" for name, s in sources if s and s.problem)

    def sample(self, t: float) -> Sample:
        """What is known now."""
        database, cluster = self._database.value, self._cluster.value
        return Sample(
            t=round(t, 2),
            at=datetime.now(UTC),
            jobs=database.jobs if database else None,
            backfill=database.backfill if database else None,
            connections=database.connections if database else None,
            flag_paused=database.flag_paused if database else None,
            workload=cluster.workload if cluster else None,
            operator=cluster.operator if cluster else None,
            clients=self._clients.value if self._clients else None,
        )
