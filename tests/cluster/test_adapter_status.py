"""The writer of status on a real API server with the real CRD."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.cluster.support import Requests, apply, connected, policy
from tests.unit.test_status_bound import filled

from local.cluster import LocalCluster
from local.errors import LocalError
from starforge_backlog.api.bounds import MOST_MEMORY_BYTES, MOST_STATUS_BYTES
from starforge_backlog.api.fitting import fitted, size
from starforge_backlog.api.status import (
    MOST_PAUSES,
    Baseline,
    PausedBy,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    QueueStatus,
    ScalingStatus,
    Step,
)
from starforge_backlog.cluster.client import POLICIES, ClusterClient, Json
from starforge_backlog.cluster.status import Edition, StatusWriter, WriteOutcome

pytestmark = pytest.mark.cluster
NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)


@dataclass
class Adapter:
    """A policy and a writer of its status."""

    client: ClusterClient
    requests: Requests
    writer: StatusWriter
    namespace: str

    async def body(self) -> Json:
        return await self.client.get(POLICIES, self.namespace, "etl")

    async def read(self) -> QueueBacklogPolicyStatus:
        """What stands there, but for the time of the pass, which the writer adds."""
        found = self.writer.current(await self.body())
        return found.model_copy(update={"last_pass_time": None})

    async def write(self, status: QueueBacklogPolicyStatus) -> WriteOutcome:
        uid = (await self.body())["metadata"]["uid"]
        return (await self.writer.write(self.namespace, "etl", uid, status)).outcome


@pytest.fixture
async def adapter(cluster: LocalCluster, namespace: str, crd: None) -> AsyncIterator[Adapter]:
    apply(cluster, namespace, policy())
    async with connected(cluster.kubeconfig) as (client, requests):
        yield Adapter(client, requests, StatusWriter(client), namespace)


def everything() -> QueueBacklogPolicyStatus:
    """A status with something in every corner that a schema could prune or rewrite."""
    step = Step(
        from_=2,
        to=4,
        message="backlog 5,200 ≥ 500",
        at=NOW,
        before=Baseline(waiting_jobs=5200, completion_rate=2.0, failure_percent=0.1234567890123),
    )
    return QueueBacklogPolicyStatus(
        summary="waiting: 5,200",
        queues=(QueueStatus(name="jobs", waiting="≥5200", types={"etl.sync": "~12"}),),
        scaling=ScalingStatus(
            replicas=4, applied_replicas=4, last_step=step, throughput_per_replica=3.0
        ),
        paused=(
            PauseStatus(
                producer="ingestion",
                by=PausedBy.US,
                state=PauseState.HELD,
                since=NOW,
                token="t",
                previous='{"a": null}',
                locator={"table": "feature_flags"},
            ),
        ),
    )


async def test_what_is_written_comes_back_and_is_not_written_twice(adapter: Adapter) -> None:
    await adapter.read()
    assert await adapter.write(everything()) is WriteOutcome.WRITTEN
    assert await adapter.read() == everything()
    before = len(adapter.requests.made)
    uid = (await adapter.body())["metadata"]["uid"]
    for _ in range(3):
        written = await adapter.writer.write(adapter.namespace, "etl", uid, everything())
        assert written.outcome is WriteOutcome.UNCHANGED
    assert adapter.requests.since(before) == [
        ("get", "queuebacklogpolicies", "200")
    ]  # our own read


def largest() -> QueueBacklogPolicyStatus:
    """As much memory as is ever remembered, and hostile text in every field that is shown."""
    status = filled(QueueBacklogPolicyStatus, "<\x00é𝔘" * 20_000)
    assert isinstance(status, QueueBacklogPolicyStatus)
    each = "m" * (MOST_MEMORY_BYTES // MOST_PAUSES - 200)
    return status.model_copy(
        update={
            # What the CRD itself holds: the status of a condition is one of three.
            "conditions": tuple(
                condition.model_copy(update={"status": "True"}) for condition in status.conditions
            ),
            "paused": tuple(
                entry.model_copy(update={"by": PausedBy.US, "previous": each})
                for entry in status.paused
            ),
        }
    )


async def test_the_api_server_takes_the_largest_status_beside_large_annotations(
    adapter: Adapter,
) -> None:
    note = {"metadata": {"annotations": {"note": "x" * 250_000}}}
    await adapter.client.patch(POLICIES, adapter.namespace, "etl", note)
    await adapter.read()
    assert MOST_STATUS_BYTES * 0.5 < size(fitted(largest())) <= MOST_STATUS_BYTES
    assert await adapter.write(largest()) is WriteOutcome.WRITTEN
    assert [entry.previous for entry in (await adapter.read()).paused] == [
        entry.previous for entry in largest().paused
    ]
    assert await adapter.write(largest()) is WriteOutcome.UNCHANGED


async def test_a_second_operator_is_noticed(
    adapter: Adapter, caplog: pytest.LogCaptureFixture
) -> None:
    """Two replicas by mistake; a write is refused where the other one's is newer."""
    moments = [NOW + timedelta(seconds=n) for n in range(10)]
    ours = Adapter(
        adapter.client,
        adapter.requests,
        StatusWriter(adapter.client, clock=lambda: moments.pop(0)),
        adapter.namespace,
    )
    theirs = replace(ours, writer=StatusWriter(adapter.client, clock=lambda: moments.pop(0)))
    await ours.read()
    assert await ours.write(everything()) is WriteOutcome.WRITTEN
    await theirs.read()
    assert await theirs.write(QueueBacklogPolicyStatus(summary="b")) is WriteOutcome.WRITTEN
    assert await ours.write(QueueBacklogPolicyStatus(summary="c")) is WriteOutcome.CONFLICT
    assert "another operator" not in caplog.text
    assert await ours.write(QueueBacklogPolicyStatus(summary="c")) is WriteOutcome.WRITTEN
    assert "another operator wrote the status of" in caplog.text


async def test_a_restarted_operator_writes_nothing_either(adapter: Adapter) -> None:
    await adapter.read()
    await adapter.write(everything())
    adapter.writer = StatusWriter(adapter.client)
    await adapter.read()
    version = (await adapter.body())["metadata"]["resourceVersion"]
    assert await adapter.write(everything()) is WriteOutcome.UNCHANGED
    assert (await adapter.body())["metadata"]["resourceVersion"] == version


async def test_removed_keys_are_removed(adapter: Adapter) -> None:
    await adapter.read()
    await adapter.write(everything())
    assert await adapter.write(QueueBacklogPolicyStatus(summary="calm")) is WriteOutcome.WRITTEN
    status = (await adapter.body())["status"]
    assert "lastStep" not in status["scaling"]
    assert status["paused"] == []
    assert await adapter.read() == QueueBacklogPolicyStatus(summary="calm")


async def test_an_edit_of_the_spec_in_between_is_no_conflict(
    cluster: LocalCluster, adapter: Adapter
) -> None:
    await adapter.read()
    patch = '{"spec": {"suspend": true}}'
    cluster.kubectl("patch", "-n", adapter.namespace, "qbp/etl", "--type=merge", "-p", patch)
    before = len(adapter.requests.made)
    assert await adapter.write(everything()) is WriteOutcome.WRITTEN
    outcomes = [(verb, outcome) for verb, _, outcome in adapter.requests.since(before)]
    assert ("patch", "409") in outcomes
    assert outcomes[-1] == ("patch", "200")
    body = await adapter.body()
    assert body["spec"]["suspend"] is True
    assert body["status"]["summary"] == "waiting: 5,200"


@pytest.mark.parametrize(
    "edit",
    [
        ["annotate", "qbp/etl", "backlog.starforge.dev/hold=wait"],
        ["patch", "qbp/etl", "--type=merge", "-p", '{"spec": {"suspend": true}}'],
    ],
    ids=["held", "suspended"],
)
@pytest.mark.parametrize("seen_by_us", [False, True])
async def test_an_intent_is_void_once_the_policy_was_edited(
    adapter: Adapter, cluster: LocalCluster, edit: list[str], seen_by_us: bool
) -> None:
    decided_from = await adapter.body()
    adapter.writer.current(decided_from)
    cluster.kubectl("-n", adapter.namespace, *edit)
    if seen_by_us:  # an earlier write of ours moved on to the edited version already
        await adapter.write(QueueBacklogPolicyStatus(summary="of the pass before"))
    meta = decided_from["metadata"]
    written = await adapter.writer.write(
        adapter.namespace, "etl", meta["uid"], everything(), only_for=Edition.of(meta)
    )
    assert written.outcome is WriteOutcome.CONFLICT
    assert "edited during the pass" in written.message
    assert (await adapter.read()).paused == ()


async def test_another_leader_wins_once(adapter: Adapter) -> None:
    await adapter.read()
    other = StatusWriter(adapter.client)
    other.current(await adapter.body())
    uid = (await adapter.body())["metadata"]["uid"]
    theirs = QueueBacklogPolicyStatus(summary="theirs")
    await other.write(adapter.namespace, "etl", uid, theirs)
    assert await adapter.write(everything()) is WriteOutcome.CONFLICT
    assert (await adapter.read()).summary == "theirs"
    assert await adapter.write(everything()) is WriteOutcome.WRITTEN


async def test_a_status_that_a_person_edited_is_read_leniently(
    cluster: LocalCluster, adapter: Adapter
) -> None:
    await adapter.read()
    await adapter.write(everything())
    # as far as the schema lets one go: times that are none, and a pause that names nobody
    patch = (
        '[{"op": "replace", "path": "/status/scaling/lastStep/at", "value": "noon"},'
        ' {"op": "add", "path": "/status/cause", "value": "because"}]'
    )
    refused = try_patch(cluster, adapter.namespace, patch)
    found = await adapter.read()
    assert found.summary == "waiting: 5,200"
    assert found.paused == everything().paused
    if not refused:
        assert found.cause == "because"
        assert found.scaling.last_step is None
    assert await adapter.write(everything()) in {WriteOutcome.WRITTEN, WriteOutcome.UNCHANGED}
    assert await adapter.read() == everything()


def try_patch(cluster: LocalCluster, namespace: str, patch: str) -> bool:
    """Whether the API server refused it."""
    try:
        cluster.kubectl(
            *("patch", "-n", namespace, "qbp/etl", "--subresource=status", "--type=json"),
            *("-p", patch),
        )
    except LocalError as error:  # the schema may know what a time is
        if "nvalid" not in str(error):
            raise
        return True
    return False


async def test_a_deleted_and_a_new_policy_of_the_name_are_gone(
    cluster: LocalCluster, adapter: Adapter
) -> None:
    uid = (await adapter.body())["metadata"]["uid"]
    await adapter.read()
    cluster.kubectl("delete", "-n", adapter.namespace, "qbp/etl")

    async def write() -> Any:
        return (await adapter.writer.write(adapter.namespace, "etl", uid, everything())).outcome

    assert await write() is WriteOutcome.GONE
    apply(cluster, adapter.namespace, policy())
    assert await write() is WriteOutcome.GONE
    assert not (await adapter.body()).get("status", {}).get("summary")
