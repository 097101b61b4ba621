"""`spec.target`: the workload that is scaled, and what one replica of it costs in connections."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict

from starforge_backlog.api.base import Model
from starforge_backlog.api.rules import Rule, exactly_one, rules
from starforge_backlog.api.terms import ApiVersion, EnvName, Kind, ObjectName, whole

# More replicas than any worker pool of a single database can use; PostgreSQL's own limit of
# connections (262143, MAX_BACKENDS) bounds the rest.
MOST_REPLICAS = 10_000
MOST_CONNECTIONS = 262_143
# The runbook's variable.
POOL_VARIABLE = "PG_POOL_MAX"
# Annotations of a ScaledObject. KEDA leaves the target as it is under the first, and keeps it at a
# number under the second; it deletes its own autoscaler under both.
KEDA_PAUSED = "autoscaling.keda.sh/paused"
KEDA_PAUSED_AT = "autoscaling.keda.sh/paused-replicas"


class ConnectionsPerReplica(Model):
    """How many database connections one replica can open: pool × processes + extra."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.env) || !has(self.value)",
                "give one of env (a variable of the pods that holds the pool size) and value (the"
                " number itself), not both",
            )
        )
    )

    # No default: what the API server fills in belongs to no applier, and would stand beside a
    # `value` that is applied later.
    env: EnvName | None = None
    """Environment variable of the target's pods that holds the size of one pool. It is read from
    the pod template: env, envFrom, ConfigMaps and Secrets that it refers to. PG_POOL_MAX where
    neither env nor value is given."""

    value: Annotated[int, whole(1, MOST_CONNECTIONS)] | None = None
    """Size of one pool as a number of connections, for pods that have no variable for it."""

    processes: Annotated[int, whole(1, 1_000)] = 1
    """Processes per replica that open a pool of their own."""

    extra: Annotated[int, whole(0, MOST_CONNECTIONS)] = 0
    """Connections that one replica opens besides its pools, for example a LISTEN connection."""

    @property
    def variable(self) -> str:
        """The variable that holds the size of one pool, where `value` does not say it."""
        return self.env or POOL_VARIABLE


class Guard(Model):
    """The autoscaler that owns the target's replicas. Exactly one."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                exactly_one("horizontalPodAutoscaler", "scaledObject"),
                "give exactly one of horizontalPodAutoscaler and scaledObject (KEDA): the name of"
                " the object that scales the target",
            ),
            whole=True,
        )
    )

    horizontal_pod_autoscaler: ObjectName | None = None
    """Name of a HorizontalPodAutoscaler (autoscaling/v2), in the policy's namespace."""

    scaled_object: ObjectName | None = None
    """Name of a KEDA ScaledObject, in the policy's namespace. Its own HorizontalPodAutoscaler
    follows it."""

    @property
    def object(self) -> tuple[str, str]:
        """Kind and name of the autoscaler."""
        if self.horizontal_pod_autoscaler is not None:
            return "HorizontalPodAutoscaler", self.horizontal_pod_autoscaler
        return "ScaledObject", self.scaled_object or ""


class Target(Model):
    """The workload that is scaled: anything with a scale subresource."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
                "minReplicas must not be above maxReplicas: lower minReplicas or raise maxReplicas",
                path=".minReplicas",
            ),
            Rule(
                "self.apiVersion == oldSelf.apiVersion && self.kind == oldSelf.kind"
                " && self.name == oldSelf.name",
                "target.apiVersion, target.kind and target.name cannot change: the step under"
                " observation belongs to the old workload. Delete this policy (it releases what it"
                " paused) and create one for the new target",
                reason="FieldValueForbidden",
            ),
        )
    )

    api_version: ApiVersion = "apps/v1"
    """Group and version of the workload. Cannot change."""

    kind: Kind = "Deployment"
    """Kind of the workload; it needs a scale subresource, and the operator needs the right to
    use it (chart value rbac.extraScaleTargets for kinds other than Deployment and StatefulSet).
    Cannot change."""

    name: ObjectName
    """Name of the workload, in the policy's namespace. Cannot change: delete the policy and
    create another one."""

    min_replicas: Annotated[int, whole(0, MOST_REPLICAS)] = 1
    """Replicas that are kept when there is nothing to do. With 0 the workers sleep when nothing
    has waited for scaling.scaleDownAfter, and wake with the first due job. A minimum above the
    budget is reported in a condition and does not break the budget."""

    max_replicas: Annotated[int, whole(1, MOST_REPLICAS)] | None = None
    """A ceiling besides the budget. None if left out: then only the database's connections
    limit the replicas."""

    connections_per_replica: ConnectionsPerReplica = ConnectionsPerReplica()
    """Database connections that one replica can open: pool × processes + extra. The budget counts
    what a replica can open, not what it has open now: pools fill just when work arrives."""

    guard: Guard | None = None
    """Guardrail mode, for a target whose replicas an autoscaler owns: the operator never writes
    replicas, it only lowers that autoscaler's maximum to what the database can serve, and restores
    it. Without spec.database there is nothing to guard. Needs the chart value
    rbac.autoscalers.*.guard."""
