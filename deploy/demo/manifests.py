"""Manifests of the demo: files with a few `${NAMES}`, and the Secrets made for one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

NAMESPACE = "starforge"
FOLDER = Path(__file__).parent / "manifests"


def manifest(name: str, **values: object) -> str:
    """The text of `manifests/<name>.yaml`; a name without a value is an error."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return Template(text).substitute({key: str(value) for key, value in values.items()})


def namespace() -> Mapping[str, Any]:
    """Where the guarded system lives."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def secret(name: str, values: Mapping[str, str]) -> Mapping[str, Any]:
    """A Secret in that namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": dict(values),
    }
