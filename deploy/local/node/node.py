"""Registers the Node and gives each Pod bound to it a runner: one watch for all of them."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

import aiohttp

from local.node.addresses import Addresses
from local.node.api import CONFLICT, GONE, Access, Api, ApiError, Object
from local.node.container import ContainerRunner
from local.node.context import NodeContext
from local.node.images import DEFAULT_IMAGES, LocalImage
from local.node.logs import serve_logs
from local.node.memory import enforce_limits
from local.node.pod import PodRunner
from local.node.states import timestamp
from local.progress import say
from local.tools import KUBERNETES

CAPACITY = {"cpu": "1000", "memory": "1Ti", "pods": "10000", "ephemeral-storage": "1Ti"}
"""Large: what limits the pods of a test is this machine, not the scheduler's arithmetic."""

OVER = ("Succeeded", "Failed")


class LocalNode:
    def __init__(
        self,
        kubeconfig: Path,
        run_dir: Path,
        *,
        name: str = "local",
        images: Mapping[str, LocalImage] = DEFAULT_IMAGES,
        restart_backoff: float = 10.0,
        run: str | None = None,
    ) -> None:
        self.name = name
        self._kubeconfig = kubeconfig
        self._run_dir = run_dir
        self._images = images
        self._restart_backoff = restart_backoff
        self._run = run or str(run_dir)
        self._pods: dict[str, PodRunner] = {}

    async def run(self) -> None:
        """Until cancelled; then every process of every pod is killed."""
        addresses = Addresses.claim()
        async with (
            Api(Access.read(self._kubeconfig)) as api,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as probing,
        ):
            context = NodeContext(
                name=self.name,
                api=api,
                addresses=addresses,
                images=self._images,
                run_dir=self._run_dir,
                run=self._run,
                probing=probing,
                capacity=CAPACITY,
                restart_backoff=self._restart_backoff,
            )
            try:
                async with asyncio.TaskGroup() as group:
                    await serve_logs(group, context, self._containers_of)
                    await self._register(api, addresses)
                    group.create_task(enforce_limits(self._containers))
                    group.create_task(self._follow_pods(context))
            finally:
                for container in self._containers():
                    container.kill_now()
                await context.cancel_all()
                addresses.listener.close()

    def _containers(self) -> Iterator[ContainerRunner]:
        for pod in list(self._pods.values()):
            yield from pod.containers

    def _containers_of(self, namespace: str, name: str) -> Iterator[ContainerRunner]:
        for pod in self._pods.values():
            metadata = pod.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                yield from pod.containers

    async def _register(self, api: Api, addresses: Addresses) -> None:
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": {"x86_64": "amd64"}.get(platform.machine(), "arm64"),
        }
        node: Object = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
        }
        try:
            await api.create("/api/v1/nodes", node)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
        # An API server with the TaintNodesByCondition admission taints every new node.
        await api.patch(f"/api/v1/nodes/{self.name}", {"spec": {"taints": None}})
        now = timestamp()
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "LocalNodeReady",
            "message": "pods run as processes of this machine",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        status = {
            "capacity": CAPACITY,
            "allocatable": CAPACITY,
            "conditions": [ready],
            "addresses": [
                {"type": "InternalIP", "address": addresses.node},
                {"type": "Hostname", "address": self.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": addresses.port}},
            "nodeInfo": _node_info(),
        }
        await api.patch(f"/api/v1/nodes/{self.name}/status", {"status": status})

    async def _follow_pods(self, context: NodeContext) -> None:
        """No Lease is kept: nobody here evicts pods from a node that is late."""
        query = {"fieldSelector": f"spec.nodeName={self.name}"}
        while True:
            try:
                listed = await context.api.get("/api/v1/pods", **query)
                present = {pod["metadata"]["uid"] for pod in listed["items"]}
                for uid in set(self._pods) - present:
                    self._pods[uid].vanished()
                for pod in listed["items"]:
                    self._observe(context, pod)
                version = listed["metadata"]["resourceVersion"]
                while True:
                    version = await self._watch(context, query, version)
            except ApiError as error:
                if error.status != GONE:
                    say(f"node {self.name}: {error}; listing pods again")
            except (aiohttp.ClientError, TimeoutError) as error:
                say(f"node {self.name}: the API server does not answer ({error})")
            await asyncio.sleep(0.5)

    async def _watch(self, context: NodeContext, query: Mapping[str, str], version: str) -> str:
        async for kind, pod in context.api.watch("/api/v1/pods", resourceVersion=version, **query):
            version = pod["metadata"]["resourceVersion"]
            if kind == "DELETED":
                runner = self._pods.get(pod["metadata"]["uid"])
                if runner:
                    runner.vanished()
            elif kind != "BOOKMARK":
                self._observe(context, pod)
        return version

    def _observe(self, context: NodeContext, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._pods:
            over = (pod.get("status") or {}).get("phase") in OVER
            if over and "deletionTimestamp" not in pod["metadata"]:
                return
            self._pods[uid] = PodRunner(context, pod)
            context.keep(asyncio.create_task(self._run_pod(self._pods[uid])))
        self._pods[uid].observe(pod)

    async def _run_pod(self, runner: PodRunner) -> None:
        name = runner.pod["metadata"]["name"]
        try:
            await runner.run()
        except Exception as error:  # noqa: BLE001 - one pod must not take the others with it
            say(f"node {self.name}: pod {name} failed: {error!r}")
        finally:
            self._pods.pop(runner.uid, None)


def _node_info() -> Mapping[str, str]:
    return {
        "architecture": {"x86_64": "amd64"}.get(platform.machine(), "arm64"),
        "bootID": "local",
        "containerRuntimeVersion": "local://processes",
        "kernelVersion": platform.release(),
        "kubeProxyVersion": "",
        "kubeletVersion": KUBERNETES,
        "machineID": "local",
        "operatingSystem": "linux",
        "osImage": platform.platform(),
        "systemUUID": "local",
    }
