"""Events about a pod, for `kubectl describe`. Each is written once: they explain, not count."""

from __future__ import annotations

import contextlib
import uuid

import aiohttp

from local.node.api import Api, ApiError, Object
from local.node.states import timestamp


class Events:
    def __init__(self, api: Api, pod: Object, node: str) -> None:
        self._api = api
        self._pod = pod
        self._node = node
        self._said: set[tuple[str, str, str]] = set()

    async def emit(self, container: str, kind: str, reason: str, message: str) -> None:
        if (container, reason, message) in self._said:
            return
        self._said.add((container, reason, message))
        metadata = self._pod["metadata"]
        now = timestamp()
        about = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "fieldPath": f"spec.containers{{{container}}}",
        }
        body: Object = {
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": about,
            "type": kind,
            "reason": reason,
            "message": message,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "kubelet", "host": self._node},
        }
        # A namespace on its way out takes no events, and nothing depends on them.
        with contextlib.suppress(ApiError, aiohttp.ClientError, TimeoutError):
            await self._api.create(f"/api/v1/namespaces/{metadata['namespace']}/events", body)
