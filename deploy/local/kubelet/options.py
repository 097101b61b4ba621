"""What a caller of `LocalCluster` says about a real node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kubelet:
    """`LocalCluster(node=Kubelet(images=(archive,)))`."""

    images: Sequence[Path] = ()
    """Archives (of `docker save`, or OCI) whose images pods may name; nothing is ever pulled."""
