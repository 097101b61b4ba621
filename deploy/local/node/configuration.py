"""What ConfigMaps, Secrets and the pod itself say, read as the kubelet reads them."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping
from decimal import ROUND_CEILING
from typing import Any

from local.node.api import NOT_FOUND, Api, ApiError, Object
from local.node.quantity import quantity

FIELD_WITH_KEY = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class NotConfiguredError(Exception):
    """A reference leads nowhere. The text is the kubelet's, because people search for it."""


class Sources:
    """Reads each object at most once per preparation of a container."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._read: dict[tuple[str, str], asyncio.Task[Mapping[str, bytes] | None]] = {}

    async def config_map(self, name: str) -> Mapping[str, bytes] | None:
        return await self._once("configmaps", name)

    async def secret(self, name: str) -> Mapping[str, bytes] | None:
        return await self._once("secrets", name)

    async def required(self, kind: str, name: str, optional: bool) -> Mapping[str, bytes]:
        found = await (self.secret(name) if kind == "secret" else self.config_map(name))
        if found is None and not optional:
            raise NotConfiguredError(f'{kind} "{name}" not found')
        return found or {}

    async def _once(self, kind: str, name: str) -> Mapping[str, bytes] | None:
        if (kind, name) not in self._read:
            self._read[kind, name] = asyncio.create_task(self._get(kind, name))
        return await self._read[kind, name]

    async def _get(self, kind: str, name: str) -> Mapping[str, bytes] | None:
        try:
            found = await self._api.get(f"/api/v1/namespaces/{self._namespace}/{kind}/{name}")
        except ApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        data = found.get("data") or {}
        if kind == "secrets":
            return {key: base64.b64decode(value) for key, value in data.items()}
        binary = found.get("binaryData") or {}
        return {
            **{key: str(value).encode() for key, value in data.items()},
            **{key: base64.b64decode(value) for key, value in binary.items()},
        }


def pod_field(pod: Object, path: str, *, pod_ip: str, host_ip: str) -> str:
    """`fieldRef`, the downward API."""
    metadata, spec = pod["metadata"], pod["spec"]
    with_key = FIELD_WITH_KEY.fullmatch(path)
    if with_key:
        return str((metadata.get(with_key[1]) or {}).get(with_key[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        values = metadata.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
    fields: dict[str, Any] = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
    }
    if path not in fields:
        raise NotConfiguredError(f"fieldPath {path} is not supported")
    return str(fields[path])


def resource_field(container: Object, reference: Object, capacity: Mapping[str, str]) -> str:
    """`resourceFieldRef`, whole numbers rounded up; without a limit it is the node's capacity."""
    section, _, resource = reference["resource"].partition(".")
    amounts = (container.get("resources") or {}).get(section) or {}
    amount = quantity(str(amounts.get(resource, capacity.get(resource, "0"))))
    divisor = quantity(str(reference.get("divisor") or "1")) or 1
    return str((amount / divisor).to_integral_value(ROUND_CEILING))
