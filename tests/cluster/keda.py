"""KEDA's ScaledObject as far as the operator reads and writes it.

KEDA itself needs its images and cannot run here: nothing scales by these objects, and their schema
is no more than the public names of the fields (keda.sh/v1alpha1).
"""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

_COUNT: Final[Json] = {"type": "integer", "format": "int32"}
_TEXT: Final[Json] = {"type": "string"}

SCALED_OBJECTS: Final[Json] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["scaleTargetRef"],
                                "properties": {
                                    "scaleTargetRef": {
                                        "type": "object",
                                        "required": ["name"],
                                        "properties": {
                                            "apiVersion": _TEXT,
                                            "kind": _TEXT,
                                            "name": _TEXT,
                                        },
                                    },
                                    "minReplicaCount": _COUNT,
                                    "maxReplicaCount": _COUNT,
                                },
                            },
                            "status": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            },
                        },
                    }
                },
            }
        ],
    },
}


def scaled_object(name: str = "so", *, target: Json | None = None, **spec: Any) -> Json:
    """One that scales the Deployment etl-worker."""
    ref = target or {"name": "etl-worker"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": ref, **spec},
    }


def autoscaler(
    name: str = "hpa",
    *,
    minimum: int | None = None,
    maximum: int = 20,
    target: Json | None = None,
    owner: Json | None = None,
) -> Json:
    """A HorizontalPodAutoscaler of the Deployment etl-worker. No metrics are served: the controller
    keeps its bounds, and nothing else."""
    ref = target or {"apiVersion": "apps/v1", "kind": "Deployment", "name": "etl-worker"}
    least = {} if minimum is None else {"minReplicas": minimum}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, **({"ownerReferences": [owner]} if owner else {})},
        "spec": {"scaleTargetRef": ref, "maxReplicas": maximum, **least},
    }
