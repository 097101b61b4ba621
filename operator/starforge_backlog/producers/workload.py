"""Pausing by a workload that produces: scaled to zero, or a CronJob suspended.

The replicas are written to the object and not through its scale subresource, which has no place
for the mark: with two writes there would be a moment at which nothing says who scaled it to zero.
A HorizontalPodAutoscaler leaves a workload of 0 replicas alone (its condition ScalingActive says
ScalingDisabled) and goes on when the replicas are back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starforge_backlog.api.pausing import WorkloadKind
from starforge_backlog.api.policy import PausedWorkload, Target
from starforge_backlog.cluster.client import Resource
from starforge_backlog.cluster.marked import Place, Seen

_RESOURCES: Final = {
    WorkloadKind.DEPLOYMENT: Resource("apps", "v1", "deployments"),
    WorkloadKind.STATEFUL_SET: Resource("apps", "v1", "statefulsets"),
    WorkloadKind.CRON_JOB: Resource("batch", "v1", "cronjobs"),
}
_REPLICAS: Final = ("spec", "replicas")
_SUSPEND: Final = ("spec", "suspend")


@dataclass(frozen=True, slots=True)
class WorkloadField:
    """`spec.replicas` of a Deployment or StatefulSet, `spec.suspend` of a CronJob."""

    namespace: str
    workload: PausedWorkload
    target: Target | None  # of the policy

    @property
    def place(self) -> Place:
        """The field."""
        kind = self.workload.kind
        path = _SUSPEND if kind is WorkloadKind.CRON_JOB else _REPLICAS
        return Place(_RESOURCES[kind], kind, self.namespace, self.workload.name, path)

    @property
    def called(self) -> str:
        """For sentences."""
        return f"{self.place.path[1]} of {self.workload.kind} {self.workload.name}"

    @property
    def paused_value(self) -> object:
        """No replicas; or suspended."""
        return True if self.workload.kind is WorkloadKind.CRON_JOB else 0

    def is_paused(self, value: object) -> bool:
        """0 replicas (without the field there is 1), or suspend: true (without it, false)."""
        return value is True if self.workload.kind is WorkloadKind.CRON_JOB else value == 0

    def wrong(self, seen: Seen) -> str:
        """The policy's own target: pausing its consumers is no way to stop what feeds the queue."""
        target = self.target
        same = target is not None and (target.kind, target.name, target.api_version) == (
            self.workload.kind,
            self.workload.name,
            "apps/v1",
        )
        if same:
            return (
                f"{self.workload.kind} {self.workload.name} is the policy's own target, so nothing"
                " was paused: without it the queue would only grow; name the workload that feeds"
                " the queue."
            )
        return ""

    def missing(self) -> str:
        """With the fix."""
        return (
            f"There is no {self.workload.kind} {self.workload.name} in namespace {self.namespace},"
            " so nothing is paused and nothing can be; create it, or correct kind and name in the"
            " policy."
        )
