"""The resource as `kubectl` shows it: names and columns."""

from __future__ import annotations

from typing import Final, NamedTuple

from starforge_backlog.api import PLURAL

KIND: Final = "QueueBacklogPolicy"
SINGULAR: Final = KIND.lower()
SHORT_NAMES: Final = ("qbp",)
CATEGORIES: Final = ("starforge",)
CRD_FILE: Final = f"{PLURAL}.yaml"

DESCRIPTION: Final = (
    "A QueueBacklogPolicy guards a job queue: it scales the queue's workers in observed steps"
    " within the connections that their database can serve, pauses producers when a breaker trips,"
    " resumes them, and says what it did and why."
)


class Column(NamedTuple):
    """A column of `kubectl get qbp`; `priority` 1 only with `-o wide`."""

    name: str
    path: str
    description: str
    type: str = "string"
    priority: int = 0


# Ordered as the questions of on-call at 3 a.m.: is it bad, what is the cause, what was done.
COLUMNS: Final = (
    Column("State", ".status.state", "Enforce, Observe, Held, Suspended or NotReady"),
    # Only with -o wide: most policies are named after it, and a terminal has 160 columns.
    Column("Target", ".spec.target.name", "The workload that is scaled", priority=1),
    Column("Replicas", ".status.replicaCounts", "Replicas of the target, and how many are ready"),
    Column(
        "Budget",
        ".status.scaling.budgetReplicas",
        "Replicas that the database can serve",
        type="integer",
    ),
    Column("Waiting", ".status.waiting", "Jobs that wait, all queues"),
    Column("Oldest", ".status.oldest", "How long the oldest due job has waited"),
    Column("Cause", ".status.cause", "The leading cause of the backlog"),
    Column(
        "Healthy",
        '.status.conditions[?(@.type=="BacklogHealthy")].status',
        "Whether all objectives are met",
    ),
    Column("Paused", ".status.pausedNames", "Producers that are paused"),
    # Older than 10 minutes: the operator is dead, or scaled to 0, and all the rest is as old.
    Column("Last Pass", ".status.lastPassTime", "Time since the last pass", type="date"),
    Column("Age", ".metadata.creationTimestamp", "Time since the policy was created", type="date"),
    Column("Summary", ".status.summary", "The last pass in one sentence", priority=1),
)
