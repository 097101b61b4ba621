"""The API server as a test sees it: cluster admin, JSON in and out, one pool of connections.

`kubectl` is used where a test is about what people type; a process of it for each poll of a
waiting loop would cost more than the operator itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import urllib3

from local.controlplane import ControlPlane
from local.errors import LocalError

Json = dict[str, Any]

MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json"
CORE: Final = "/api/v1"
APPS: Final = "/apis/apps/v1"
POLICIES: Final = "/apis/backlog.starforge.dev/v1alpha1"
EVENTS: Final = "/apis/events.k8s.io/v1"

# What keeps processes or controllers busy for as long as it exists.
BUSY: Final = (
    *(f"{APPS}/namespaces/%s/{plural}" for plural in ("deployments", "statefulsets")),
    *(f"/apis/batch/v1/namespaces/%s/{plural}" for plural in ("cronjobs", "jobs")),
    "/apis/autoscaling/v2/namespaces/%s/horizontalpodautoscalers",
    f"{CORE}/namespaces/%s/pods",
)


class Refused(LocalError):
    """The API server said no; `eventually` counts it as "not yet"."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class Api:
    """Requests as cluster admin."""

    url: str
    pool: urllib3.PoolManager

    @classmethod
    def admin(cls, plane: ControlPlane) -> Api:
        pair = plane.authority.issue("test", groups=("system:masters",))
        pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=8,
            cert_file=str(pair.certificate),
            key_file=str(pair.key),
            ca_certs=str(plane.authority.certificate_file),
            timeout=urllib3.Timeout(60),
            retries=False,
        )
        return cls(plane.url, pool)

    def close(self) -> None:
        self.pool.clear()

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content: str = JSON,
        query: Mapping[str, str] | None = None,
    ) -> Json:
        url = f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        answer = self.pool.request(method, url, body=data, headers={"Content-Type": content})
        got: Json = json.loads(answer.data)
        if not 200 <= answer.status < 300:
            raise Refused(answer.status, str(got.get("message")))
        return got

    def get(self, path: str, **query: str) -> Json:
        return self.send("GET", path, query=query)

    def items(self, path: str, **query: str) -> list[Json]:
        found: list[Json] = self.get(path, **query)["items"]
        return found

    def create(self, path: str, body: Json) -> Json:
        return self.send("POST", path, body)

    def patch(self, path: str, body: object, *, content: str = MERGE) -> Json:
        return self.send("PATCH", path, body, content=content)

    def delete(self, path: str) -> None:
        self.send("DELETE", path)

    def create_namespace(self, name: str) -> None:
        self.create(f"{CORE}/namespaces", {"metadata": {"name": name}})

    def leave_namespace(self, name: str) -> None:
        """End what runs there. The namespace ends with the cluster: to delete one, its controller
        asks for each kind of object there is, which takes half a second of CPU."""
        for path in BUSY:
            self.send("DELETE", path % name, {"propagationPolicy": "Background"})
