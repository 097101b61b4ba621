"""Real connections for pods without a process: each pod has a pool that fills and empties.

A pod of the chaos run carries a finalizer, so that it stays (as a pod that is about to end) until
its connections are closed, as a process does that takes its time to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from tests.e2e.api import CORE, Api, Json, Refused

FINALIZER: Final = "bench.starforge.dev/drain"
POLL_SECONDS: Final = 0.4
# A pod opens or closes so many connections per poll at most: pools fill while work comes.
OPENED_AT_ONCE: Final = 2
# A pod that has to stop keeps its connections for so long: between a quick one and one that
# finishes its job first.
STOPS_WITHIN_SECONDS: Final = (0.5, 6.0)
# Per poll of a pod: how often its pool shrinks by one instead of filling up.
SHRINKS: Final = 0.15


@dataclass(frozen=True)
class Crew:
    """What the pods of one target are like."""

    url: str
    pool: int
    kind: str  # job type that they work on
    speed: float  # jobs per second of one pod


@dataclass
class _Pod:
    crew: Crew
    open: list[AsyncConnection[Any]] = field(default_factory=list)
    stopping_until: float | None = None


class Fleet:
    """Between `start` and `stop`, in a thread of its own."""

    def __init__(self, api: Api, namespace: str, crews: Mapping[str, Crew], seed: int) -> None:
        self._api = api
        self._pods_path = f"{CORE}/namespaces/{namespace}/pods"
        self._crews = crews
        self._random = random.Random(seed)
        self._pods: dict[str, _Pod] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="fleet")
        self.refused: Counter[str] = Counter()  # by SQLSTATE and message
        self.opened = 0
        self.finished = 0
        self.pods_seen: set[str] = set()
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(60)

    async def _run(self) -> None:
        try:
            while not self._over.is_set():
                await self._poll()
                await asyncio.sleep(POLL_SECONDS)
        except BaseException as error:
            self.failure = error
            raise
        finally:
            for pod in self._pods.values():
                await self._close(pod, 0)

    async def _poll(self) -> None:
        found = await asyncio.to_thread(self._api.items, self._pods_path)
        there = {str(pod["metadata"]["name"]): pod for pod in found}
        for name in [name for name in self._pods if name not in there]:
            await self._close(self._pods.pop(name), 0)
        await asyncio.gather(*(self._tend(name, pod) for name, pod in there.items()))

    async def _tend(self, name: str, body: Json) -> None:
        meta = body["metadata"]
        crew = self._crews.get(str(meta["labels"].get("app")))
        if crew is None:
            return
        pod = self._pods.setdefault(name, _Pod(crew))
        self.pods_seen.add(name)
        if meta.get("deletionTimestamp"):
            await self._end(name, pod)
        elif _ready(body):
            await self._work(pod)

    async def _work(self, pod: _Pod) -> None:
        if pod.open and self._random.random() < SHRINKS:
            await self._close(pod, len(pod.open) - 1)
        else:
            for _ in range(min(OPENED_AT_ONCE, pod.crew.pool - len(pod.open))):
                await self._open(pod)
        await self._finish_jobs(pod)

    async def _end(self, name: str, pod: _Pod) -> None:
        now = asyncio.get_running_loop().time()
        if pod.stopping_until is None:
            pod.stopping_until = now + self._random.uniform(*STOPS_WITHIN_SECONDS)
        if now < pod.stopping_until:
            return
        await self._close(pod, 0)
        with contextlib.suppress(Refused):
            patch = {"metadata": {"finalizers": None}}
            await asyncio.to_thread(self._api.patch, f"{self._pods_path}/{name}", patch)

    async def _open(self, pod: _Pod) -> None:
        try:
            connection = await AsyncConnection.connect(
                pod.crew.url, autocommit=True, connect_timeout=5
            )
        except psycopg.Error as error:
            self.refused[str(error).strip().splitlines()[-1]] += 1
            return
        self.opened += 1
        pod.open.append(connection)

    async def _finish_jobs(self, pod: _Pod) -> None:
        if not pod.open:
            return
        number = pod.crew.speed * POLL_SECONDS
        whole = int(number) + (self._random.random() < number % 1)
        if not whole:
            return
        try:
            done = await pod.open[0].execute(FINISH, (pod.crew.kind, whole))
            self.finished += done.rowcount
        except psycopg.Error:
            await self._close(pod, 0)  # a connection that broke: the next poll opens another one

    async def _close(self, pod: _Pod, keep: int) -> None:
        while len(pod.open) > keep:
            with contextlib.suppress(psycopg.Error):
                await pod.open.pop().close()


FINISH: Final = """
    UPDATE queue_jobs SET status = 'done', updated_at = now() WHERE id IN
      (SELECT id FROM queue_jobs WHERE type = %s AND status = 'pending'
       ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED)"""


def _ready(body: Json) -> bool:
    conditions = (body.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
