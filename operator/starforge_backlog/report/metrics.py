"""Metrics in a registry of our own.

Series of policies are not kept as client objects: a thousand policies have fifty thousand series,
which would cost more memory than everything else. Each policy keeps one tuple of numbers, replaced
by each pass, and a scrape makes series of it: what a pass did not see is gone by itself, and so is
a policy that was deleted.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from starforge_backlog import __version__
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.errors import Asked
from starforge_backlog.decide.plan import Action, Pause, Resume, SetMaximum
from starforge_backlog.report import metrics_catalogue as catalogue
from starforge_backlog.report.metrics_catalogue import CATALOGUE, PREFIX, Family, Kind
from starforge_backlog.report.metrics_rows import Row, rows_of
from starforge_backlog.snapshot import Snapshot

# A pass is some queries and two requests: milliseconds when well, its deadline when not.
DURATION_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# The bar is a 99th percentile below one second, so the steps are finest around it.
LATENESS_BUCKETS_SECONDS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 5.0, 15.0, 60.0)


class PolicyKey(NamedTuple):
    """Which policy."""

    namespace: str
    name: str


class PassResult(StrEnum):
    """How a pass ended."""

    COMPLETE = "complete"  # read, decided, did what it decided
    HELD = "held"  # suspended, or held by a person
    INVALID = "invalid"  # the spec could not be read
    CONFLICT = "conflict"  # another client wrote the status; decided again by the next pass
    FAILED = "failed"  # an action or the status write did not go through


class ActionResult(StrEnum):
    """What became of an action."""

    DONE = "done"
    CONFLICT = "conflict"
    REFUSED = "refused"  # e.g. the flag's row is missing
    FAILED = "failed"


class Metrics(Collector):
    """All of them. One instance per process; no module keeps a metric of its own.

    As a collector it makes series of what the policies keep, at the moment of a scrape.
    """

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[PolicyKey, tuple[Row, ...]] = {}
        self._actions: dict[PolicyKey, dict[tuple[str, str], int]] = {}
        self._refused: set[PolicyKey] = set()
        self._shared: dict[PolicyKey, float] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        self._passes = self._counter(catalogue.PASSES)
        self._duration = self._histogram(catalogue.PASS_DURATION, DURATION_BUCKETS_SECONDS)
        self._lateness = self._histogram(catalogue.PASS_LATENESS, LATENESS_BUCKETS_SECONDS)
        self._errors = self._counter(catalogue.ERRORS)
        self._status_writes = self._counter(catalogue.STATUS_WRITES)
        self._events = self._counter(catalogue.EVENTS)
        self._requests = self._counter(catalogue.REQUESTS)
        info = catalogue.BUILD_INFO
        Gauge(info.full_name, info.help, info.labels, registry=self.registry).labels(
            __version__
        ).set(1)

    def observe_pass(
        self,
        policy: PolicyKey,
        snapshot: Snapshot | None,
        status: QueueBacklogPolicyStatus,
        *,
        result: PassResult,
        duration: timedelta,
        lateness: timedelta,
    ) -> None:
        """One pass ended. `snapshot` is what the decision saw, None when it could not read."""
        now = (catalogue.LAST_PASS, (), self._clock().timestamp())
        rows = (*rows_of(snapshot, status), now)
        with self._lock:
            self._rows[policy] = rows
        self._passes.labels(result.value).inc()
        self._duration.observe(duration.total_seconds())
        self._lateness.observe(max(0.0, lateness.total_seconds()))

    def action(self, policy: PolicyKey, action: Action, result: ActionResult) -> None:
        """Something was done, or tried, to replicas or a producer."""
        labels = (action_name(action), result.value)
        with self._lock:
            counts = self._actions.setdefault(policy, {})
            counts[labels] = counts.get(labels, 0) + 1

    def error(self, source: str, reason: str) -> None:
        """The outside world failed us: `source` is a reading's name, `reason` a `Why`."""
        self._errors.labels(source, reason).inc()

    def status_write(self, outcome: str) -> None:
        """A status was written, or did not have to be."""
        self._status_writes.labels(outcome).inc()

    def status_refused(self, policy: PolicyKey, *, refused: bool) -> None:
        """The API server refuses the policy's status, or takes it again."""
        with self._lock:
            (self._refused.add if refused else self._refused.discard)(policy)

    def status_shared(self, policy: PolicyKey, passed: str) -> None:
        """Another operator wrote the policy's status, at an RFC 3339 time."""
        at = datetime.fromisoformat(passed).timestamp()
        with self._lock:
            self._shared[policy] = at

    def event(self, outcome: str) -> None:
        """An Event was posted, or not."""
        self._events.labels(outcome).inc()

    def request(self, asked: Asked, outcome: str) -> None:
        """A request to the API server ended; fits `ClusterClient`'s observer."""
        self._requests.labels(asked.verb, asked.resource, outcome).inc()

    def forget(self, policy: PolicyKey) -> None:
        """The policy was deleted: its series end."""
        with self._lock:
            self._refused.discard(policy)
            self._shared.pop(policy, None)
            self._rows.pop(policy, None)
            self._actions.pop(policy, None)

    def render(self) -> bytes:
        """The text for Prometheus. Slow with many policies, and safe to call in a thread."""
        return generate_latest(self.registry)

    def describe(self) -> Iterator[Metric]:
        """Names only, for the registry's check against duplicates."""
        yield from (_metric(family) for family in CATALOGUE if _is_of_policies(family))

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            rows = dict(self._rows)
            actions = {policy: dict(counts) for policy, counts in self._actions.items()}
            refused, shared = set(self._refused), dict(self._shared)
        # By family first, as the format wants it; by labels then, because one series twice makes
        # Prometheus refuse the whole scrape.
        found: dict[Family, dict[tuple[str, ...], float]] = defaultdict(dict)
        found[catalogue.POLICIES][()] = len(rows)
        for policy, kept in rows.items():
            for family, labels, value in kept:
                found[family][*policy, *labels] = value
            found[catalogue.STATUS_REFUSED][policy] = policy in refused
            found[catalogue.STATUS_SHARED][policy] = shared.get(policy, 0.0)
        for policy, counts in actions.items():
            for labels, number in counts.items():
                found[catalogue.ACTIONS][*policy, *labels] = number
        for family, samples in found.items():
            metric = _metric(family)
            for label_values, value in samples.items():
                metric.add_metric(label_values, float(value))
            yield metric

    def _counter(self, family: Family) -> Counter:
        return Counter(f"{PREFIX}{family.name}", family.help, family.labels, registry=self.registry)

    def _histogram(self, family: Family, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(family.full_name, family.help, buckets=buckets, registry=self.registry)


def action_name(action: Action) -> str:
    """Pause, Resume, Scale with its kind (ScaleUp, ScaleRevert), or what becomes of a guarded
    autoscaler's maximum."""
    if isinstance(action, (Pause, Resume)):
        return type(action).__name__
    if isinstance(action, SetMaximum):
        return maximum_verb(action)
    return f"Scale{action.kind}"


def maximum_verb(action: SetMaximum) -> str:
    """Of a guarded autoscaler: lower, raise, or restore."""
    if action.restore:
        return "MaximumRestored"
    return "MaximumLowered" if action.to < action.from_ else "MaximumRaised"


def _metric(family: Family) -> GaugeMetricFamily | CounterMetricFamily:
    make = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    return make(f"{PREFIX}{family.name}", family.help, labels=family.labels)


def _is_of_policies(family: Family) -> bool:
    return family is catalogue.POLICIES or family.labels[:2] == catalogue.POLICY
