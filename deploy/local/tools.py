"""What is built from Go source, and with which flags. A second `go.mod` is a second `ToolSet`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from local.paths import PACKAGE

KUBERNETES = "v1.37.2"
HELM = "v4.3.1"
PROMETHEUS_RELEASE = "3.16.0"
"""Its Go module counts from zero: v0.316.0."""
KEDA_RELEASE = "2.21.0"

_COMPONENT = "k8s.io/component-base/version"
_CLIENT = "k8s.io/client-go/pkg/version"
_MAJOR, _MINOR, _ = KUBERNETES.removeprefix("v").split(".")

_LINK = (
    "-s -w",
    # Otherwise the server calls itself v0.0.0, and Helm refuses charts with a kubeVersion.
    f"-X {_COMPONENT}.gitVersion={KUBERNETES}",
    f"-X {_COMPONENT}.gitMajor={_MAJOR}",
    f"-X {_COMPONENT}.gitMinor={_MINOR}",
    f"-X {_CLIENT}.gitVersion={KUBERNETES}",
    f"-X helm.sh/helm/v4/internal/version.version={HELM}",
)


@dataclass(frozen=True)
class ToolSet:
    """One Go module with `tool` lines, built into one cache folder."""

    name: str
    module: Path
    packages: dict[str, str]
    """Name of the program → the package it is built from."""
    flags: tuple[str, ...]
    first_time: str
    """What to print before people wait."""
    tags: tuple[str, ...] = ()
    """Build tags, which also decide what is downloaded."""


_QUICKLY = (
    "-trimpath",
    "-buildvcs=false",
    # Compiling is the wait that people see, so without optimisation and without debugging
    # information: 196 s instead of 500, for a server that starts 0.8 s later. -dwarf
    # switches off the compiler's own concurrency; -c asks for it again.
    "-gcflags=all=-N -l -dwarf=false -c=4",
)

NODE_PROGRAMS = ("kubelet", "kube-proxy")
"""Built only where a real node is asked for (`kubelet/`); 205 MB."""

CONTROL_PLANE = ToolSet(
    name="controlplane",
    module=PACKAGE / "controlplane",
    packages={
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
        "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
        "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        "kubelet": "k8s.io/kubernetes/cmd/kubelet",
        "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
        "helm": "helm.sh/helm/v4/cmd/helm",
        "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
    },
    flags=(
        *_QUICKLY,
        "-ldflags=" + " ".join(_LINK),
    ),
    first_time="about 4 minutes on two free cores, 160 MB of downloads, 3 GB of build cache",
)

PROMETHEUS = ToolSet(
    name="prometheus",
    module=PACKAGE / "prometheus",
    packages={
        "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
        "promtool": "github.com/prometheus/prometheus/cmd/promtool",
    },
    flags=(
        *_QUICKLY,
        f"-ldflags=-s -w -X github.com/prometheus/common/version.Version={PROMETHEUS_RELEASE}",
    ),
    first_time="about a minute on two free cores, 170 MB of downloads",
    # Without the clients of thirty clouds: targets are named in its configuration here.
    tags=("remove_all_sd",),
)

KEDA = ToolSet(
    name="keda",
    module=PACKAGE / "keda",
    packages={
        "keda-operator": "github.com/kedacore/keda/v2/cmd/operator",
        "keda-adapter": "github.com/kedacore/keda/v2/cmd/adapter",
        "keda-webhooks": "github.com/kedacore/keda/v2/cmd/webhooks",
    },
    flags=(
        *_QUICKLY,
        f"-ldflags=-s -w -X github.com/kedacore/keda/v2/version.Version={KEDA_RELEASE}",
    ),
    first_time="15 minutes on two free cores, 2 GB of downloads, 6 GB of build cache",
)
