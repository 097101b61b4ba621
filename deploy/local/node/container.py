"""One container from its first start to its last end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from local.node.access import ServiceAccountAccess
from local.node.api import ApiError, Object
from local.node.backoff import BackOff
from local.node.configuration import NotConfiguredError
from local.node.context import NodeContext
from local.node.execution import exit_code, run_briefly
from local.node.images import find_image
from local.node.probes import Probe, Surroundings
from local.node.program import BadEnvironmentError, Program, resolve_program
from local.node.quantity import quantity
from local.node.states import Running, State, Terminated, Waiting, timestamp
from local.node.volumes import Volumes
from local.processes import Child, spawn

READ_AGAIN = 1.0
"""Seconds until a missing ConfigMap or Secret is searched for again."""

KILLED = 128 + signal.SIGKILL
CANNOT_RUN = 128


class ContainerRunner:
    def __init__(
        self,
        node: NodeContext,
        pod: Object,
        spec: Object,
        *,
        folder: Path,
        pod_ip: str,
        volumes: Volumes,
        access: ServiceAccountAccess,
        restart: str,
        sidecar: bool,
        restarts: int,
        changed: Callable[[], None],
        event: Callable[[str, str, str], None],
    ) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.state: State = Waiting("ContainerCreating")
        self.last: Terminated | None = None
        self.restarts = restarts
        self.ready = False
        self.started = False
        self.log = node.run_dir / "pods" / _log_name(pod, spec)
        self.log_starts: list[int] = []
        """Where each run begins in the log, newest last."""
        self.memory_limit = _memory_limit(spec)
        self._node = node
        self._pod = pod
        self._folder = folder
        self._pod_ip = pod_ip
        self._volumes = volumes
        self._access = access
        self._restart = restart
        self._changed = changed
        self._event = event
        self._backoff = BackOff(node.restart_backoff)
        self.sidecar = sidecar
        """An init container that runs beside the others and does not decide how the pod ends."""
        self.first_started = asyncio.Event()
        """Set when it has started once, or never will."""
        self._stop_asked = asyncio.Event()
        self._ended = asyncio.Event()
        self.container_id = ""
        """`local://<pid>` of the newest run: for tests that kill it."""
        self._child: Child | None = None
        self._program: Program | None = None
        self._out_of_memory = False

    @property
    def process_group(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def image_name(self) -> str:
        return str(self.spec.get("image") or "")

    async def run(self) -> None:
        """Returns when the container will not be started again."""
        try:
            await self._run_again_and_again()
        finally:
            self.first_started.set()

    async def _run_again_and_again(self) -> None:
        while True:
            program = await self._prepared()
            if program is None or self._stop_asked.is_set():
                return
            began = time.monotonic()
            code = await self._run_once(program)
            if self._stop_asked.is_set() or not self._restart_after(code):
                return
            wait = self._backoff.after_run_of(time.monotonic() - began)
            if wait:
                pod = self._pod["metadata"]
                message = (
                    f"back-off {wait:g}s restarting failed container={self.name} "
                    f"pod={pod['name']}_{pod['namespace']}({pod['uid']})"
                )
                self._become(Waiting("CrashLoopBackOff", message))
                self._event("Warning", "BackOff", message)
                if await self._asked_to_stop_within(wait):
                    return

    async def stop(self, grace: float) -> None:
        """SIGTERM, the grace period, SIGKILL; and no restart."""
        self._stop_asked.set()
        await self._terminate(grace)

    def kill_now(self) -> None:
        """For the end of the node itself, when nobody waits for grace."""
        self._stop_asked.set()
        if self._child:
            self._child.signal_group(signal.SIGKILL)

    def kill_for_memory(self) -> None:
        if self._child:
            self._out_of_memory = True
            self._child.signal_group(signal.SIGKILL)

    def pretend(self) -> None:
        """Running and ready without a process."""
        self.ready = self.started = True
        self.container_id = "local://none"
        self._become(Running(timestamp()))

    async def _prepared(self) -> Program | None:
        image = find_image(self.image_name, self._node.images)
        if image is None:
            known = ", ".join(sorted(self._node.images))
            message = f'no program is known here for image "{self.image_name}"; known: {known}'
            self._become(Waiting("ErrImagePull", message))
            self._event("Warning", "Failed", message)
            if not await self._asked_to_stop_within(READ_AGAIN):
                self._become(Waiting("ImagePullBackOff", message))
                await self._stop_asked.wait()
            return None
        while not self._stop_asked.is_set():
            try:
                return await resolve_program(
                    self._node,
                    self._pod,
                    self.spec,
                    image,
                    folder=self._folder,
                    pod_ip=self._pod_ip,
                    volumes=self._volumes,
                    access=self._access,
                )
            except (NotConfiguredError, ApiError, OSError) as error:
                kind = "ContainerCreating"
                if isinstance(error, BadEnvironmentError):
                    kind = "CreateContainerConfigError"
                self._become(Waiting(kind, str(error)))
                self._event("Warning", "Failed", str(error))
            await self._asked_to_stop_within(READ_AGAIN)
        return None

    async def _run_once(self, program: Program) -> int:
        if self.last is not None:
            self.restarts += 1  # with the new container, as its state appears
        self._ended.clear()
        self._out_of_memory = False
        self.log_starts.append(self.log.stat().st_size if self.log.exists() else 0)
        self._program = program
        began = timestamp()
        try:
            around = program.around
            self._child = spawn(
                self.name, program.argv, log=self.log, env=around.env, cwd=around.cwd
            )
        except OSError as error:
            self.last = Terminated(CANNOT_RUN, "ContainerCannotRun", began, began, str(error))
            self._become(self.last)
            return CANNOT_RUN
        self.container_id = f"local://{self._child.pid}"
        try:
            code = await self._watched(self._child, program.around, began)
            self.last = self._ending(code, began)
            self.ready = self.started = False
            self._become(self.last)
            return code
        finally:
            self._child = None
            self._ended.set()

    async def _watched(self, child: Child, around: Surroundings, began: str) -> int:
        self.started = "startupProbe" not in self.spec
        self.ready = self.started and "readinessProbe" not in self.spec
        if self.started:
            self.first_started.set()
        self._become(Running(began))
        probing = asyncio.create_task(self._probe(around))
        try:
            return await exit_code(child)
        finally:
            # A container ends with its first process, and takes all others with it.
            child.signal_group(signal.SIGKILL)
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)

    def _ending(self, code: int, began: str) -> Terminated:
        if self._out_of_memory and code == KILLED:
            return Terminated(code, "OOMKilled", began, timestamp())
        return Terminated(code, "Completed" if code == 0 else "Error", began, timestamp())

    async def _probe(self, around: Surroundings) -> None:
        """The startup probe first; the others start when it has passed."""
        if spec := self.spec.get("startupProbe"):
            passed = asyncio.Event()
            startup = asyncio.create_task(
                Probe(spec, self._node.probing).watch(
                    around, passed=passed.set, failed=self._unhealthy("Startup")
                )
            )
            try:
                await passed.wait()
            finally:
                startup.cancel()
            self.started = True
            self.first_started.set()
            self.ready = "readinessProbe" not in self.spec
            self._changed()
        async with asyncio.TaskGroup() as group:
            if spec := self.spec.get("livenessProbe"):
                watch = Probe(spec, self._node.probing).watch(
                    around, passed=lambda: None, failed=self._unhealthy("Liveness")
                )
                group.create_task(watch)
            if spec := self.spec.get("readinessProbe"):
                watch = Probe(spec, self._node.probing).watch(
                    around, passed=lambda: self._set_ready(True), failed=self._not_ready
                )
                group.create_task(watch)

    def _set_ready(self, ready: bool) -> None:
        if self.ready != ready:
            self.ready = ready
            self._changed()

    async def _not_ready(self, problem: str) -> None:
        self._event("Warning", "Unhealthy", f"Readiness probe failed: {problem}")
        self._set_ready(False)

    def _unhealthy(self, kind: str) -> Callable[[str], Awaitable[None]]:
        async def restart(problem: str) -> None:
            self._event("Warning", "Unhealthy", f"{kind} probe failed: {problem}")
            message = f"Container {self.name} failed {kind.lower()} probe, will be restarted"
            self._event("Normal", "Killing", message)
            grace = float(self._pod["spec"].get("terminationGracePeriodSeconds", 30))
            # A task of its own: this one is cancelled as soon as the container has ended.
            self._node.keep(asyncio.create_task(self._terminate(grace)))

        return restart

    async def _terminate(self, grace: float) -> None:
        child, program = self._child, self._program
        if child is None or program is None:
            return
        try:
            async with asyncio.timeout(grace):
                await self._before_stop(program)
                if self._child is child:
                    # Only its first process, as a container runtime does.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGTERM)
                    await self._ended.wait()
        except TimeoutError:
            if self._child is child:
                child.signal_group(signal.SIGKILL)
                await self._ended.wait()

    async def _before_stop(self, program: Program) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("preStop") or {}
        if sleep := hook.get("sleep"):
            await asyncio.sleep(float(sleep["seconds"]))
        elif command := hook.get("exec"):
            around = program.around
            argv = [around.rewrite(part) for part in command["command"]]
            await run_briefly(argv, env=around.env, cwd=around.cwd, within=3600)
        elif http := hook.get("httpGet"):
            await Probe({"httpGet": http}, self._node.probing).check(program.around)

    def _restart_after(self, code: int) -> bool:
        return self._restart == "Always" or (self._restart == "OnFailure" and code != 0)

    async def _asked_to_stop_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_asked.wait()
        return self._stop_asked.is_set()

    def _become(self, state: State) -> None:
        self.state = state
        self._changed()


def _memory_limit(spec: Object) -> int | None:
    limits = (spec.get("resources") or {}).get("limits") or {}
    return int(quantity(str(limits["memory"]))) if "memory" in limits else None


def _log_name(pod: Object, spec: Object) -> str:
    metadata = pod["metadata"]
    return f"{metadata['namespace']}_{metadata['name']}_{spec['name']}.log"
