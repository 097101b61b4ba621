"""A container's environment: `envFrom`, then `env` in order, with `$(VAR)` expanded."""

from __future__ import annotations

import re
from collections.abc import Mapping

from local.node.api import Object
from local.node.configuration import NotConfiguredError, Sources, pod_field, resource_field

REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_.\-][A-Za-z0-9_.\-]*)\))")


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(VAR)` where VAR is known; `$$` is a dollar sign; all else stays as it is."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return known.get(found[2], found[0])

    return REFERENCE.sub(value, text)


async def resolve_environment(
    pod: Object,
    container: Object,
    sources: Sources,
    *,
    pod_ip: str,
    host_ip: str,
    capacity: Mapping[str, str],
) -> dict[str, str]:
    namespace = pod["metadata"]["namespace"]
    resolved: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for kind, field in (("configmap", "configMapRef"), ("secret", "secretRef")):
            if reference := source.get(field):
                values = await sources.required(
                    kind, reference["name"], bool(reference.get("optional"))
                )
                prefix = source.get("prefix") or ""
                resolved |= {f"{prefix}{key}": value.decode() for key, value in values.items()}
    for item in container.get("env") or ():
        name, source = item["name"], item.get("valueFrom")
        if source is None:
            resolved[name] = expand(item.get("value") or "", resolved)
        elif reference := source.get("fieldRef"):
            resolved[name] = pod_field(pod, reference["fieldPath"], pod_ip=pod_ip, host_ip=host_ip)
        elif reference := source.get("resourceFieldRef"):
            resolved[name] = resource_field(container, reference, capacity)
        else:
            found = await _key(source, sources, namespace)
            if found is not None:
                resolved[name] = found
    return resolved


async def _key(source: Object, sources: Sources, namespace: str) -> str | None:
    for kind, title, field in (
        ("configmap", "ConfigMap", "configMapKeyRef"),
        ("secret", "Secret", "secretKeyRef"),
    ):
        if reference := source.get(field):
            optional = bool(reference.get("optional"))
            values = await sources.required(kind, reference["name"], optional)
            key = reference["key"]
            if key in values:
                return values[key].decode()
            if optional:
                return None
            where = f"{namespace}/{reference['name']}"
            raise NotConfiguredError(f"couldn't find key {key} in {title} {where}")
    raise NotConfiguredError(f"this source of a value is not supported: {sorted(source)}")
