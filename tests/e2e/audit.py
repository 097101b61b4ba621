"""What the operator asked of the API server, from the API server's own audit log.

The operator's metrics are its own account; this one it cannot write.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml
from tests.e2e.growing import GrowingFile

ARRIVED: Final = "RequestReceived"  # the stage before anything is done about a request
WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request and its answer."""

    verb: str
    group: str
    resource: str  # with its subresource: deployments/scale
    namespace: str
    name: str
    code: int  # 0: not answered yet
    path: str
    replicas: int | None  # of a write of the scale subresource
    text: str  # of writes of a scale or a status
    at: str  # when it came

    @property
    def time(self) -> datetime:
        """When it came."""
        return datetime.fromisoformat(self.at)

    @property
    def writes(self) -> bool:
        return self.verb in WRITES

    @property
    def right(self) -> tuple[str, str, str]:
        """What RBAC has to grant for it."""
        return self.group, self.resource, self.verb


# A step is sent when its intent is stored, which takes moments that differ: two that were decided
# 2 s apart came 1.96 s apart, and seconds on a machine that stands still. One that was not observed
# comes with the next pass, after 1 to 2 s: what is observed here is observed for longer.
UNDER_WAY: Final = timedelta(seconds=3)


def observed(writes: Iterable[Request], seconds: float, late: timedelta = UNDER_WAY) -> bool:
    """Whether each came so long after the one before (P3). `late`: how much longer than the later
    one an earlier one may have been under way."""
    least = timedelta(seconds=seconds) - late
    return all(after.time - before.time >= least for before, after in pairwise(writes))


def policy(user: str) -> str:
    """Only this user; of writes of `replicas` the number as well, and when they arrive."""
    scales = {"group": "apps", "resources": ["deployments/scale", "statefulsets/scale"]}
    statuses = {"group": "backlog.starforge.dev", "resources": ["queuebacklogpolicies/status"]}
    answered = {"omitStages": [ARRIVED]}
    rules: list[dict[str, Any]] = [
        {"level": "Request", "users": [user], "resources": [scales]},
        {"level": "Request", "users": [user], "resources": [statuses], **answered},
        {"level": "Metadata", "users": [user], **answered},
        {"level": "None"},
    ]
    return yaml.safe_dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules})


class AuditLog:
    """Grows while the API server runs. A request is in it before its answer is sent."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._requests = GrowingFile(file, _request)

    @classmethod
    def configure(cls, folder: Path, user: str) -> tuple[AuditLog, tuple[str, ...]]:
        """The log, and the flags that make the API server write it."""
        rules, log = folder / "audit-policy.yaml", cls(folder / "audit.log")
        rules.write_text(policy(user), "utf-8")
        return log, (f"--audit-policy-file={rules}", f"--audit-log-path={log.file}")

    def mark(self) -> int:
        """Here and now."""
        return self._requests.size()

    def since(self, mark: int = 0, *, namespace: str | None = None) -> list[Request]:
        """All requests that were answered after a mark, of one namespace if given."""
        found = self._requests.since(mark)
        return [r for r in found if r.code and namespace in {None, r.namespace}]

    def arrived(self, mark: int, *, namespace: str) -> list[Request]:
        """Writes of replicas that reached the API server after a mark, answered or not."""
        found = self._requests.since(mark)
        return [r for r in found if r.namespace == namespace and r.resource.endswith("/scale")]


def _request(line: bytes) -> Request:
    event = json.loads(line)
    what = event.get("objectRef") or {}
    sub = what.get("subresource")
    body = event.get("requestObject") or {}
    scale = body if isinstance(body, dict) else {}
    return Request(
        verb=event["verb"],
        group=what.get("apiGroup", ""),
        resource=what.get("resource", "") + (f"/{sub}" if sub else ""),
        namespace=what.get("namespace", ""),
        name=what.get("name", ""),
        code=0 if event["stage"] == ARRIVED else event["responseStatus"]["code"],
        path=event["requestURI"],
        replicas=(scale.get("spec") or {}).get("replicas"),
        text=json.dumps(body) if body else "",
        at=event["requestReceivedTimestamp"],
    )
