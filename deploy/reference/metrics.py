"""The reference of all metrics: `python -m reference.metrics > docs/reference/metrics.md`."""

from __future__ import annotations

import sys

from starforge_backlog.report import metrics_catalogue as catalogue

SECTIONS: dict[str, tuple[catalogue.Family, ...]] = {
    "Queues": (
        catalogue.QUEUE_WAITING,
        catalogue.QUEUE_SCHEDULED,
        catalogue.QUEUE_IN_PROGRESS,
        catalogue.QUEUE_FAILED,
        catalogue.QUEUE_OLDEST,
        catalogue.QUEUE_ARRIVALS,
        catalogue.QUEUE_THROUGHPUT,
        catalogue.QUEUE_FAILED_RATIO,
        catalogue.QUEUE_FAILED_ATTEMPTS,
        catalogue.QUEUE_WORKERS,
        catalogue.QUEUE_ORPHANED,
        catalogue.QUEUE_STALLED,
        catalogue.TYPE_WAITING,
        catalogue.TYPE_OLDEST,
        catalogue.TYPE_FAILED_RATIO,
    ),
    "Database and budget": (
        catalogue.DATABASE_CONNECTIONS,
        catalogue.DATABASE_MAX_CONNECTIONS,
        catalogue.DATABASE_LOCK_WAITERS,
        catalogue.DATABASE_LONGEST_TRANSACTION,
        catalogue.BUDGET_CONNECTIONS,
        catalogue.BUDGET_REPLICAS,
    ),
    "Scaling": (
        catalogue.REPLICAS,
        catalogue.REPLICAS_NEEDED,
        catalogue.REPLICAS_ALLOWED,
        catalogue.PODS,
        catalogue.POD_RESTARTS,
    ),
    "Breakers and producers": (catalogue.BREAKER_STATE, catalogue.PRODUCER_PAUSED, catalogue.PAUSE),
    "Policies": (
        catalogue.CONDITION,
        catalogue.CAUSE,
        catalogue.UNKNOWN_READINGS,
        catalogue.LAST_PASS,
        catalogue.STATUS_REFUSED,
        catalogue.STATUS_SHARED,
        catalogue.ACTIONS,
    ),
    "The operator itself": (
        catalogue.POLICIES,
        catalogue.PASSES,
        catalogue.PASS_DURATION,
        catalogue.PASS_LATENESS,
        catalogue.ERRORS,
        catalogue.STATUS_WRITES,
        catalogue.EVENTS,
        catalogue.REQUESTS,
        catalogue.BUILD_INFO,
    ),
}

INTRODUCTION = """\
# Metrics

<!-- Generated: python -m reference.metrics > docs/reference/metrics.md -->

Served at `/metrics`. A reading that is unknown has no series: it is never shown as 0, and
`starforge_backlog_unknown_readings` says what is missing and why. Series of a deleted policy end
with it. The usual `process_*` metrics are served beside these.

Two alerts for an operator that does not work: the first for one policy, the second for a
process that is dead or scaled to 0 (`kubectl get qbp` shows it as a LAST PASS above 10 minutes).

```promql
time() - starforge_backlog_last_pass_timestamp_seconds > 300
absent(starforge_backlog_policies)
```
"""


def render_reference() -> str:
    """The page as Markdown."""
    lines = [INTRODUCTION]
    for title, families in SECTIONS.items():
        lines += [f"## {title}", "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
        for family in families:
            labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
            lines.append(f"| `{family.full_name}` | {family.kind} | {labels} | {family.help} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(render_reference())
