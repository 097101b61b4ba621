"""A namespace that may not be read is left out; one of which nothing is known is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from starforge_backlog.cluster.client import ClusterClient, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.namespaces import read_namespaces
from starforge_backlog.settings import Settings
from starforge_backlog.snapshot import Why


class Api:
    """Answers by the name of the namespace."""

    async def pages(self, _resource: Resource, namespace: str) -> AsyncIterator[dict[str, Any]]:
        kind = {
            "deleted": FaultKind.FORBIDDEN,
            "slow": FaultKind.TIMEOUT,
            "away": FaultKind.UNREACHABLE,
        }.get(namespace)
        if kind is not None:
            raise ClusterFault(kind, Why.ERROR, f"{kind} in {namespace}")
        if namespace == "full":
            yield {}


async def test_only_a_refusal_leaves_a_namespace_out() -> None:
    client = cast("ClusterClient", Api())
    found = await read_namespaces(client, ("full", "deleted", "slow", "away", "empty"))
    assert found.followed == ("full", "slow", "away", "empty")
    assert found.left_out == {"deleted": "Forbidden in deleted"}


def test_settings_without_them() -> None:
    settings = Settings(watch_namespaces="a, b,c")
    assert settings.without({"b": "gone"}).namespaces == ("a", "c")
    assert settings.without({}).namespaces == ("a", "b", "c")
