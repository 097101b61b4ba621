"""What may be read from Prometheus: a queue, single signals of a queue, or the database."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import ConfigDict

from starforge_backlog.api.base import Duration, Model
from starforge_backlog.api.rules import WHOLE, Rule, rules
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.api.terms import Expression, HttpUrl, Label, span

WINDOW = "$window"
"""Is replaced in an expression by the window that rates are averaged over
(`scaling.observeFor`).
"""


class BasicAuth(Model):
    """User and password, by reference."""

    username: SecretValue
    """The user's name."""

    password: SecretValue
    """The user's password."""


class Tls(Model):
    """Whom to trust."""

    model_config = ConfigDict(json_schema_extra=WHOLE)

    ca: SecretValue | None = None
    """Certificates (PEM) of the authorities to trust. If left out, those of the operator's
    image."""

    server_name: Label | None = None
    """Name that the server's certificate is for, where it is not the host of the URL."""


_ONE_LOGIN = Rule(
    "!(has(self.bearerToken) && has(self.basicAuth))",
    "give bearerToken or basicAuth, not both: one request has one Authorization header",
)


class PrometheusServer(Model):
    """A Prometheus, or anything that answers its query API (Thanos, Mimir, VictoriaMetrics)."""

    url: HttpUrl
    """Address of the server, for example http://prometheus.monitoring:9090, with the path prefix if
    it has one; without a user or password in it."""

    bearer_token: SecretValue | None = None
    """Token for the Authorization header, by reference to a Secret."""

    basic_auth: BasicAuth | None = None
    """User and password, by reference to a Secret."""

    tls: Tls | None = None
    """Whom to trust when url is https."""

    tenant: Label | None = None
    """Value of the X-Scope-OrgID header, which Mimir, Cortex and Loki tell tenants apart by."""

    stale_after: Annotated[Duration, span("5s", "24h")] = timedelta(minutes=2)
    """How old the newest sample behind an answer may be; older than this the answer is unknown.
    Prometheus itself repeats a value for 5 minutes after its source went silent. Set it to two
    scrape intervals or more, or each sample is unknown before the next one comes.
    For a range, as in rate(x[$window]), half of the range counts where that is shorter: from then
    on the rate falls because samples are missing, not because less is done. So scaling.observeFor
    should hold four scrapes or more: 2m for a scrape interval of 30s.
    The samples of a recording rule are as new as the rule's last run, whatever became of those
    behind it; name the scraped metric itself where there is one."""


class PrometheusQueue(PrometheusServer):
    """A queue whose every signal is an expression. The defaults are the runbook's metrics.

    $window in an expression is replaced by scaling.observeFor, so that a verdict compares whole
    windows.
    """

    model_config = ConfigDict(json_schema_extra=rules(_ONE_LOGIN))

    waiting: Expression = "sum(starforge_queue_jobs_waiting_total)"
    """Due jobs that wait for a worker."""

    oldest_age_seconds: Expression | None = None
    """Age of the oldest due job in seconds. StarForge has no metric for it; if left out, the
    objective and trip rules for age cannot be judged, which status says."""

    arrivals: Expression = "sum(rate(starforge_etl_snapshots_received_total[$window]))"
    """Jobs per second that arrive."""

    completed: Expression = "sum(rate(starforge_etl_snapshots_processed_total[$window]))"
    """Jobs per second that were processed, well or badly: the runbook's denominator."""

    failed: Expression = "sum(rate(starforge_etl_snapshots_failed_total[$window]))"
    """Jobs per second that failed: the runbook's numerator."""


class PrometheusSignals(PrometheusServer):
    """Single signals of a queue that come from Prometheus while the others come from the queue."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            _ONE_LOGIN,
            Rule(
                "has(self.waiting) || has(self.oldestAgeSeconds) || has(self.arrivals)"
                " || has(self.completed) || has(self.failed)",
                "signals replaces nothing: give at least one of waiting, oldestAgeSeconds,"
                " arrivals, completed and failed",
                reason="FieldValueRequired",
            ),
            Rule(
                "!has(self.failed) || has(self.completed)",
                "failed is a part of completed: give completed as well, or there is no ratio",
                path=".failed",
            ),
        )
    )

    waiting: Expression | None = None
    """Due jobs that wait for a worker."""

    oldest_age_seconds: Expression | None = None
    """Age of the oldest due job in seconds."""

    arrivals: Expression | None = None
    """Jobs per second that arrive."""

    completed: Expression | None = None
    """Jobs per second that were processed, well or badly. Replaces the throughput."""

    failed: Expression | None = None
    """Jobs per second that failed. Together with completed it replaces the failure ratio."""


class PrometheusDatabase(PrometheusServer):
    """Connections and health of the database. The defaults are postgres_exporter's metrics."""

    model_config = ConfigDict(json_schema_extra=rules(_ONE_LOGIN))

    server: Label
    """Name of the database server. Policies that name the same server share one budget, so the
    same server must have the same name everywhere. A policy without database.prometheus knows it
    by the identity that the server reports: read all policies of one server in the same way, or
    those read in the other way count as other clients."""

    connections_by_role: Expression = "sum by (usename) (pg_stat_activity_count)"
    """Open client connections, one series per role; the role is the series' only label."""

    max_connections: Expression = "max(pg_settings_max_connections)"
    """The server's limit of connections."""

    reserved_connections: Expression = "max(pg_settings_superuser_reserved_connections)"
    """Connections that no ordinary client gets."""

    lock_waiters: Expression | None = None
    """Sessions that wait for a lock. If left out, waiting for locks is not a sign of pressure, and
    the condition DatabaseHeadroom says that it is not watched."""

    longest_transaction_seconds: Expression = "max(pg_stat_activity_max_tx_duration)"
    """Age of the oldest transaction in seconds."""
