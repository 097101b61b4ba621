"""A pod's own way into the API: its ServiceAccount's token, and nothing of ours."""

from __future__ import annotations

from pathlib import Path

from local.kubeconfig import write_kubeconfig
from local.node.api import Api, Object

TOKEN_SECONDS = 24 * 3600
"""Longer than a kubelet asks for: many clients read a kubeconfig once and never again."""

REFRESH_AFTER = 0.8
"""Of a token's life, as the kubelet does."""


class ServiceAccountAccess:
    def __init__(self, api: Api, pod: Object, folder: Path) -> None:
        self._api = api
        self._pod = pod
        self.kubeconfig = folder / "kubeconfig"

    async def issue(self, audience: str | None = None, seconds: int = TOKEN_SECONDS) -> str:
        metadata = self._pod["metadata"]
        account = self._pod["spec"].get("serviceAccountName") or "default"
        bound = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": bound,
            },
        }
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        answer = await self._api.create(path, body)
        return str(answer["status"]["token"])

    async def write(self) -> None:
        token = await self.issue()
        write_kubeconfig(
            self.kubeconfig,
            server=self._api.access.server,
            authority=self._api.access.authority.encode(),
            user={"token": token},
            namespace=self._pod["metadata"]["namespace"],
        )


def mounts_token(pod: Object, container: Object) -> bool:
    """The API server has decided already, from `automountServiceAccountToken` of pod and account.

    It shows as a mount of a volume that carries the token.
    """
    carriers = {
        volume["name"]
        for volume in pod["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if "serviceAccountToken" in source
    }
    return any(mount["name"] in carriers for mount in container.get("volumeMounts") or ())
