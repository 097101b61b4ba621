"""The files that containerd, the kubelet and kube-proxy read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from local.certificates import Authority
from local.kubeconfig import client_certificate, write_kubeconfig
from local.kubelet.networks import Networks

PAUSE = "localhost/pause:1"
SOCKET = "/run/containerd/containerd.sock"
"""In the node's own /run."""

# Sections by the names of version 2, which containerd 1.6 to 2 read.
_CONTAINERD = """\
version = 2
root = "{data}/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{folder}/cni"
"""


def containerd(folder: Path, data: Path, networks: Networks) -> Path:
    """Its file; the network of pods is a bridge without address translation."""
    file = folder / "containerd.toml"
    file.write_text(_CONTAINERD.format(data=data, folder=folder, socket=SOCKET, pause=PAUSE))
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": networks.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "cni" / "pods.conflist").write_text(
        json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]})
    )
    return file


def kubelet(folder: Path, authority: Authority, networks: Networks) -> Path:
    """Its file. Clients need a certificate of our authority, and then may do everything."""
    serving = authority.issue("kubelet-serving", hosts=(networks.node, networks.name))
    (folder / "resolv.conf").write_text("")  # there is no cluster DNS
    content = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,  # the default refuses to run on control groups of version 1
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{networks.name}",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "address": networks.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(authority.certificate_file)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "resolvConf": str(folder / "resolv.conf"),
        "podLogsDir": str(folder.parent / "pods"),
        "volumePluginDir": str(folder / "volume-plugins"),
        "nodeStatusUpdateFrequency": "2s",
        "oomScoreAdj": 0,  # to lower it needs a capability that containers lack
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
    }
    return _written(folder / "kubelet.yaml", content)


def kube_proxy(folder: Path, kubeconfig: Path, networks: Networks) -> Path:
    """Its file. Connection tracking limits belong to the whole machine: left as they are."""
    content = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": networks.name,
        "clusterCIDR": networks.pods,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
            "udpTimeout": "0s",
            "udpStreamTimeout": "0s",
        },
    }
    return _written(folder / "kube-proxy.yaml", content)


def login(folder: Path, authority: Authority, server: str, name: str, *groups: str) -> Path:
    """A kubeconfig with a certificate for that user."""
    file = folder / f"{name.rpartition(':')[0].replace(':', '-')}.kubeconfig"
    write_kubeconfig(
        file,
        server=server,
        authority=authority.certificate_file.read_bytes(),
        user=client_certificate(authority.issue(name, groups=groups)),
    )
    return file


def _written(file: Path, content: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file
