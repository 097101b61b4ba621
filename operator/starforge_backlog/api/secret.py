"""Values that are only ever given by reference to a Secret."""

from __future__ import annotations

from pydantic import ConfigDict

from starforge_backlog.api.base import Model
from starforge_backlog.api.terms import ObjectName, SecretKey


class SecretKeyRef(Model):
    """A key of a Secret in the policy's namespace."""

    # Atomic: half a reference of one applier and half of another would point nowhere.
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    name: ObjectName
    """Name of the Secret, in the policy's namespace."""

    key: SecretKey
    """Key of the Secret's data that holds the value."""


class SecretValue(Model):
    """A value that is only ever given by reference."""

    secret_key_ref: SecretKeyRef
    """Where the value is. A rotated Secret is picked up without a restart."""
