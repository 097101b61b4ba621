"""Policies as data: the smallest, two that use every field, and changes of them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import yaml

Policy = dict[str, Any]

# The shortest useful policy.
MINIMAL: Final = """
apiVersion: backlog.starforge.dev/v1alpha1
kind: QueueBacklogPolicy
metadata: {name: etl}
spec:
  target: {name: etl-worker}
  database:
    url: {secretKeyRef: {name: starforge-db, key: DATABASE_URL}}
  queues:
    - name: jobs
      postgres: {}
"""

# Each field of the spec once, with the other halves of "exactly one" in items of their own.
EVERYTHING: Final = """
apiVersion: backlog.starforge.dev/v1alpha1
kind: QueueBacklogPolicy
metadata: {name: everything}
spec:
  mode: Observe
  suspend: true
  interval: 10s
  target:
    apiVersion: apps/v1
    kind: StatefulSet
    name: etl-worker
    minReplicas: 2
    maxReplicas: 20
    connectionsPerReplica: {env: PG_POOL_MAX, processes: 2, extra: 1}
    guard: {horizontalPodAutoscaler: etl-worker}
  database:
    url: {secretKeyRef: {name: starforge-db, key: DATABASE_URL}}
    prometheus:
      url: http://prometheus.monitoring:9090
      bearerToken: {secretKeyRef: {name: prometheus, key: token}}
      tls: {ca: {secretKeyRef: {name: prometheus, key: ca.crt}}, serverName: prometheus}
      tenant: etl
      staleAfter: 1m
      server: starforge-db
      connectionsByRole: sum by (usename) (pg_stat_activity_count)
      maxConnections: max(pg_settings_max_connections)
      reservedConnections: max(pg_settings_superuser_reserved_connections)
      lockWaiters: sum(pg_locks_waiting)
      longestTransactionSeconds: max(pg_stat_activity_max_tx_duration)
    tls: {ca: {secretKeyRef: {name: starforge-db, key: ca.crt}}}
    pgbouncer:
      url: {secretKeyRef: {name: starforge-db, key: CONSOLE_URL}}
      tls: {ca: {secretKeyRef: {name: starforge-db, key: ca.crt}}}
      replicas: 2
    headroom: 10
    maxConnections: 200
    workerRole: etl-worker
    pressure: {utilizationPercent: 70, lockWaiters: 3, longestTransaction: 1m}
  queues:
    - name: jobs
      priority: Critical
      postgres:
        table: app.queue_jobs
        types: [process_snapshot]
        columns:
          type: job_type
          status: state
          runAfter: due
          createdAt: created
          updatedAt: changed
        statuses:
          waiting: [pending]
          inProgress: [running, processing]
          failed: [failed]
          finished: [done]
          ignored: [archived]
      signals:
        url: https://prometheus.monitoring/one
        bearerToken: {secretKeyRef: {name: prometheus, key: token}}
        tls: {ca: {secretKeyRef: {name: prometheus, key: ca.crt}}, serverName: prometheus}
        tenant: etl
        staleAfter: 1m
        waiting: sum(jobs_waiting)
        oldestAgeSeconds: max(jobs_oldest_age_seconds)
        arrivals: sum(rate(jobs_received_total[$window]))
        completed: sum(rate(jobs_processed_total[$window]))
        failed: sum(rate(jobs_failed_total[$window]))
      objectives: {waiting: 100, oldestAge: 10m, failedPercent: 2, for: 3m}
    - name: backfill
      priority: Background
      postgres: {types: [backfill_range], columns: {absent: [createdAt]}}
      signals:
        url: http://prometheus.monitoring:9090
        basicAuth:
          username: {secretKeyRef: {name: prometheus, key: user}}
          password: {secretKeyRef: {name: prometheus, key: password}}
        completed: sum(rate(backfills_processed_total[$window]))
    - name: snapshots
      bullmq:
        url: {secretKeyRef: {name: starforge-redis, key: REDIS_URL}}
        name: etl-snapshots
        prefix: "{etl}"
        tls: {ca: {secretKeyRef: {name: starforge-redis, key: ca.crt}}, serverName: redis}
    - name: exports
      prometheus:
        url: http://prometheus.monitoring:9090
        bearerToken: {secretKeyRef: {name: prometheus, key: token}}
        tls: {ca: {secretKeyRef: {name: prometheus, key: ca.crt}}, serverName: prometheus}
        tenant: etl
        staleAfter: 1m
        waiting: sum(exports_waiting)
        oldestAgeSeconds: max(exports_oldest_age_seconds)
        arrivals: sum(rate(exports_received_total[$window]))
        completed: sum(rate(exports_processed_total[$window]))
        failed: sum(rate(exports_failed_total[$window]))
    - name: reports
      prometheus:
        url: http://prometheus.monitoring:9090
        basicAuth:
          username: {secretKeyRef: {name: prometheus, key: user}}
          password: {secretKeyRef: {name: prometheus, key: password}}
  scaling:
    stepUp: 1
    observeFor: 2m
    stepDown: 2
    scaleDownAfter: 5m
    growth: SlowStart
    drainWithin: 1h30m
    yieldFor: 1m
  producers:
    - name: ingestion
      featureFlag:
        table: app.flags
        name: ingest control
        path: [ingest, paused]
        nameColumn: flag
        dataColumn: value
        writeOwner: false
    - name: imports
      featureFlag: {name: import_control}
    - name: api
      configMap: {name: ingest-api, key: paused, paused: "yes"}
    - name: partner
      webhook:
        url: https://partner.example/ingest
        secret: {secretKeyRef: {name: partner, key: signing-key}}
        bearerToken: {secretKeyRef: {name: partner, key: token}}
        tls: {ca: {secretKeyRef: {name: partner, key: ca.crt}}, serverName: partner}
        readable: false
        timeout: 3s
        attempts: 3
    - name: crawler
      workload: {kind: CronJob, name: crawler}
    - name: background
      queue:
        url: {secretKeyRef: {name: starforge-redis, key: REDIS_URL}}
        name: etl-backfill
        prefix: "{etl}"
        tls: {ca: {secretKeyRef: {name: starforge-redis, key: ca.crt}}, serverName: redis}
    - name: backfills
      backfillJobs:
        table: app.backfill_jobs
        idColumn: id
        statusColumn: state
        running: running
        paused: paused
        progressColumns: [processed_count]
        auditTable: app.audit_logs
    - name: ranges
      jobTypes:
        table: app.queue_jobs
        types: [backfill_range]
        idColumn: id
        typeColumn: job_type
        statusColumn: state
        dueColumn: due
        waiting: [pending]
  breakers:
    - name: storm
      scope: {queues: [jobs], type: process_snapshot}
      pause: [ingestion]
      trip:
        - {waiting: 5000, for: 10m, minSamples: 20}
        - {oldestAge: 30m, for: 5m}
        - {failedPercent: 5, for: 5m, minSamples: 50}
        - {databaseUtilizationPercent: 90, for: 2m}
      recover: {belowPercent: 40, for: 1m, probeFor: 3m}
  owners:
    - {name: etl, contact: "#team-etl", queues: [jobs], types: [process_snapshot]}
"""

# The halves of "exactly one" for which a policy has one place only: edits of the one above.
HALVES: Final[Mapping[str, object]] = {
    "spec.target.connectionsPerReplica": {"value": 4},
    "spec.target.guard": {"scaledObject": "etl-worker"},
    "spec.database.prometheus": {
        "url": "http://prometheus.monitoring:9090",
        "server": "starforge-db",
        "basicAuth": {
            "username": {"secretKeyRef": {"name": "prometheus", "key": "user"}},
            "password": {"secretKeyRef": {"name": "prometheus", "key": "password"}},
        },
    },
}

Path = tuple[str | int, ...]


class Gone:
    """Says in an edit that the field is left out."""


GONE: Final = Gone()


def minimal() -> Policy:
    """A new copy of the minimal policy."""
    return parsed(MINIMAL)


def everything() -> Policy:
    """A new copy of the policy that uses every field."""
    return parsed(EVERYTHING)


def other_halves() -> Policy:
    """A new copy of the same with the other halves of "exactly one"."""
    return edited(everything(), HALVES)


def parsed(text: str) -> Policy:
    """YAML text as a policy: a new copy each time."""
    return copy.deepcopy(_parsed(text))


@functools.cache
def _parsed(text: str) -> Policy:
    """Some thousand tests begin with one of two texts, and reading YAML takes 50 ms."""
    policy: Policy = yaml.safe_load(text)
    return policy


def path_of(text: str) -> Path:
    """`spec.queues.0.name` as a path."""
    return tuple(int(part) if part.isdigit() else part for part in text.split("."))


def edited(policy: Policy, edits: Mapping[str, object]) -> Policy:
    """A copy of the policy with the given fields set, or left out where they are `GONE`."""
    out = copy.deepcopy(policy)
    for text, value in edits.items():
        *outer, last = path_of(text)
        holder: Any = out
        for part in outer:
            holder = holder.setdefault(part, {}) if isinstance(part, str) else holder[part]
        if isinstance(value, Gone):
            holder.pop(last, None)
        elif isinstance(last, int) and last == len(holder):
            holder.append(copy.deepcopy(value))
        else:
            holder[last] = copy.deepcopy(value)
    return out


@dataclass(frozen=True)
class Leaf:
    """A field's schema, and the path of an example of it."""

    path: Path
    schema: Mapping[str, Any]
    required: bool = False
    policy: str = "everything"  # or "other_halves": which policy has the example

    @property
    def text(self) -> str:
        """As the API server writes it: `spec.queues[0].name`."""
        parts = [f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path]
        return "".join(parts).removeprefix(".")

    def example(self) -> Policy:
        """A new copy of the policy that has the example."""
        return other_halves() if self.policy == "other_halves" else everything()

    def placed(self, value: object) -> Policy:
        """The policy with the example replaced by a value."""
        return edited(self.example(), {".".join(map(str, self.path)): value})


def spec_leaves(schema: Mapping[str, Any]) -> Iterator[Leaf]:
    """Every field of a spec, each where one of the two policies has an example of it.

    Raises LookupError for a field without one.
    """
    for leaf in leaves(schema, ("spec",)):
        for name, policy in (("everything", everything()), ("other_halves", other_halves())):
            path = found(policy, leaf.path)
            if path is not None:
                yield replace(leaf, path=path, policy=name)
                break
        else:
            raise LookupError(f"no example of {leaf.text} in EVERYTHING or HALVES")


def found(value: Any, path: Path) -> Path | None:
    """The path with each list's 0 replaced by the first item in which the rest of it exists."""
    if not path:
        return ()
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        keys: Sequence[str | int] = range(len(value))
    else:
        keys = (first,) if first in value else ()
    for key in keys:
        below = found(value[key], rest)
        if below is not None:
            return (key, *below)
    return None


def leaves(schema: Mapping[str, Any], path: Path) -> Iterator[Leaf]:
    """Every field below a schema, lists by their first item."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        yield Leaf((*path, name), field, name in required)
        yield from leaves(field, (*path, name))
    if isinstance(schema.get("items"), Mapping):
        yield Leaf((*path, 0), schema["items"])
        yield from leaves(schema["items"], (*path, 0))
