"""Pausing by a key of a ConfigMap, for an API that reads it while it runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from starforge_backlog.api.policy import ConfigMapKey
from starforge_backlog.cluster.client import CONFIG_MAPS
from starforge_backlog.cluster.marked import Place, Seen


@dataclass(frozen=True, slots=True)
class ConfigMapField:
    """One key of the data of one ConfigMap. Never a pod template: changing that would restart
    producers in the middle of an incident."""

    namespace: str
    key: ConfigMapKey

    @property
    def place(self) -> Place:
        """The key of `data`."""
        path = ("data", self.key.key)
        return Place(CONFIG_MAPS, "ConfigMap", self.namespace, self.key.name, path)

    @property
    def called(self) -> str:
        """For sentences."""
        return f"key {self.key.key} of ConfigMap {self.key.name}"

    @property
    def paused_value(self) -> object:
        """As the policy says."""
        return self.key.paused

    def is_paused(self, value: object) -> bool:
        """Exactly that value; any other, and no key, is running."""
        return value == self.key.paused

    def wrong(self, seen: Seen) -> str:
        """A key of binaryData, or data that nobody can change."""
        if self.key.key in (seen.found.get("binaryData") or {}):
            return (
                f"The {self.called} is in its binaryData, which holds no text, so nothing was"
                " paused; write it to data, or correct the key in the policy."
            )
        if seen.found.get("immutable") is True:
            return (
                f"ConfigMap {self.key.name} is immutable, so nothing was paused and nothing can be;"
                " delete it and create it again without immutable: true."
            )
        return ""

    def missing(self) -> str:
        """With the command that makes it; what it says to the API is not ours to choose."""
        create = ["kubectl", "create", "configmap", self.key.name, "-n", self.namespace]
        return (
            f"There is no ConfigMap {self.key.name} in namespace {self.namespace}, so nothing is"
            " paused and nothing can be; correct the name in the policy, or run:"
            f" {shlex.join(create)}"
        )
