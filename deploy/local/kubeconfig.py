"""Kubeconfig files that carry their credentials in them, so that one file is all it takes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from local.certificates import KeyPair


def client_certificate(pair: KeyPair) -> Mapping[str, str]:
    return {
        "client-certificate-data": _inline(pair.certificate.read_bytes()),
        "client-key-data": _inline(pair.key.read_bytes()),
    }


def write_kubeconfig(
    path: Path,
    *,
    server: str,
    authority: bytes,
    user: Mapping[str, str],
    name: str = "starforge-local",
    namespace: str = "default",
) -> None:
    """Written in one move: a reader never sees half a file when a token is refreshed."""
    context = {"cluster": name, "user": name, "namespace": namespace}
    cluster = {"server": server, "certificate-authority-data": _inline(authority)}
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": dict(user)}],
        "contexts": [{"name": name, "context": context}],
    }
    scratch = path.with_name(path.name + ".new")
    scratch.touch(mode=0o600)
    scratch.write_text(yaml.safe_dump(content, sort_keys=False))
    scratch.replace(path)


def _inline(content: bytes) -> str:
    return base64.b64encode(content).decode()
