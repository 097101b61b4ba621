"""Policies as data: the smallest, one that uses every field, and changes of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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

# Each field of the spec once, except the other halves of "exactly one".
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
  database:
    url: {secretKeyRef: {name: starforge-db, key: DATABASE_URL}}
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
      objectives: {waiting: 100, oldestAge: 10m, failedPercent: 2, for: 3m}
    - name: backfill
      priority: Background
      postgres: {types: [backfill_range]}
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
  breakers:
    - name: storm
      queues: [jobs]
      pause: [ingestion]
      trip:
        - {waiting: 5000, for: 10m, minSamples: 20}
        - {oldestAge: 30m, for: 5m}
        - {failedPercent: 5, for: 5m, minSamples: 50}
        - {databaseUtilizationPercent: 90, for: 2m}
      recover: {below: 40, for: 1m, probeFor: 3m}
"""

# Fields of which only one may be given: placing one removes the others.
ONE_OF: Final = (
    ("env", "value"),
    ("waiting", "oldestAge", "failedPercent", "databaseUtilizationPercent"),
)

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


def parsed(text: str) -> Policy:
    """YAML text as a policy."""
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


def placed(policy: Policy, path: Path, value: object) -> Policy:
    """A copy with the field set; its alternatives are left out, so that only it can be wrong."""
    text = ".".join(map(str, path))
    outer = text.rpartition(".")[0]
    others = {
        f"{outer}.{other}": GONE
        for group in ONE_OF
        if path[-1] in group and path[-2] in ("connectionsPerReplica", 0)
        for other in group
        if other != path[-1]
    }
    return edited(policy, {**others, text: value})


@dataclass(frozen=True)
class Leaf:
    """A field's schema, and the path of an example of it."""

    path: Path
    schema: Mapping[str, Any]
    required: bool = False

    @property
    def text(self) -> str:
        """As the API server writes it: `spec.queues[0].name`."""
        parts = [f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path]
        return "".join(parts).removeprefix(".")


def leaves(schema: Mapping[str, Any], path: Path) -> Iterator[Leaf]:
    """Every field below a schema, lists by their first item."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        yield Leaf((*path, name), field, name in required)
        yield from leaves(field, (*path, name))
    if isinstance(schema.get("items"), Mapping):
        yield Leaf((*path, 0), schema["items"])
        yield from leaves(schema["items"], (*path, 0))
