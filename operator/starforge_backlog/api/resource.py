"""The resource as `kubectl` shows it: names, columns, and rules between an update and its past."""

from __future__ import annotations

from typing import Final, NamedTuple

from starforge_backlog.api import PLURAL
from starforge_backlog.api.rules import Rule

KIND: Final = "QueueBacklogPolicy"
SINGULAR: Final = KIND.lower()
SHORT_NAMES: Final = ("qbp",)
CATEGORIES: Final = ("starforge",)
CRD_FILE: Final = f"{PLURAL}.yaml"

DESCRIPTION: Final = (
    "A QueueBacklogPolicy guards a job queue: it scales the queue's workers in observed steps"
    " within the connections that their database can bear, pauses producers when a breaker trips,"
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
    Column("Target", ".spec.target.name", "The workload that is scaled"),
    Column("Replicas", ".status.replicas", "Replicas of the target, and how many are ready"),
    Column(
        "Budget", ".status.scaling.budget", "Replicas that the database can serve", type="integer"
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

# Pauses that only we can take back: the states of `PauseState` in which a flag may carry our
# token.
_OURS = "p.by == 'us' && p.state in ['Intended', 'Held']"
_NO_PAUSE = "!has(self.status) || !has(self.status.paused)"
_HAS_URL, _HAD_URL = (
    f"(has({s}.spec.database) && has({s}.spec.database.url))" for s in ("self", "oldSelf")
)
_SAME_URL = (
    f"{_HAS_URL} == {_HAD_URL}"
    f" && (!{_HAS_URL} || self.spec.database.url == oldSelf.spec.database.url)"
)
# Pauses that are not in the database; a producer that the spec has forgotten may be.
_ELSEWHERE = (
    "oldSelf.spec.producers.exists(o, o.name == p.producer"
    " && (has(o.configMap) || has(o.webhook) || has(o.workload) || has(o.queue)))"
)
# Logins, trust and time limits are no part of the place: a wrong one keeps a pause from being
# released, so it must be possible to mend it meanwhile.
_SAME_PLACE = (
    "(has(n.webhook) ? has(o.webhook) && n.webhook.url == o.webhook.url"
    " : has(n.queue) ? has(o.queue) && n.queue.name == o.queue.name"
    " && n.queue.prefix == o.queue.prefix && n.queue.url == o.queue.url"
    " : n == o)"
)
_SAME_PLACES = (
    f"self.spec.producers.all(n, !self.status.paused.exists(p, {_OURS} && p.producer == n.name)"
    f" || oldSelf.spec.producers.exists(o, o.name == n.name && {_SAME_PLACE}))"
)
_MEND = "wait for it to resume, or set mode: Observe to have it released, or remove the producer"

# A change of where a pause is would orphan it: nobody could tell any more that it is ours (P4).
# Removing the producer is fine: the operator releases it where status.paused says it is. Until
# that is done no other producer may take its name, or its pause would be taken for the other's.
ROOT_RULES: Final = (
    Rule(
        f"{_NO_PAUSE} || !self.status.paused.exists(p, {_OURS} && !{_ELSEWHERE}) || ({_SAME_URL})",
        "spec.database.url cannot change while this policy holds a pause there (status.paused):"
        f" {_MEND}",
        path=".spec",
        reason="FieldValueForbidden",
    ),
    Rule(
        f"{_NO_PAUSE} || {_SAME_PLACES}",
        "what a producer of spec.producers points at cannot change while this policy holds its"
        f" pause (status.paused): {_MEND}",
        path=".spec.producers",
        reason="FieldValueForbidden",
    ),
)
