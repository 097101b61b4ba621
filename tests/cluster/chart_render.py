"""The chart, rendered by Helm, as data."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from local.cluster import LocalCluster

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts" / "starforge-backlog"

Object = dict[str, Any]
Values = Mapping[str, Any]

DEFAULT: Final[Values] = {}
# An admin who gives as little as possible.
NARROWED: Final[Values] = {
    "watchNamespaces": ["team-a", "team-b"],
    "crds": {"install": False},
    "rbac": {
        "secretNames": ["starforge-db"],
        "configMaps": {"read": False},
        "deployments": {"scale": True, "names": ["etl-worker"]},
        "statefulSets": {"scale": False},
        "autoscalers": {
            "horizontalPodAutoscalers": {"detect": False, "guard": False},
            "scaledObjects": {"detect": False, "guard": False},
        },
    },
}
# Every switch and list is used.
EVERYTHING: Final[Values] = {
    "image": {
        "repository": "mirror/starforge-backlog",
        "digest": f"sha256:{'a' * 64}",
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "pull"}],
    "watchNamespaces": ["team-a"],
    "logFormat": "text",
    "logLevel": "debug",
    "listenPort": 9090,
    "extraEnv": [{"name": "PGSSLMODE", "value": "verify-full"}],
    "crds": {"install": True, "keep": False},
    "uninstall": {"release": True, "timeoutSeconds": 600},
    "serviceAccount": {"create": True, "name": "backlog", "annotations": {"a": "b"}},
    "rbac": {
        "aggregate": True,
        "secretNames": ["starforge-db"],
        "configMaps": {"read": True, "names": ["pool"]},
        "deployments": {"scale": True, "names": ["etl-worker"]},
        "statefulSets": {"scale": True, "names": ["etl-set"]},
        "extraScaleTargets": [
            {"apiGroup": "argoproj.io", "resource": "rollouts", "names": ["etl-rollout"]},
            {"apiGroup": "", "resource": "replicationcontrollers"},
        ],
        "producers": {
            "configMaps": {"pause": True, "names": ["ingest-api"]},
            "deployments": {"pause": True, "names": ["crawler"]},
            "statefulSets": {"pause": True},
            "cronJobs": {"pause": True, "names": ["nightly-import"]},
        },
        "autoscalers": {
            "horizontalPodAutoscalers": {"detect": True, "guard": True, "names": ["etl-worker"]},
            "scaledObjects": {"detect": False, "guard": True},
        },
    },
    "resources": {"limits": {"memory": "1Gi"}},
    "terminationGracePeriodSeconds": 60,
    "priorityClassName": "system-cluster-critical",
    "podLabels": {"team": "platform"},
    "podAnnotations": {"note": "x"},
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "service": {"port": 9999, "annotations": {"c": "d"}},
    "serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
}


def text(cluster: LocalCluster, values: Values, release: str = "sf") -> str:
    """What `helm template` prints."""
    return _rendered(cluster, release, yaml.safe_dump(dict(values)))


@functools.cache
def _rendered(cluster: LocalCluster, release: str, values: str) -> str:
    """Once for the same values."""
    return cluster.helm(
        *("template", release, CHART, "--namespace", "operators", "-f", "-"), stdin=values
    )


def objects(rendered: str) -> list[Object]:
    """Its objects, but for hooks."""
    return [found for found in _all(rendered) if not _is_hook(found)]


def hooks(rendered: str) -> list[Object]:
    """What exists only while the release is uninstalled."""
    return [found for found in _all(rendered) if _is_hook(found)]


def _all(rendered: str) -> list[Object]:
    return copy.deepcopy(_parsed(rendered))


@functools.cache
def _parsed(rendered: str) -> list[Object]:
    """Once for the same text: the CRD is in it, and takes a second to read."""
    return [found for found in yaml.safe_load_all(rendered) if found]


def _is_hook(found: Object) -> bool:
    return "helm.sh/hook" in (found["metadata"].get("annotations") or {})


def one(found: list[Object], kind: str) -> Object:
    """The only object of that kind, but for those that add to the cluster's own roles."""
    (only,) = (o for o in found if o["kind"] == kind and not aggregated(o))
    return only


def aggregated(found: Object) -> set[str]:
    """The roles of the cluster that it adds to."""
    labels = found["metadata"].get("labels") or {}
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    return {label.removeprefix(prefix) for label in labels if label.startswith(prefix)}
