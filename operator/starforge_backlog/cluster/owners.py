"""Who wrote `replicas` last, from `managedFields` (P9)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from starforge_backlog.api import FIELD_MANAGER
from starforge_backlog.cluster.client import Json
from starforge_backlog.snapshot import ScaleWriter

# Names that say too little: of the controller manager only the autoscaler writes a scale.
_SCALERS = {"kube-controller-manager": "HorizontalPodAutoscaler (kube-controller-manager)"}
_BEGINNING = datetime.min.replace(tzinfo=UTC)


def last_writer(found: Json, field: str = "replicas") -> ScaleWriter | None:
    """Whoever made `spec.replicas` (or another field of `spec`) what it is, or None when nobody
    owns it (never set).

    A write that changes the number takes the field from all others, so several owners all wrote
    this very number. Are we among them, it is ours, whoever applied the same afterwards: that is
    how a step shows that was written right before a crash. Of others the latest is named; writes
    through the scale subresource carry no time at all and count as the latest.
    """
    owners = list(_owners(found, field))
    ours = next((owner for owner in owners if owner.manager == FIELD_MANAGER), None)
    if ours is not None or not owners:
        return ours
    return max(owners, key=lambda owner: (owner.at is None, owner.at or _BEGINNING))


def _owners(found: Json, field: str) -> Iterator[ScaleWriter]:
    for entry in found.get("metadata", {}).get("managedFields") or ():
        if _owns(entry, field):
            manager = str(entry.get("manager") or "")
            if entry.get("subresource") == "scale":
                manager = _SCALERS.get(manager, manager)
            yield ScaleWriter(manager=manager, at=parse_time(entry.get("time")))


def _owns(entry: Json, field: str) -> bool:
    fields: Any = entry.get("fieldsV1") or {}
    if entry.get("subresource") == "scale":
        # The scale subresource can write nothing but replicas, under whatever path a CRD keeps it.
        return bool(fields.get("f:spec"))
    return not entry.get("subresource") and f"f:{field}" in (fields.get("f:spec") or {})


def parse_time(text: object) -> datetime | None:
    """A `metav1.Time`, or None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def annotators(found: Json, key: str) -> frozenset[str]:
    """Who wrote an annotation, from `managedFields`; empty when nobody is known to."""
    return frozenset(
        str(entry.get("manager") or "")
        for entry in found.get("metadata", {}).get("managedFields") or ()
        if f"f:{key}" in _annotations(entry)
    )


def _annotations(entry: Json) -> Json:
    fields: Json = entry.get("fieldsV1") or {}
    meta: Json = fields.get("f:metadata") or {}
    annotations: Json = meta.get("f:annotations") or {}
    return annotations
