"""A node that is a real one: kubelet, containerd and kube-proxy, in namespaces of their own.

It needs root and Debian (`debian/means.py`). Reading order: `node.py`, `networks.py`, `cgroups.py`,
`configuration.py`.
"""

from local.kubelet.options import Kubelet

__all__ = ["Kubelet"]
