"""What effects are carried out with."""

from __future__ import annotations

from typing import Protocol

from starforge_backlog.clock import Clock
from starforge_backlog.cluster.autoscalers_write import MaximumWriter
from starforge_backlog.cluster.scale import ReplicaWriter
from starforge_backlog.isolation import FaultIsolation
from starforge_backlog.observe import Access
from starforge_backlog.producers.adapters import ProducerAdapters


class Effects(Access, Protocol):
    """Those of the process' services that write."""

    @property
    def clock(self) -> Clock: ...

    @property
    def replicas(self) -> ReplicaWriter: ...

    @property
    def maximums(self) -> MaximumWriter: ...

    @property
    def producers(self) -> ProducerAdapters: ...

    @property
    def isolation(self) -> FaultIsolation: ...
