"""A guarded object is watched: whoever writes its maximum back is noticed at once (P1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from tests.cluster.keda import Json, autoscaler
from tests.cluster.support import apply, connected, until

from local.cluster import LocalCluster
from starforge_backlog.api.policy import Guard
from starforge_backlog.cluster.autoscalers_write import MaximumWriter
from starforge_backlog.cluster.client import MOST_WATCHES, ClusterClient, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.cluster.guard_watch import APART_SECONDS, GuardWatches, WatchPacing
from starforge_backlog.snapshot import Why

GUARD = Guard.model_validate({"horizontalPodAutoscaler": "hpa"})
SOON = WatchPacing(retry_first=timedelta(milliseconds=10), retry_most=timedelta(milliseconds=10))
# No pass comes by itself here: whatever rings the bell is the watch.
RINGS_WITHIN = 60.0


class Bell:
    """Counts how often a pass was started."""

    def __init__(self) -> None:
        self.rung = 0

    def __call__(self) -> None:
        self.rung += 1


@asynccontextmanager
async def watching(
    cluster: LocalCluster, namespace: str, bell: Bell
) -> AsyncIterator[tuple[GuardWatches, ClusterClient]]:
    async with connected(cluster.kubeconfig) as (client, requests):
        watches = GuardWatches(client, SOON)
        watches.keep("uid-1", namespace, GUARD, bell)

        async def begun() -> bool | None:
            return True if any(verb == "watch" for verb, _, _ in requests.made) else None

        try:
            await until(begun, "the watch")
            yield watches, client
        finally:
            await watches.close()


async def rings(bell: Bell, before: int) -> None:
    async def poll() -> bool | None:
        return True if bell.rung > before else None

    await until(poll, "a pass", RINGS_WITHIN)


def write(cluster: LocalCluster, namespace: str, maximum: int) -> None:
    patch = f'{{"spec": {{"maxReplicas": {maximum}}}}}'
    cluster.kubectl("patch", "-n", namespace, "hpa/hpa", "-p", patch)


@pytest.mark.cluster
async def test_what_others_do_to_it_starts_a_pass_and_what_we_do_does_not(
    cluster: LocalCluster, namespace: str
) -> None:
    apply(cluster, namespace, autoscaler())
    bell = Bell()
    async with watching(cluster, namespace, bell) as (_, client):
        assert bell.rung == 0, "what it finds is no news: the pass reads it"
        write(cluster, namespace, 15)
        await rings(bell, 0)

        found = await client.get(Resource("autoscaling", "v2", HPAS), namespace, "hpa")
        done = await MaximumWriter(client).write(
            namespace,
            "HorizontalPodAutoscaler",
            "hpa",
            seen=15,
            to=4,
            previous=15,
            implicit=False,
            token="uid-1/hpa/x",
            version=found["metadata"]["resourceVersion"],
        )
        cluster.kubectl("annotate", "-n", namespace, "hpa/hpa", "somebody=else")
        # Both changes are behind us once the next one rings.
        before = bell.rung
        write(cluster, namespace, 16)
        await rings(bell, before)
        assert (done.__class__.__name__, bell.rung) == ("MaximumResult", before + 1)


@pytest.mark.cluster
async def test_one_that_is_deleted_and_made_again_starts_a_pass_each_time(
    cluster: LocalCluster, namespace: str
) -> None:
    bell = Bell()
    async with watching(cluster, namespace, bell):
        apply(cluster, namespace, autoscaler())
        await rings(bell, 0)
        cluster.kubectl("delete", "-n", namespace, "hpa/hpa")
        await rings(bell, 1)
        apply(cluster, namespace, autoscaler())
        await rings(bell, 2)


@pytest.mark.cluster
async def test_a_watch_without_the_right_is_asked_for_again_and_ends_nothing(
    cluster: LocalCluster, namespace: str
) -> None:
    """Its policy goes on reading; the right that comes later counts."""
    apply(cluster, namespace, autoscaler())
    async with connected(cluster.kubeconfig) as (client, _):
        refusing = Refusing(client, times=3)
        watches, bell = GuardWatches(refusing, SOON), Bell()
        watches.keep("uid-1", namespace, GUARD, bell)

        async def followed() -> bool | None:
            return True if refusing.followed else None

        await until(followed, "the watch that works")
        write(cluster, namespace, 7)
        await rings(bell, 0)
        await watches.close()


HPAS = "horizontalpodautoscalers"


class Refusing:
    """A client whose first watches end in various ways."""

    def __init__(self, client: ClusterClient, times: int) -> None:
        self._client = client
        self._left = times
        self.followed = False

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        return dict(await self._client.get(resource, namespace, name))

    async def watch(self, resource: Resource, namespace: str, name: str) -> AsyncIterator[Json]:
        self._left -= 1
        if self._left == 2:
            raise ClusterFault(FaultKind.FORBIDDEN, Why.NO_PERMISSION, "may not watch")
        if self._left == 1:
            raise AssertionError("a bug of ours")
        if self._left == 0:
            yield {"type": "ADDED", "object": {"no": "object"}}  # nothing that we understand
        async for event in self._client.watch(resource, namespace, name):
            self.followed = True
            yield dict(event)


class Still:
    """A client whose watches show nothing, and count how many are open."""

    def __init__(self) -> None:
        self.open = 0
        self.shows = asyncio.Queue[Json]()

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        raise ClusterFault(FaultKind.NOT_FOUND, Why.ERROR, "is not there")

    async def watch(self, resource: Resource, namespace: str, name: str) -> AsyncIterator[Json]:
        self.open += 1
        try:
            while True:
                yield await self.shows.get()
        finally:
            self.open -= 1


async def settled(client: Still, count: int) -> None:
    async def poll() -> bool | None:
        return True if client.open == count else None

    await until(poll, f"{count} watches")


async def test_one_watch_for_all_policies_that_name_it_until_none_does() -> None:
    client, bell = Still(), Bell()
    watches = GuardWatches(client, SOON)
    for policy in ("uid-1", "uid-2"):
        watches.keep(policy, "ns", GUARD, bell)
    await settled(client, 1)
    watches.keep("uid-1", "ns", None, bell)
    watches.keep("uid-2", "ns", Guard.model_validate({"scaledObject": "so"}), bell)
    assert len(watches) == 1
    await settled(client, 1)
    watches.release("uid-2")
    watches.release("uid-2")
    await settled(client, 0)
    assert len(watches) == 0


async def test_more_watches_than_that_are_not_opened() -> None:
    client, bell = Still(), Bell()
    watches = GuardWatches(client, SOON)
    for number in range(MOST_WATCHES + 3):
        watches.keep(f"uid-{number}", f"ns-{number}", GUARD, bell)
    await settled(client, MOST_WATCHES)
    watches.release("uid-0")
    watches.keep("uid-65", "ns-65", GUARD, bell)
    await settled(client, MOST_WATCHES)
    await watches.close()
    assert client.open == 0


async def test_a_watch_that_ended_is_opened_again_with_the_next_pass() -> None:
    client, bell = Still(), Bell()
    watches = GuardWatches(client, SOON)
    watches.keep("uid-1", "ns", GUARD, bell)
    await settled(client, 1)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()  # a cancellation that went astray
    await settled(client, 0)
    watches.keep("uid-1", "ns", GUARD, bell)
    await settled(client, 1)
    await watches.close()


async def test_who_writes_without_end_does_not_start_passes_without_end() -> None:
    client, bell = Still(), Bell()
    watches = GuardWatches(client, SOON)
    watches.keep("uid-1", "ns", GUARD, bell)
    await settled(client, 1)
    began = asyncio.get_running_loop().time()
    for number in range(300):
        meta = {"name": "hpa", "uid": f"hpa-{number}", "resourceVersion": "1"}
        event = {"type": "ADDED", "object": {**autoscaler(maximum=number + 1), "metadata": meta}}
        await client.shows.put(event)
    await rings(bell, 0)
    await rings(bell, 1)
    lasted = asyncio.get_running_loop().time() - began
    assert bell.rung <= 2 + lasted / APART_SECONDS
    await watches.close()
