"""The one node of the local cluster: runs each Pod bound to it as processes of this machine.

It does what a kubelet does as far as it can be seen from outside: states, probes, restarts with
back-off, grace periods, ServiceAccount tokens. Reading order: `node.py`, `pod.py`, `container.py`.
"""

from local.node.images import DEFAULT_IMAGES, LocalImage, python_image

__all__ = ["DEFAULT_IMAGES", "LocalImage", "python_image"]
