"""The process: its services, its port, and what it keeps of each policy between two passes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog

from starforge_backlog.api.memory import MEMORY
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.cluster.client import POLICIES, Json
from starforge_backlog.cluster.credentials import Credentials
from starforge_backlog.cluster.errors import ClusterFault
from starforge_backlog.cluster.finalizer import holds
from starforge_backlog.cluster.lenient import parse_status
from starforge_backlog.cluster.served import Served, served
from starforge_backlog.context import Services
from starforge_backlog.finalizer import RELEASE_RETRY_SECONDS, NotReleased, finalize
from starforge_backlog.namespaces import read_namespaces
from starforge_backlog.report.health import HealthServer
from starforge_backlog.report.metrics import PolicyKey
from starforge_backlog.settings import Settings
from starforge_backlog.stranded import Stranded

# How often an API server that is not there yet is asked: the first pass is due 3 s after it is.
START_RETRY_SECONDS = 0.5
# A resource that has just appeared is asked for once more after this time.
SETTLE_SECONDS = 1.0
# How often namespaces that could not be followed at the start are checked again.
LEFT_OUT_AGAIN_SECONDS = 60.0
# Policies that are released side by side: one whose database hangs takes seconds.
RELEASES_AT_ONCE = 16
_NOT_SERVED = {
    Served.NO: "its CRD is not installed; apply crds/, or set the chart value crds.install=true",
    Served.TERMINATING: "its CRD is being deleted; policies are released, and none is followed"
    " until the CRD is deleted and installed again",
}
# Names are resolved in the event loop's own threads. Python's six on two cores would all be taken
# by six Redis servers or webhooks whose names hang, and the healthy ones would wait for them.
RESOLVERS = 64

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _PerPolicy:
    key: str = ""  # namespace/name, once the watch has shown it
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    last_seen: object = None  # spec and annotations: the same after our own status write


class Process:
    """Handed to every handler as `memo`; one per process."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        """`left_out`: listed namespaces that cannot be followed, with the reason."""
        # Set: the process has to be started again, to follow another set of namespaces.
        self.again = asyncio.Event()
        self._left_out = left_out or {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.stranded = Stranded(lambda uid: self.policy(uid)[1], self._keep)
        self._settings = settings
        self._environ = environ
        self._policies: dict[str, _PerPolicy] = {}
        self._services: Services | None = None
        self._server: HealthServer | None = None

    def __copy__(self) -> Process:
        """The framework copies `memo` for each object; ours is shared on purpose."""
        return self

    @property
    def services(self) -> Services:
        """The services; handlers run only after `start`."""
        assert self._services is not None, "the framework runs `start` before any handler"
        return self._services

    @property
    def credentials(self) -> Credentials:
        """How we log in to the API server."""
        return self.services.client.credentials

    @property
    def namespaced(self) -> bool:
        """Whether only listed namespaces are watched."""
        return bool(self._settings.namespaces)

    @property
    def namespaces(self) -> int:
        """How many are listed: each is a watch of its own."""
        return len(self._settings.namespaces)

    async def start(self) -> None:
        """Open the port and the client, and count the policies that exist (P1)."""
        threads = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolver")
        asyncio.get_running_loop().set_default_executor(threads)
        services = self._services = await Services.open(self._environ, self._settings.pod_name)
        self._server = HealthServer(services.health, services.metrics.render)
        port = await self._server.start(self._settings.listen_host, self._settings.listen_port)
        _log.info("serving /healthz, /readyz and /metrics", port=port)
        await self._until_served()
        await self._expect_policies()
        if self._left_out:
            self._keep(self._until_readable())

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside everything else, for as long as we run."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_readable(self) -> None:
        """Namespaces that could not be followed at the start: said, and checked now and then."""
        for namespace, why in self._left_out.items():
            _log.warning(
                "namespace not followed",
                namespace=namespace,
                reason=f"{why}. If it was deleted, or is listed no more, release what its policies"
                " hold with the rights of an admin: python -m starforge_backlog release"
                f" --namespace {namespace}",
            )
        while True:
            await asyncio.sleep(LEFT_OUT_AGAIN_SECONDS)
            found = await read_namespaces(self.services.client, self._left_out)
            if found.followed:
                back = ", ".join(found.followed)
                _log.info("ends, to be started again: can be read now", namespaces=back)
                self.again.set()
                return

    async def _until_served(self) -> None:
        """Wait for an API server that is up and serves the resource: the framework checks once.

        While the CRD is terminating, its policies are released here. The framework serves no
        resource in that state, so that after a restart nobody else would do it.
        """
        reported, waited = "", False
        while True:
            pause = START_RETRY_SECONDS
            try:
                now = await served(self.services.client)
                self.services.health.api_reached()
                if now is Served.YES and not waited:
                    return
                # Other replicas of the API server learn of a new CRD a moment later.
                waited = now is not Served.YES
                reason = _NOT_SERVED.get(now, "")
                if now is Served.TERMINATING and not await self._release_terminating():
                    pause = RELEASE_RETRY_SECONDS
                elif not waited:
                    pause = SETTLE_SECONDS
            except ClusterFault as fault:
                reason = fault.message
            if reason and reason != reported:
                _log.warning("waiting for the API server", reason=reason)
            reported = reason
            await asyncio.sleep(pause)

    async def _release_terminating(self) -> bool:
        """Release the policies that are being deleted. False: some could not be, and say so."""
        going = [
            body
            for namespace in self._settings.namespaces or (None,)
            async for body in self.services.client.pages(POLICIES, namespace)
            if body["metadata"].get("deletionTimestamp") and holds(body)
        ]
        together = asyncio.Semaphore(RELEASES_AT_ONCE)

        async def one(body: Json) -> bool:
            meta = body["metadata"]
            key = f"{meta['namespace']}/{meta['name']}"
            async with together:
                try:
                    done = await finalize(self.services, body)
                except (NotReleased, ClusterFault) as fault:
                    _log.warning("not released", policy=key, reason=str(fault))
                    return False
            self.forget(body)
            _log.info("; ".join(("policy deleted with its CRD", *done)), policy=key)
            return True

        return all(await asyncio.gather(*(one(body) for body in going)))

    async def _expect_policies(self) -> None:
        """What each policy that exists holds counts from the start, as its status says; and of
        those that name one target the oldest must be known before any acts.

        Waits for an API server that is not up yet, or does not know our resource yet.
        """
        reported = ""
        while True:
            try:
                for namespace in self._settings.namespaces or (None,):
                    async for body in self.services.client.pages(POLICIES, namespace):
                        meta = body["metadata"]
                        key = f"{meta['namespace']}/{meta['name']}"
                        self.services.ledger.expect(key, _memory_of(body))
                        self.services.targets.expect(body)
            except ClusterFault as fault:
                if fault.message != reported:
                    _log.warning("waiting for the API server", reason=fault.message)
                reported = fault.message
                await asyncio.sleep(START_RETRY_SECONDS)
            else:
                break
        self.services.health.api_reached()
        self.services.health.policies_listed()

    async def close(self) -> None:
        """Close in reverse."""
        if self._server is not None:
            await self._server.close()
        if self._services is not None:
            await self._services.close()

    def policy(self, uid: str) -> tuple[asyncio.Event, asyncio.Lock]:
        """The bell that starts a pass at once, and the turn that one pass has at a time."""
        kept = self._policies.setdefault(uid, _PerPolicy())
        return kept.wake, kept.turn

    def seen(self, uid: str, key: str, event: Mapping[str, Any]) -> None:
        """The watch shows a policy: ring its bell when something a person writes has changed."""
        body = event["object"]
        if event.get("type") == "DELETED":
            self.forget(body)  # also one that went before we could put our finalizer on it
            return
        written = (body.get("spec"), body["metadata"].get("annotations"))
        kept = self._policies.setdefault(uid, _PerPolicy())
        kept.key = key
        self.services.targets.note(body)
        if body["metadata"].get("deletionTimestamp"):
            # It has no passes any more, so nobody may wait for its first one.
            self.services.ledger.drop(key)
        elif kept.last_seen is None:
            self.services.ledger.expect(key, _memory_of(body))
        if kept.last_seen is not None and kept.last_seen != written:
            kept.wake.set()
        kept.last_seen = written

    def forget(self, body: Mapping[str, Any]) -> None:
        """The policy is gone, and with it everything that was kept of it."""
        meta, services = body["metadata"], self.services
        uid, namespace, name = meta["uid"], meta["namespace"], meta["name"]
        key = f"{namespace}/{name}"
        self._policies.pop(uid, None)
        services.statuses.forget(uid)
        services.events.forget(uid)
        services.guards.release(uid)
        services.health.policy_gone(uid)
        for waiting in services.targets.drop(uid):
            self.policy(waiting)[0].set()  # its target is free: it need not wait for its interval
        if any(kept.key == key for kept in self._policies.values()):
            return  # created again meanwhile: what is kept by name is the new one's
        services.ledger.drop(key)
        services.databases.release(key)
        services.prometheus.release(key)
        services.poolers.release(key)
        services.redis.release(key)
        services.metrics.forget(PolicyKey(namespace, name))


def _memory_of(body: Mapping[str, Any]) -> QueueBacklogPolicyStatus:
    """The part of a status that says what the policy's pods hold."""
    status = body.get("status")
    if not isinstance(status, Mapping):
        return QueueBacklogPolicyStatus()
    parts = ("budget", "scaling", MEMORY)
    return parse_status({name: status[name] for name in parts if name in status})[0]
