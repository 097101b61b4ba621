"""Which of the listed namespaces can be followed: one that was deleted must not stop the others.

Its Role goes with it, so every request there is refused, and the framework ends the whole operator
when one of its watches is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starforge_backlog.cluster.client import POLICIES, ClusterClient
from starforge_backlog.cluster.errors import ClusterFault, FaultKind


@dataclass(frozen=True, slots=True)
class Namespaces:
    """What came of a check of each."""

    followed: tuple[str, ...]
    left_out: Mapping[str, str]  # namespace → why


async def read_namespaces(client: ClusterClient, wanted: Iterable[str]) -> Namespaces:
    """Ask for the policies of each. Only a refusal leaves one out: an API server that does not
    answer says nothing about a namespace."""
    names = tuple(wanted)
    refused = await asyncio.gather(*(_refusal(client, name) for name in names))
    left_out = {name: why for name, why in zip(names, refused, strict=True) if why is not None}
    return Namespaces(tuple(name for name in names if name not in left_out), left_out)


async def _refusal(client: ClusterClient, namespace: str) -> str | None:
    try:
        async for _ in client.pages(POLICIES, namespace):
            break
    except ClusterFault as fault:
        return fault.message if fault.kind is FaultKind.FORBIDDEN else None
    return None
