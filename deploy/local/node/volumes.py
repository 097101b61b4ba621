"""Volumes as folders below the pod's own folder.

A process has no mount namespace of its own, so a container's files are at
`<its root>/<mountPath>`, and texts of its command, arguments and environment that name a path below
a mount path are rewritten to point there. `LOCAL_ROOT` is the root, for programs that want to know.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from local.node.api import Object
from local.node.configuration import NotConfiguredError, Sources, pod_field

Files = Mapping[str, bytes]


class Tokens(Protocol):
    async def issue(self, audience: str | None, seconds: int) -> str:
        """A token of the pod's ServiceAccount."""


class Volumes:
    def __init__(self, pod: Object, folder: Path, *, pod_ip: str, host_ip: str) -> None:
        self._pod = pod
        self._folder = folder
        self._pod_ip = pod_ip
        self._host_ip = host_ip

    async def write(self, sources: Sources, tokens: Tokens, authority: str) -> None:
        for volume in self._pod["spec"].get("volumes") or ():
            await self._write_one(volume, sources, tokens, authority)

    def root(self, container: Object) -> Path:
        """Made again for each start: links into the pod's volumes at the mount paths."""
        root = self._folder / "roots" / str(container["name"])
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        mounts = container.get("volumeMounts") or ()
        for mount in sorted(mounts, key=lambda m: len(m["mountPath"])):
            place = root / str(mount["mountPath"]).strip("/")
            target = self._folder / "volumes" / mount["name"] / (mount.get("subPath") or "")
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(target)
        return root

    async def _write_one(
        self, volume: Object, sources: Sources, tokens: Tokens, authority: str
    ) -> None:
        place = self._folder / "volumes" / volume["name"]
        if "emptyDir" in volume:
            place.mkdir(parents=True, exist_ok=True)
        elif host := volume.get("hostPath"):
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.is_symlink():
                place.symlink_to(host["path"])
        elif projected := volume.get("projected"):
            for source in projected["sources"]:
                if wanted := source.get("serviceAccountToken"):
                    token = await tokens.issue(
                        wanted.get("audience"), int(wanted.get("expirationSeconds") or 3600)
                    )
                    _save(place, {wanted["path"]: token.encode()})
                elif (source.get("configMap") or {}).get("name") == "kube-root-ca.crt":
                    # Known here already; the controller that publishes it may be late.
                    _save(place, {"ca.crt": authority.encode()})
                else:
                    _save(place, await self._files(source, sources))
        else:
            _save(place, await self._files(volume, sources))

    async def _files(self, source: Object, sources: Sources) -> Files:
        if reference := source.get("configMap"):
            values = await sources.required(
                "configmap", reference["name"], bool(reference.get("optional"))
            )
            return _items(values, reference, f'configmap "{reference["name"]}"')
        if reference := source.get("secret"):
            name = reference.get("secretName") or reference["name"]
            values = await sources.required("secret", name, bool(reference.get("optional")))
            return _items(values, reference, f'secret "{name}"')
        if downward := source.get("downwardAPI"):
            return {
                item["path"]: pod_field(
                    self._pod,
                    item["fieldRef"]["fieldPath"],
                    pod_ip=self._pod_ip,
                    host_ip=self._host_ip,
                ).encode()
                for item in downward.get("items") or ()
                if "fieldRef" in item
            }
        kinds = sorted(set(source) - {"name"})
        raise NotConfiguredError(f"volumes of this kind are not supported here: {kinds}")


def rewrite(text: str, mount_paths: Iterable[str], root: Path) -> str:
    """Paths at the start of a text or after a character that no path has: `--config=/etc/x`."""
    longest_first = sorted((p.rstrip("/") for p in mount_paths), key=len, reverse=True)
    known = [re.escape(path) for path in longest_first if path]
    if not known:
        return text
    pattern = rf"(?<![\w./\-])({'|'.join(known)})(?=/|$|[\s:,;'\"])"
    return re.sub(pattern, lambda found: f"{root}{found[1]}", text)


def _items(values: Files, reference: Object, what: str) -> Files:
    chosen = reference.get("items")
    if not chosen:
        return values
    missing = [item["key"] for item in chosen if item["key"] not in values]
    if missing and not reference.get("optional"):
        raise NotConfiguredError(f"{what} references non-existent config key: {missing[0]}")
    return {item["path"]: values[item["key"]] for item in chosen if item["key"] in values}


def _save(place: Path, files: Files) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.new")
        scratch.touch(mode=0o600)
        scratch.write_bytes(content)
        scratch.replace(path)  # a program that reads it now sees the old or the new, whole
