"""A policy as the API server hands it over: parsed once, or refused with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from starforge_backlog.api.database import Database
from starforge_backlog.api.policy import Producer, QueueBacklogPolicySpec
from starforge_backlog.api.target import Target
from starforge_backlog.cluster.annotations import abandons_pauses, hold_reason
from starforge_backlog.cluster.status import Edition

_Model = TypeVar("_Model", bound=BaseModel)
# Stands for a target that cannot be read: nothing is scaled when a policy goes away.
_UNNAMED: Final = "unknown"


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
        try:
            spec = QueueBacklogPolicySpec.model_validate(dict(body["spec"]))
        except ValidationError as wrong:
            fields = "; ".join(
                f"spec.{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
                for error in wrong.errors()
            )
            raise SpecNotUnderstood(fields) from wrong
        return cls._of(body, spec)

    @classmethod
    def for_release(cls, body: Mapping[str, Any]) -> Policy:
        """The same for a policy that goes away: what it paused must be released although the rest
        of its spec cannot be read. Where the pauses are is in its status; of the spec only the
        ways to them are needed."""
        try:
            return cls.parse(body)
        except SpecNotUnderstood:
            spec = body["spec"]
            database = _part(Database, _only(spec.get("database"), "url"))
            producers = [_part(Producer, given) for given in spec.get("producers") or ()]
            return cls._of(
                body,
                QueueBacklogPolicySpec.model_construct(
                    target=_part(Target, spec.get("target")) or Target(name=_UNNAMED),
                    database=database,
                    queues=(),
                    producers=tuple(p for p in producers if p is not None),
                ),
            )

    @classmethod
    def _of(cls, body: Mapping[str, Any], spec: QueueBacklogPolicySpec) -> Policy:
        meta = body["metadata"]
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


def _part(model: type[_Model], given: object) -> _Model | None:
    """A part of a spec by itself; None where it cannot be read either."""
    try:
        return model.model_validate(_plain(given))
    except ValidationError:
        return None


def _only(given: object, *fields: str) -> object:
    if not isinstance(given, Mapping):
        return None
    return {name: value for name, value in given.items() if name in fields}


def _plain(given: object) -> object:
    """The framework hands out views; a model wants plain containers."""
    if isinstance(given, Mapping):
        return {key: _plain(value) for key, value in given.items()}
    if isinstance(given, (list, tuple)):
        return [_plain(value) for value in given]
    return given
