"""Custom resource definitions, applied and really ready."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from local.commands import CommandError
from local.errors import LocalError

NOT_YET = (
    "storage is (re)initializing",
    "TooManyRequests",
    "the server could not find the requested resource",
    "the server doesn't have a resource type",
)


class Kubectl(Protocol):
    def __call__(self, *args: str | Path, stdin: str | None = None, timeout: float = 120) -> str:
        """Runs it and returns what it printed."""


def apply_crds(kubectl: Kubectl, files: Iterable[Path], within: float = 120) -> list[str]:
    """Apply files or folders, wait until each resource can be used, return their names.

    Established is not enough: right after it the API server answers 429 for a moment.
    """
    arguments = [argument for file in files for argument in ("-f", str(file))]
    # Server-side, because a large schema does not fit into the last-applied annotation.
    applied = kubectl("apply", "--server-side", "--force-conflicts", "-o", "json", *arguments)
    names = [
        str(item["metadata"]["name"])
        for item in _documents(applied)
        if item["kind"] == "CustomResourceDefinition"
    ]
    if not names:
        return names
    kinds = [f"crd/{name}" for name in names]
    kubectl("wait", "--for=condition=Established", f"--timeout={within:g}s", *kinds)
    for name in names:
        _until_served(kubectl, name, within)
    return names


def _until_served(kubectl: Kubectl, name: str, within: float) -> None:
    deadline = time.monotonic() + within
    while True:
        try:
            kubectl("get", name, "-A", "--chunk-size=1")
        except CommandError as error:
            if not any(sign in error.stderr for sign in NOT_YET):
                raise
            if time.monotonic() > deadline:
                raise LocalError(
                    f"{name} is Established, but the API server does not serve it: {error}"
                ) from error
        else:
            return
        time.sleep(0.1)


def _documents(text: str) -> list[dict[str, Any]]:
    """kubectl prints one JSON document after the other, or one List."""
    decoder = json.JSONDecoder()
    found: list[dict[str, Any]] = []
    position = 0
    while position < len(text.rstrip()):
        document, position = decoder.raw_decode(text, position)
        found += document["items"] if document["kind"] == "List" else [document]
        while position < len(text) and text[position].isspace():
            position += 1
    return found
