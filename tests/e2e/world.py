"""What one test has for itself: a namespace with a target and policies, and a database."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tests.e2e.api import APPS, CORE, EVENTS, POLICIES, Api, Json, Refused
from tests.e2e.audit import Request
from tests.e2e.place import STARTS_WITHIN, Place
from tests.e2e.store import Store

from local.errors import LocalError
from local.postgres import PostgresServer
from local.waiting import eventually
from starforge_backlog.api.memory import together

T = TypeVar("T")

SECRET: Final = "starforge-db"
KEY: Final = "DATABASE_URL"
TARGET: Final = "etl-worker"

INTERVAL: Final = 2.0  # seconds, the shortest that the API allows
# Several passes and an observation, on a machine that is busy with others. A wait ends when its
# condition holds, so only a test that fails takes this long.
WITHIN: Final = 300.0

# Ten polls a second of six stories kept the API server busier than the operator did.
POLL_EVERY: Final = 0.25

CONFLICT: Final = 409

# A policy with every time as short as it may be.
SPEC: Final[Json] = {
    "interval": "2s",
    "target": {"name": TARGET},
    "database": {"url": {"secretKeyRef": {"name": SECRET, "key": KEY}}},
    "queues": [
        {
            "name": "jobs",
            "postgres": {},
            "objectives": {"waiting": 10, "oldestAge": "1h", "for": "1s"},
        }
    ],
    "scaling": {
        "stepUp": 1,
        "observeFor": "2s",
        "scaleDownAfter": "1h",
        "drainWithin": "10s",
        "yieldFor": "4s",
    },
}
PRODUCERS: Final[list[Json]] = [{"name": "ingestion", "featureFlag": {}}]
# Opens above 50 waiting jobs, probes below 25.
BREAKERS: Final[list[Json]] = [
    {
        "name": "ingestion",
        "pause": ["ingestion"],
        "trip": [{"waiting": 50, "for": "1s"}],
        "recover": {"belowPercent": 50, "for": "1s", "probeFor": "4s"},
    }
]
TRIPS: Final = 60  # jobs that open it


@dataclass
class World:
    """Names of policies default to `etl`."""

    place: Place
    namespace: str
    store: Store
    log_begins: int
    audit_begins: int
    _policies: list[str] = field(default_factory=list)

    @classmethod
    def create(cls, place: Place, server: PostgresServer) -> World:
        namespace = f"e2e-{secrets.token_hex(4)}"
        place.api.create_namespace(namespace)
        begin = (place.log_mark(), place.audit.mark())
        world = cls(place, namespace, Store.create(server), *begin)
        store = world.store
        world.write_secret({KEY: store.url(), "WORKER_URL": store.url(store.worker)})
        return world

    def close(self) -> None:
        """Policies first: what they hold is released, or abandoned where that is impossible."""
        for name in self._policies:
            self.annotate(name, release="abandon", gone_is_fine=True)
            self.delete(name, gone_is_fine=True)
        for name in self._policies:
            self.until_gone(name)
        self.api.leave_namespace(self.namespace)
        self.store.drop()

    @property
    def api(self) -> Api:
        return self.place.api

    def until(
        self,
        poll: Callable[[], T | None],
        what: str,
        within: float = WITHIN,
        *,
        every: float = POLL_EVERY,
    ) -> T:
        """The first truthy answer; without one, the error says what the policies said."""
        try:
            return eventually(poll, within=within, what=what, every=every)
        except LocalError as error:
            for name in self._policies:
                with contextlib.suppress(Refused):
                    error.add_note(f"{name}: {json.dumps(self.status(name), indent=1)}")
            raise

    # --- what people apply ---------------------------------------------------------------------

    def write_secret(self, values: Mapping[str, str], name: str = SECRET) -> None:
        encoded = {k: base64.b64encode(v.encode()).decode() for k, v in values.items()}
        path = f"{CORE}/namespaces/{self.namespace}/secrets"
        try:
            self.api.patch(f"{path}/{name}", {"data": encoded})
        except Refused as refused:
            if refused.status != 404:
                raise
            self.api.create(path, {"metadata": {"name": name}, "data": encoded})

    def deploy(
        self,
        name: str = TARGET,
        *,
        replicas: int = 1,
        env: Mapping[str, str] | None = None,
        strategy: Json | None = None,
    ) -> None:
        """A target whose pods become Ready without a process."""
        variables = {"PG_POOL_MAX": "1"} if env is None else env
        secret = {"secretKeyRef": {"name": SECRET, "key": "WORKER_URL"}}
        container = {
            "name": "worker",
            "image": "none",
            "env": [
                {"name": "DATABASE_URL", "valueFrom": secret},
                *({"name": k, "value": v} for k, v in variables.items()),
            ],
        }
        labels = {"app": name}
        rolling = {"maxSurge": 1, "maxUnavailable": 0}
        self.api.create(
            f"{APPS}/namespaces/{self.namespace}/deployments",
            {
                "metadata": {"name": name},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": labels},
                    "strategy": strategy or {"type": "RollingUpdate", "rollingUpdate": rolling},
                    "template": {
                        "metadata": {
                            "labels": labels,
                            "annotations": {"local.starforge.dev/process": "none"},
                        },
                        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
                    },
                },
            },
        )

    def apply(self, name: str = "etl", **parts: object) -> None:
        """Create a policy, or change the given parts of its spec."""
        path = f"{POLICIES}/namespaces/{self.namespace}/queuebacklogpolicies"
        if name in self._policies:
            self.api.patch(f"{path}/{name}", {"spec": parts})
            return
        self._policies.append(name)
        body = {
            "apiVersion": "backlog.starforge.dev/v1alpha1",
            "kind": "QueueBacklogPolicy",
            "metadata": {"name": name},
            "spec": {**SPEC, **parts},
        }
        self.api.create(path, body)

    def apply_breaker(self, name: str = "etl", **parts: object) -> None:
        """With a producer and the breaker that pauses it."""
        self.apply(name, producers=PRODUCERS, breakers=BREAKERS, **parts)

    def annotate(
        self, name: str = "etl", *, gone_is_fine: bool = False, **values: str | None
    ) -> None:
        notes = {f"backlog.starforge.dev/{key}": value for key, value in values.items()}
        try:
            self.api.patch(self._path(name), {"metadata": {"annotations": notes}})
        except Refused as refused:
            if refused.status != 404 or not gone_is_fine:
                raise

    def delete(self, name: str = "etl", *, gone_is_fine: bool = False) -> None:
        try:
            self.api.delete(self._path(name))
        except Refused as refused:
            if refused.status != 404 or not gone_is_fine:
                raise

    def scale(self, replicas: int, name: str = TARGET) -> None:
        """As a person does."""
        self.place.cluster.kubectl(
            *("scale", f"deployment/{name}", f"--replicas={replicas}", "-n", self.namespace)
        )

    def roomy(self) -> Json:
        """`spec.database` for a small server: little headroom."""
        return {**SPEC["database"], "headroom": 2}

    # --- what people read -------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{POLICIES}/namespaces/{self.namespace}/queuebacklogpolicies/{name}"

    def policy(self, name: str = "etl") -> Json:
        return self.api.get(self._path(name))

    def status(self, name: str = "etl") -> Json:
        """With what `status.memory` has of each part."""
        return together(self.policy(name).get("status") or {})

    def forget_memory(self, name: str = "etl") -> None:
        """Somebody clears it."""
        self.api.patch(f"{self._path(name)}/status", {"status": {"memory": None}})

    def condition(self, kind: str, name: str = "etl") -> Json:
        """LookupError before the first pass."""
        found = {c["type"]: c for c in self.status(name).get("conditions", ())}
        condition: Json = found[kind]
        return condition

    def breaker(self, name: str = "etl") -> str:
        """State of the first breaker."""
        return str(self.status(name)["breakers"][0]["state"])

    def pause(self, name: str = "etl") -> Json:
        """The only entry of a paused producer; LookupError without one."""
        return next(iter(self.status(name).get("paused", ())), {}) or _nothing()

    def target(self, name: str = TARGET) -> Json:
        return self.api.get(f"{APPS}/namespaces/{self.namespace}/deployments/{name}")

    def replicas(self, name: str = TARGET) -> int:
        return int(self.target(name)["spec"]["replicas"])

    def events(self, name: str = "etl") -> list[Json]:
        """Of a policy, oldest first."""
        found = self.api.items(f"{EVENTS}/namespaces/{self.namespace}/events")
        ours = [e for e in found if e["regarding"].get("name") == name]
        return sorted(ours, key=lambda event: str(event["eventTime"]))

    def reasons(self, name: str = "etl") -> list[str]:
        return [str(event["reason"]) for event in self.events(name)]

    def events_of(self, reason: str, name: str = "etl") -> list[Json]:
        return [event for event in self.events(name) if event["reason"] == reason]

    def until_reported(self, *reasons: str) -> None:
        """Until each has its Event: they are posted one after another, behind the status."""
        self.until(lambda: set(reasons) <= set(self.reasons()), f"Events {', '.join(reasons)}")

    def log(self) -> list[Json]:
        """The operator's lines about this world."""
        return [
            line
            for line in self.place.log(self.log_begins)
            if str(line.get("policy", "")).startswith(f"{self.namespace}/")
        ]

    def tracebacks(self) -> list[Json]:
        """Lines that say that the operator itself failed."""
        return [line for line in self.log() if "exception" in line]

    def passes(self, name: str = "etl") -> list[Json]:
        """The log lines of a policy's passes, one for each."""
        key = f"{self.namespace}/{name}"
        return [line for line in self.log() if line["policy"] == key and "status" in line]

    def scale_writes(self) -> list[Request]:
        """What the operator did to replicas in this namespace, as the API server saw it. A write
        that lost against a pod's becoming Ready (409) did nothing, and is sent again at once."""
        requests = self.place.audit.since(self.audit_begins, namespace=self.namespace)
        scales = [request for request in requests if request.resource.endswith("/scale")]
        return [request for request in scales if request.code != CONFLICT]

    # --- waiting -------------------------------------------------------------------------------

    def until_condition(
        self, kind: str, reason: str, *, name: str = "etl", within: float = WITHIN
    ) -> Json:
        """Wait until a condition has that reason."""

        def poll() -> Json | None:
            found = self.condition(kind, name)
            return found if found["reason"] == reason else None

        return self.until(poll, f"{kind} of {name} is {reason}", within)

    def until_not_known(self, kind: str, *, name: str = "etl") -> Json:
        """Wait until a condition is Unknown, whichever reading is the first that is missing."""

        def poll() -> Json | None:
            found = self.condition(kind, name)
            return found if found["status"] == "Unknown" else None

        return self.until(poll, f"{kind} of {name} is not known")

    def until_ready(self, name: str = "etl") -> None:
        """Everything the policy names can be read, also by the last pass."""
        self.until_condition("Ready", "AllReadable", name=name, within=STARTS_WITHIN)

    def until_passes(self, more: int, name: str = "etl") -> list[Json]:
        """Wait for so many more passes; returns their log lines."""
        before = len(self.passes(name))

        def poll() -> list[Json] | None:
            fresh = self.passes(name)[before:]
            return fresh if len(fresh) >= more else None

        return self.until(poll, f"{more} passes of {name}", WITHIN + more * INTERVAL)

    def until_gone(self, name: str = "etl", within: float = WITHIN) -> None:
        def poll() -> bool:
            try:
                self.policy(name)
            except Refused as refused:
                return refused.status == 404
            return False

        self.until(poll, f"policy {name} is gone", within)


def _nothing() -> Any:
    raise LookupError("nothing is paused")
