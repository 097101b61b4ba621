"""What effects are carried out with."""

from __future__ import annotations

from typing import Protocol

from starforge_backlog.cluster.autoscalers_write import MaximumWriter
from starforge_backlog.cluster.scale import ReplicaWriter
from starforge_backlog.observe import Access


class Effects(Access, Protocol):
    """Those of the process' services that write."""

    @property
    def replicas(self) -> ReplicaWriter: ...

    @property
    def maximums(self) -> MaximumWriter: ...
