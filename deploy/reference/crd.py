"""Writes `crds/` and what else follows from the models, or checks that it is up to date.

`python -m reference.crd` writes; with `--check` it prints a diff and fails on drift.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from reference.memory import apart_in
from reference.policy import render_reference
from reference.resource import (
    CATEGORIES,
    COLUMNS,
    CRD_FILE,
    DESCRIPTION,
    KIND,
    SHORT_NAMES,
    SINGULAR,
    Column,
)
from reference.structural import published, structural, without_defaults
from starforge_backlog.api import GROUP, PLURAL, VERSION
from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import QueueBacklogPolicyStatus

_HEADER = (
    "# Generated from operator/starforge_backlog/api by `make crd`; edit the models instead.\n"
)
_CHECKOUT = Path(__file__).resolve().parents[2]


def schema() -> dict[str, Any]:
    """The OpenAPI schema of the resource, spec and status."""
    return {
        "type": "object",
        "description": DESCRIPTION,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"Always {KIND}."},
            "metadata": {"type": "object"},
            "spec": published(structural(QueueBacklogPolicySpec)),
            "status": published(without_defaults(apart_in(structural(QueueBacklogPolicyStatus)))),
        },
    }


def definition() -> dict[str, Any]:
    """The whole CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": list(SHORT_NAMES),
                "categories": list(CATEGORIES),
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in COLUMNS],
                    "schema": {"openAPIV3Schema": schema()},
                }
            ],
        },
    }


def render() -> str:
    """The definition as YAML text."""
    return _HEADER + yaml.dump(
        definition(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


def files() -> Mapping[Path, str]:
    """All generated files, relative to the checkout, with what they must hold."""
    crd = render()
    return {
        Path("crds", CRD_FILE): crd,
        # Helm reads only files below the chart.
        Path("charts", "starforge-backlog", "files", "crds", CRD_FILE): crd,
        Path("docs", "reference", "policy.md"): render_reference(),
    }


def drift(root: Path) -> str:
    """A unified diff from what is there to what should be; empty when nothing differs."""
    found: list[str] = []
    for path, wanted in files().items():
        there = root / path
        present = there.read_text(encoding="utf-8") if there.is_file() else ""
        found += difflib.unified_diff(
            present.splitlines(keepends=True),
            wanted.splitlines(keepends=True),
            f"{path} (committed)",
            f"{path} (from the models)",
        )
    return "".join(found)


def write(root: Path) -> tuple[Path, ...]:
    """Write all generated files and return their paths."""
    for path, text in files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return tuple(files())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all is up to date or written, 1 on drift."""
    parser = argparse.ArgumentParser(prog="python -m reference.crd")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="print a diff and fail on drift")
    what.add_argument("--write", action="store_true", help="write the files (the default)")
    parser.add_argument("--root", type=Path, default=_CHECKOUT, help="checkout (%(default)s)")
    chosen = parser.parse_args(arguments)
    if not chosen.check:
        for path in write(chosen.root):
            sys.stdout.write(f"wrote {path}\n")
        return 0
    difference = drift(chosen.root)
    if difference:
        sys.stdout.write(difference)
        sys.stderr.write("generated files differ from the models: run `make crd`, commit both\n")
        return 1
    return 0


def _column(column: Column) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
    }
    return shown | ({"priority": column.priority} if column.priority else {})


class _Dumper(yaml.SafeDumper):
    """Writes shared parts out each time: the API server's YAML reader takes aliases, people do
    not."""

    def ignore_aliases(self, data: object) -> bool:
        return True


if __name__ == "__main__":
    sys.exit(main())
