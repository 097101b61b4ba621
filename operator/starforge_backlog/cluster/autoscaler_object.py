"""A HorizontalPodAutoscaler or a KEDA ScaledObject as JSON, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starforge_backlog.api import FIELD_MANAGER, GROUP
from starforge_backlog.api.shown import shortened
from starforge_backlog.api.target import KEDA_PAUSED, KEDA_PAUSED_AT
from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.owners import annotators, last_writer
from starforge_backlog.snapshot import Autoscaler

# What was put on an object whose maximum is lowered. The spec holds the lowered maximum itself;
# a spec that differs from MAXIMUM was written by another client since.
TOKEN = f"{GROUP}/guard-token"
PREVIOUS = f"{GROUP}/guard-previous-maximum"
MAXIMUM = f"{GROUP}/guard-maximum"
# PREVIOUS of an object that named no maximum: restored by naming none.
DEFAULTED = "default"
# What KEDA (Go's strconv.ParseBool) takes for no pause; any other text is one.
_NOT_PAUSED = frozenset({"0", "f", "F", "false", "False", "FALSE"})
# Of a number of replicas (int32); an annotation holds 256 kB.
_MOST_DIGITS = 10
# Characters of KEDA's own words: a trigger's fault with the host that it asked.
_COMPLAINT_CHARACTERS = 240
# autoscaling/v2: the controller would go further than the maximum.
_LIMITED = ("ScalingLimited", "True", "TooManyReplicas")


@dataclass(frozen=True, slots=True)
class AutoscalerKind:
    """A kind of autoscaler, and where it keeps what we read and write."""

    kind: str
    resource: Resource
    minimum: str  # keys of its spec
    maximum: str
    default_minimum: int
    default_maximum: int


# autoscaling/v2 requires maxReplicas; minReplicas is 1 where left out.
HPA = AutoscalerKind(
    "HorizontalPodAutoscaler",
    Resource("autoscaling", "v2", "horizontalpodautoscalers"),
    "minReplicas",
    "maxReplicas",
    default_minimum=1,
    default_maximum=1,
)
# keda.sh/v1alpha1: 0 and 100 where left out.
SCALED_OBJECT = AutoscalerKind(
    "ScaledObject",
    Resource("keda.sh", "v1alpha1", "scaledobjects"),
    "minReplicaCount",
    "maxReplicaCount",
    default_minimum=0,
    default_maximum=100,
)
KINDS = {kind.kind: kind for kind in (HPA, SCALED_OBJECT)}


def autoscaler(kind: AutoscalerKind, found: Json) -> Autoscaler:
    """What an object says.

    KEDA copies the annotations of a ScaledObject to its own HorizontalPodAutoscaler: a mark there
    is not about that one's maximum.
    """
    meta, spec = found["metadata"], found.get("spec") or {}
    notes: Mapping[str, str] = meta.get("annotations") or {}
    owner = _scaled_object_of(found)
    marks = {} if owner else notes
    kept = marks.get(PREVIOUS)
    maximum, minimum = spec.get(kind.maximum), spec.get(kind.minimum)
    writer = last_writer(found, kind.maximum)
    at = notes.get(KEDA_PAUSED_AT)
    return Autoscaler(
        kind=kind.kind,
        name=meta["name"],
        uid=meta["uid"],
        version=meta["resourceVersion"],
        minimum=kind.default_minimum if minimum is None else int(minimum),
        maximum=kind.default_maximum if maximum is None else int(maximum),
        kept_maximum=kind.default_maximum if kept == DEFAULTED else _number(kept),
        token=marks.get(TOKEN),
        written=_number(marks.get(MAXIMUM)),
        implicit=maximum is None,
        kept_implicit=kept == DEFAULTED,
        writer=writer,
        changed_since=writer is not None and writer.manager != FIELD_MANAGER,
        copied=_is_copy(found, writer.manager if writer is not None else ""),
        paused=at is None and notes.get(KEDA_PAUSED, "false") not in _NOT_PAUSED,
        held_at=_number(at),
        owner=owner,
        limited=_is_limited(found),
        complaint=_complaint(found) if kind is SCALED_OBJECT else "",
    )


def own_autoscaler(found: Json) -> str:
    """The name of KEDA's own HorizontalPodAutoscaler of a ScaledObject; empty while it has none."""
    return str((found.get("status") or {}).get("hpaName") or "")


def belongs_to(found: Json, uid: str) -> bool:
    """Whether an object is owned by the one with that uid."""
    return any(owner.get("uid") == uid for owner in _owners(found))


def _scaled_object_of(found: Json) -> str:
    owners = (owner for owner in _owners(found) if owner.get("kind") == SCALED_OBJECT.kind)
    return next((str(owner["name"]) for owner in owners), "")


def _owners(found: Json) -> tuple[Json, ...]:
    return tuple(found["metadata"].get("ownerReferences") or ())


def _is_copy(found: Json, writer: str) -> bool:
    """Our mark came with the maximum, by a hand that is not ours: an object that was restored from
    a backup, or applied from an export. Who only changes the maximum leaves the mark ours."""
    managers = annotators(found, TOKEN)
    return bool(writer) and FIELD_MANAGER not in managers and writer in managers


def _is_limited(found: Json) -> bool:
    return any(
        (entry.get("type"), entry.get("status"), entry.get("reason")) == _LIMITED
        for entry in _conditions(found)
    )


def _complaint(found: Json) -> str:
    """Why KEDA says that it is not Ready; empty when it is, or has not judged yet."""
    for entry in _conditions(found):
        if entry.get("type") == "Ready" and entry.get("status") == "False":
            said = f"{entry.get('reason') or 'NotReady'}: {entry.get('message') or ''}"
            return shortened(said, _COMPLAINT_CHARACTERS)
    return ""


def _conditions(found: Json) -> tuple[dict[str, Any], ...]:
    return tuple((found.get("status") or {}).get("conditions") or ())


def _number(text: str | None) -> int | None:
    """None for what is not there, or was edited to something that is no number."""
    fits = text is not None and text.isdecimal() and len(text) <= _MOST_DIGITS
    return int(text or "") if fits else None
