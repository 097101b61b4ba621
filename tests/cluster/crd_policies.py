"""The real API server's answer to policies.

Requests are dry runs over one HTTP connection: the API server decides as always and stores
nothing, and hundreds of examples take seconds where as many kubectl processes would take minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml
from kubernetes import client, config
from tests.cluster.crd_examples import Policy

from local.cluster import LocalCluster
from starforge_backlog.api import GROUP, PLURAL, VERSION
from starforge_backlog.api.policy import QueueBacklogPolicySpec


class Refused(Exception):
    """The API server's answer; the text is its message."""


class Policies:
    """Policies in one namespace of a real API server."""

    def __init__(self, cluster: LocalCluster, namespace: str) -> None:
        self._api = config.new_client_from_config(str(cluster.kubeconfig))
        self._objects = client.CustomObjectsApi(self._api)
        self._namespace = namespace

    @classmethod
    def opened(cls, cluster: LocalCluster, namespace: str) -> Iterator[Policies]:
        """For fixtures, beside `crd`: a new namespace, until the tests are over."""
        cluster.kubectl("create", "namespace", namespace)
        policies = cls(cluster, namespace)
        yield policies
        policies.close()

    def close(self) -> None:
        """Close the connection."""
        self._api.rest_client.pool_manager.clear()

    def create(self, policy: Policy, *, keep: bool = False) -> Policy:
        """What the API server makes of it. Raises `Refused`.

        Whatever it accepts, the models must be able to read.
        """
        created = self._call("create", policy, keep=keep)
        QueueBacklogPolicySpec.model_validate(created["spec"])
        return created

    def update(self, policy: Policy, *, keep: bool = False) -> Policy:
        """Replace a policy that exists. Raises `Refused`."""
        updated = self._call("replace", policy, name=policy["metadata"]["name"], keep=keep)
        QueueBacklogPolicySpec.model_validate(updated["spec"])
        return updated

    def set_status(self, name: str, status: object, *, keep: bool = False) -> Policy:
        """Merge into the status, through its subresource. Raises `Refused`."""
        return self._call("patch", {"status": status}, name=name, suffix="_status", keep=keep)

    def delete(self, name: str) -> None:
        """Delete a policy."""
        self._objects.delete_namespaced_custom_object(GROUP, VERSION, self._namespace, PLURAL, name)

    def _call(
        self, verb: str, body: object, *, keep: bool, name: str | None = None, suffix: str = ""
    ) -> Policy:
        call = getattr(self._objects, f"{verb}_namespaced_custom_object{suffix}")
        names = (name,) if name else ()
        options = {"field_validation": "Strict"} | ({} if keep else {"dry_run": "All"})
        try:
            answer: Policy = call(GROUP, VERSION, self._namespace, PLURAL, *names, body, **options)
        except client.ApiException as error:
            if error.status not in (400, 422):
                raise
            raise Refused(_message(error)) from error
        return answer


def _message(error: client.ApiException) -> str:
    answer = yaml.safe_load(error.body)
    return str(answer["message"])
