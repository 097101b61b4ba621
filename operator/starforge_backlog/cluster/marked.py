"""One field of an object with a mark beside it: read it, and change both in one conditional write.

Both are in one patch under the version that was read: there is no moment at which the field is
changed and nothing says by whom, and whoever writes in between makes it a conflict (P4, P6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starforge_backlog.api import FIELD_MANAGER
from starforge_backlog.cluster.client import ClusterClient, Json, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.cluster.marks import ANNOTATION, Mark, annotation_with, mark_of

# What stands for whom nobody would know by the name alone.
_KNOWN_MANAGERS = {
    "kube-controller-manager/scale": "a HorizontalPodAutoscaler (kube-controller-manager)",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A field of one object."""

    resource: Resource
    kind: str
    namespace: str
    name: str
    path: tuple[str, str]  # for example ("data", "ingest_paused")

    @property
    def field(self) -> str:
        """The field's name in the mark."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Seen:
    """The field as it is. `value` None: the field is absent."""

    found: Json
    value: object
    mark: Mark | None
    owners: tuple[str, ...]  # who wrote this very value, as managedFields names them

    @property
    def uid(self) -> str:
        """The object's own; another one of the same name has another."""
        return str(self.found["metadata"]["uid"])

    @property
    def writer(self) -> str:
        """Who else wrote the value, for people; empty where nobody else did, or it is not known."""
        others = (owner for owner in self.owners if owner != FIELD_MANAGER)
        return ", ".join(_KNOWN_MANAGERS.get(owner, owner) for owner in others)

    @property
    def as_we_left_it(self) -> bool:
        """Whether the value and a mark are ours, and nobody has written the value since.

        A write that changes a value takes it from all who owned it, so a value that another client
        changed and changed back is theirs. Pods and labels may change: those are no owners of it.
        """
        return self.mark is not None and (not self._tracked or self.owners == (FIELD_MANAGER,))

    @property
    def version(self) -> str:
        """Moves when another client writes the value, takes our mark away or makes the object
        again, and not with the object's `resourceVersion`, which every pod that becomes Ready
        moves."""
        marked = "" if self.mark is not None else " unmarked"
        return f"{self.uid} {','.join(self.owners) if self._tracked else self._written}{marked}"

    @property
    def our_version(self) -> str:
        """The version right after our own write to this object."""
        return f"{self.uid} {FIELD_MANAGER if self._tracked else self._written}"

    @property
    def _tracked(self) -> bool:
        """Whether the API server keeps owners of this object. It does not of one that was made
        without any field or whose managedFields were cleared, until another client applies it."""
        return bool(self.found["metadata"].get("managedFields"))

    @property
    def _written(self) -> str:
        return f"untracked@{self.found['metadata']['resourceVersion']}"


async def read_marked(client: ClusterClient, place: Place) -> Seen:
    """Read the field. Raises ClusterFault."""
    return _seen(place, await client.get(place.resource, place.namespace, place.name))


async def put(
    client: ClusterClient, place: Place, seen: Seen, value: object, mark: Mark | None
) -> Seen | None:
    """Set field (None: remove it) and mark; None when the object is not as it was seen any more.

    Raises ClusterFault.
    """
    outer, inner = place.path
    body = {
        "metadata": {
            "resourceVersion": seen.found["metadata"]["resourceVersion"],
            "annotations": {ANNOTATION: annotation_with(seen.found, place.field, mark)},
        },
        outer: {inner: value},
    }
    try:
        written = await client.patch(place.resource, place.namespace, place.name, body)
    except ClusterFault as fault:
        if fault.kind is FaultKind.CONFLICT:
            return None
        raise
    return _seen(place, written)


def _seen(place: Place, found: Json) -> Seen:
    outer, inner = place.path
    value = (found.get(outer) or {}).get(inner)
    return Seen(found, value, mark_of(found, place.field), owners_of(found, place.path))


def owners_of(found: Json, path: Sequence[str]) -> tuple[str, ...]:
    """Managers of a field, for example `kubectl-edit` or `kube-controller-manager/scale`."""
    owners = set[str]()
    for entry in found["metadata"].get("managedFields") or ():
        fields: Any = entry.get("fieldsV1") or {}
        for part in path:
            fields = fields.get(f"f:{part}") if isinstance(fields, dict) else None
        if fields is not None:
            subresource = entry.get("subresource")
            manager = str(entry.get("manager") or "unknown")
            owners.add(f"{manager}/{subresource}" if subresource else manager)
    return tuple(sorted(owners))
