"""Deletions that the framework cannot go on with: their namespace goes, and our rights went first.

The framework's next try needs a right to write the policy. With listed namespaces that right is a
Role in the same namespace, which a `kubectl delete namespace` removes in the first moment; where
the release did not succeed by then (its database hung), nobody would try again. What is paused is
outside of the namespace and can still be released: with the Secret as it was read last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from enum import Enum, auto
from typing import Any

import structlog

from starforge_backlog.cluster.client import POLICIES
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.context import Services
from starforge_backlog.finalizer import RELEASE_RETRY_SECONDS, NotReleased, release
from starforge_backlog.policy import Policy

_log = structlog.stdlib.get_logger(__name__)


class _Sight(Enum):
    FRAMEWORKS = auto()  # we see it, or it is gone: the framework goes on with it
    FORBIDDEN = auto()
    UNKNOWN = auto()


class Stranded:
    """Policies whose deletion is gone on with here. `keep` runs work beside everything else."""

    def __init__(
        self,
        turn: Callable[[str], asyncio.Lock],
        keep: Callable[[Coroutine[Any, Any, None]], None],
        retry: float = RELEASE_RETRY_SECONDS,
    ) -> None:
        self._turn = turn
        self._keep = keep
        self._retry = retry
        self._watched: set[str] = set()

    def watch(self, services: Services, body: Mapping[str, Any]) -> None:
        """A release has failed just now; the framework tries again, if it can."""
        uid = str(body["metadata"]["uid"])
        if uid not in self._watched:
            self._watched.add(uid)
            self._keep(self._go_on(services, dict(body)))

    async def _go_on(self, services: Services, body: Mapping[str, Any]) -> None:
        uid, reported = str(body["metadata"]["uid"]), ""
        try:
            while True:
                await asyncio.sleep(self._retry)
                sight = await _inspect(services, body)
                if sight is _Sight.FRAMEWORKS:
                    return
                if sight is _Sight.UNKNOWN:
                    continue
                async with self._turn(uid):
                    why = await _release(services, body)
                if not why:
                    return
                if why != reported:
                    _log.error("not released", policy=_key(body), reason=why)
                reported = why
        finally:
            self._watched.discard(uid)


async def _inspect(services: Services, body: Mapping[str, Any]) -> _Sight:
    meta = body["metadata"]
    try:
        await services.client.get(POLICIES, meta["namespace"], meta["name"])
    except ClusterFault as fault:
        match fault.kind:
            case FaultKind.FORBIDDEN:
                return _Sight.FORBIDDEN
            case FaultKind.NOT_FOUND:
                return _Sight.FRAMEWORKS
            case _:
                return _Sight.UNKNOWN
    return _Sight.FRAMEWORKS


async def _release(services: Services, body: Mapping[str, Any]) -> str:
    """Why not; empty when everything is released."""
    meta = body["metadata"]
    try:
        done = await release(services, Policy.for_release(body))
    except NotReleased as fault:
        return str(fault)
    _log.error(
        "; ".join(
            (*done, "released, but the operator no longer has permission to remove the finalizer")
        ),
        policy=_key(body),
        todo=f"kubectl patch qbp {meta['name']} -n {meta['namespace']} --type=merge"
        """ -p '{"metadata":{"finalizers":null}}'""",
    )
    return ""


def _key(body: Mapping[str, Any]) -> str:
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"
