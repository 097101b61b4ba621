"""The reference of all metrics: `python -m reference.metrics > docs/reference/metrics.md`."""

from __future__ import annotations

import sys

from starforge_backlog.report.metrics_catalogue import SECTIONS

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
