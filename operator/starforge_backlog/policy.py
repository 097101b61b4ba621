"""A policy as the API server hands it over: parsed once, or refused with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.cluster.annotations import abandons_pauses, hold_reason
from starforge_backlog.cluster.status import Edition


class SpecNotUnderstood(Exception):
    """The API server accepted a spec that this version cannot read (a newer CRD, most likely)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One `QueueBacklogPolicy` and the body it came from."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: QueueBacklogPolicySpec
    hold: str | None  # a person's reason to stop every action
    abandon: bool  # let go of pauses that cannot be released
    edition: Edition  # what people had written when this was read; `body` is a live view
    body: Mapping[str, Any]

    @property
    def key(self) -> str:
        """`namespace/name`, for people, ledgers and metrics."""
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Policy:
        """Read a body. Raises SpecNotUnderstood naming the fields."""
        meta = body["metadata"]
        try:
            spec = QueueBacklogPolicySpec.model_validate(dict(body["spec"]))
        except ValidationError as wrong:
            fields = "; ".join(
                f"spec.{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
                for error in wrong.errors()
            )
            raise SpecNotUnderstood(fields) from wrong
        annotations = dict(meta.get("annotations") or {})
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            generation=int(meta.get("generation") or 0),
            spec=spec,
            hold=hold_reason(annotations),
            abandon=abandons_pauses(annotations),
            edition=Edition.of(meta),
            body=body,
        )
