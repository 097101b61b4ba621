"""One pod: its address, its containers, its status, its end."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import aiohttp

from local.node.access import REFRESH_AFTER, TOKEN_SECONDS, ServiceAccountAccess, mounts_token
from local.node.api import CONFLICT, NOT_FOUND, ApiError, Object
from local.node.container import ContainerRunner
from local.node.context import NodeContext
from local.node.events import Events
from local.node.states import Terminated, Waiting, timestamp
from local.node.status import pod_status
from local.node.volumes import Volumes

PROCESS = "local.starforge.dev/process"
TRY_AGAIN = 1.0
TOGETHER = 0.03
"""Seconds in which changes are gathered into one write."""


class PodRunner:
    def __init__(self, node: NodeContext, pod: Object) -> None:
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        metadata, spec = pod["metadata"], pod["spec"]
        self._node = node
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._folder = node.run_dir / "pods" / self.uid
        self._ip = node.addresses.node if spec.get("hostNetwork") else node.addresses.take()
        known = pod.get("status") or {}
        self._started_at = known.get("startTime") or timestamp()
        self._written: dict[str, Any] = {}
        self._previous: Object = known
        self._changed = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._deleting = False
        self._gone = asyncio.Event()
        self._initialized = False
        self._finished = False
        self._events = Events(node.api, pod, node.name)
        self._access = ServiceAccountAccess(node.api, pod, self._folder)
        self._volumes = Volumes(pod, self._folder, pod_ip=self._ip, host_ip=node.addresses.node)
        policy = spec.get("restartPolicy") or "Always"
        until_done = "Never" if policy == "Never" else "OnFailure"
        self._init = [
            self._runner(c, c.get("restartPolicy") or until_done, sidecar="restartPolicy" in c)
            for c in spec.get("initContainers") or ()
        ]
        self._containers = [self._runner(c, policy) for c in spec["containers"]]

    @property
    def containers(self) -> Iterable[ContainerRunner]:
        return (*self._init, *self._containers)

    async def run(self) -> None:
        """Until the pod is gone from the API."""
        self._folder.mkdir(parents=True, exist_ok=True)
        helpers = [asyncio.create_task(self._publish_changes())]
        if any(mounts_token(self.pod, c.spec) for c in self.containers):
            helpers.append(asyncio.create_task(self._refresh_token()))
        try:
            if not self._deleting:
                await self._run_containers()
            self._changed.set()
            await self._gone.wait()
        finally:
            for helper in helpers:
                helper.cancel()
            for container in self.containers:
                container.kill_now()
            await asyncio.gather(*helpers, return_exceptions=True)
            self._node.addresses.give_back(self._ip)
            shutil.rmtree(self._folder, ignore_errors=True)

    def observe(self, pod: Object) -> None:
        """A newer version of the object: only its deletion is news to us."""
        self.pod = pod
        if "deletionTimestamp" in pod["metadata"] and not self._deleting:
            self._deleting = True
            grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            self._node.keep(asyncio.create_task(self._end(grace)))

    def vanished(self) -> None:
        """Deleted by force: nobody waits for us any more."""
        for container in self.containers:
            container.kill_now()
        self._gone.set()

    async def _run_containers(self) -> None:
        if (self.pod["metadata"].get("annotations") or {}).get(PROCESS) == "none":
            self._initialized = True
            for container in self._containers:
                container.pretend()
            return
        sidecars: list[tuple[ContainerRunner, asyncio.Task[None]]] = []
        for container in self._init:
            for waiting in self._containers:
                waiting.state = Waiting("PodInitializing")
            if container.sidecar:
                sidecars.append((container, asyncio.create_task(container.run())))
                await container.first_started.wait()
                continue
            await container.run()
            state = container.state
            if not isinstance(state, Terminated) or state.exit_code != 0:
                self._finished = not self._deleting
                return
        self._initialized = True
        async with asyncio.TaskGroup() as group:
            for container in self._containers:
                group.create_task(container.run())
        grace = float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))
        for container, task in reversed(sidecars):
            await container.stop(grace)
            await task
        self._finished = not self._deleting

    async def _end(self, grace: float) -> None:
        async with asyncio.TaskGroup() as group:
            for container in self.containers:
                group.create_task(container.stop(grace))
        await self._until_done(self._publish)
        await self._until_done(self._remove)
        self._gone.set()

    async def _remove(self) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.uid},
        }
        try:
            await self._node.api.delete(self._path, body)
        except ApiError as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise

    async def _until_done(self, request: Callable[[], Awaitable[None]]) -> None:
        """An API server that is away for a while must not leave a pod in limbo."""
        while not self._gone.is_set():
            try:
                return await request()
            except (ApiError, aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(TRY_AGAIN)
        return None

    async def _publish_changes(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(TOGETHER)
            self._changed.clear()
            await self._until_done(self._publish)

    async def _publish(self) -> None:
        async with self._publishing:  # two at once could arrive in the wrong order
            await self._publish_now()

    async def _publish_now(self) -> None:
        status = pod_status(
            self.pod,
            self._init,
            self._containers,
            initialized=self._initialized,
            finished=self._finished,
            pod_ip=self._ip,
            host_ip=self._node.addresses.node,
            started_at=self._started_at,
            previous=self._previous,
        )
        if status == self._written:
            return
        try:
            await self._node.api.patch(
                f"{self._path}/status", {"metadata": {"uid": self.uid}, "status": status}
            )
        except ApiError as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise
        self._written = self._previous = status

    async def _refresh_token(self) -> None:
        while True:
            await asyncio.sleep(TOKEN_SECONDS * REFRESH_AFTER)
            await self._access.write()

    def _runner(self, spec: Object, restart: str, *, sidecar: bool = False) -> ContainerRunner:
        known = (self.pod.get("status") or {}).get("containerStatuses") or ()
        before = next((c for c in known if c["name"] == spec["name"]), None)
        # After a restart of the node its pods are started again, and that counts.
        restarts = before["restartCount"] + 1 if before and before.get("containerID") else 0
        return ContainerRunner(
            self._node,
            self.pod,
            spec,
            folder=self._folder,
            pod_ip=self._ip,
            volumes=self._volumes,
            access=self._access,
            restart=restart,
            sidecar=sidecar,
            restarts=restarts,
            changed=self._changed.set,
            event=lambda kind, reason, text: self._node.keep(
                asyncio.create_task(self._events.emit(spec["name"], kind, reason, text))
            ),
        )
