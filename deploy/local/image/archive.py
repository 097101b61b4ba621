"""An OCI image archive of one uncompressed layer: what containerd and buildah import as a file."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

IMAGE_NAME = "io.containerd.image.name"
TAG = "org.opencontainers.image.ref.name"
_MEDIA = "application/vnd.oci.image."
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CHUNK = 1 << 20


def write_archive(
    file: Path, name: str, tree: Path, *, entrypoint: Sequence[str] = (), path: str = ""
) -> None:
    """`name` is the full one, with registry and tag. Appears whole or not at all."""
    with tempfile.TemporaryDirectory(prefix="archive-", dir=file.parent) as scratch:
        layer = Path(scratch) / "layer.tar"
        with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(tree, arcname=".")
        digest = _sha256(layer)
        config = {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "Entrypoint": list(entrypoint),
                "Env": [f"PATH={path or '/usr/local/bin:/usr/bin:/bin'}"],
            },
            # buildah holds the number of layers against it.
            "history": [{"created_by": "starforge-backlog", "empty_layer": False}],
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
        whole = Path(scratch) / "archive.tar"
        with tarfile.open(whole, "w") as tar:
            described = _blob(tar, config, "config.v1+json")
            manifest = {
                "schemaVersion": 2,
                "mediaType": f"{_MEDIA}manifest.v1+json",
                "config": described,
                "layers": [
                    {
                        "mediaType": f"{_MEDIA}layer.v1.tar",
                        "digest": f"sha256:{digest}",
                        "size": layer.stat().st_size,
                    }
                ],
            }
            tar.add(layer, arcname=f"blobs/sha256/{digest}")
            named = _blob(tar, manifest, "manifest.v1+json")
            named["annotations"] = {IMAGE_NAME: name, TAG: name}
            _text(tar, "index.json", {"schemaVersion": 2, "manifests": [named]})
            _text(tar, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        whole.replace(file)


def _blob(tar: tarfile.TarFile, content: Any, kind: str) -> dict[str, Any]:
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    _text(tar, f"blobs/sha256/{digest}", content)
    return {"mediaType": f"{_MEDIA}{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def _text(tar: tarfile.TarFile, name: str, content: Any) -> None:
    data = json.dumps(content).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
