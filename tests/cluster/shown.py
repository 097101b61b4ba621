"""Every policy that a page or a sample shows, as data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from tests.cluster.crd_examples import Policy, minimal

from starforge_backlog.api.policy import QueueBacklogPolicySpec

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (
    ROOT / "README.md",
    *sorted(ROOT.joinpath("docs").rglob("*.md")),
    *sorted(ROOT.joinpath("charts").rglob("*.md")),
    *sorted(ROOT.joinpath("deploy").rglob("*.md")),
)
SAMPLES: Final = tuple(sorted(ROOT.joinpath("deploy", "samples").rglob("*.yaml")))
KIND: Final = "QueueBacklogPolicy"
_FIELDS: Final = {field.alias for field in QueueBacklogPolicySpec.model_fields.values()}
_YAML: Final = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """One policy, and where it stands: `README.md-1`."""

    place: str
    policy: Policy

    def named(self, name: str, namespace: str) -> Policy:
        """The policy under another name."""
        metadata = {**self.policy["metadata"], "name": name, "namespace": namespace}
        return {**self.policy, "metadata": metadata}


def shown() -> tuple[Shown, ...]:
    """Whole policies, and parts of a spec, which people write into the smallest policy."""
    return (*_of_pages(), *_of_samples())


def _of_pages() -> Iterator[Shown]:
    for page in PAGES:
        for number, text in enumerate(_YAML.findall(page.read_text()), start=1):
            for part in _policies(text):
                yield Shown(f"{page.relative_to(ROOT)}-{number}", part)


def _of_samples() -> Iterator[Shown]:
    for sample in SAMPLES:
        for number, part in enumerate(_policies(sample.read_text()), start=1):
            yield Shown(f"{sample.relative_to(ROOT)}-{number}", part)


def _policies(text: str) -> Iterator[Policy]:
    for document in yaml.safe_load_all(text):
        found: Any = document
        if not isinstance(found, dict):
            continue
        if found.get("kind") == KIND:
            yield found
        elif found and "kind" not in found and found.keys() <= _FIELDS:
            policy = minimal()
            policy["spec"].update(found)
            yield policy
        # Anything else is values of the chart, or another object beside a policy.
