"""The real BullMQ in a Node.js process: queues, workers, failures, kills."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from tests.node.bull import VERSIONS, Bull, BullError, Connection, Version
from tests.node.handles import Behaviour, BullQueue

from local import nodejs
from local.certificates import Authority
from local.errors import LocalError
from local.processes import wait_until
from local.redis import ALL_SLOTS, RedisServer
from local.redis_failover import MASTER_NAME, RedisFailover

pytestmark = [pytest.mark.node, pytest.mark.redis]


def wait_for(queue: BullQueue, within: float = 60, **wanted: int) -> None:
    def reached() -> bool:
        counts = queue.counts()
        return all(counts.get(state) == number for state, number in wanted.items())

    wait_until(reached, timeout=within, what=f"{queue.name} with {wanted}")


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_end_as_their_options_say(bull: Bull, redis_url: str, version: Version) -> None:
    queue = bull.queue(redis_url, "etl", version=version)
    queue.add_bulk(40, {"import": 3, "poison": 1}, pad=100, attempts=2)
    assert queue.counts("wait") in ({"wait": 40}, {"waiting": 40})
    worker = queue.worker(Behaviour(ms=2, fail={"poison": "out of memory"}), concurrency=8)
    wait_for(queue, completed=30, failed=10)
    runs = worker.ran()
    assert len(runs) == 30 + 2 * 10
    (failed,) = {run["name"] for run in runs if run["outcome"] == "failed"}
    assert failed == "poison"
    (one,) = queue.call("getFailed", 0, 0)
    assert one["failedReason"] == "out of memory"
    assert one["data"]["pad"] == "x" * 100
    assert queue.call_job(one["id"], "getState") == "failed"
    worker.stop()
    assert not worker.errors()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_paused_queue_keeps_its_jobs(bull: Bull, redis_url: str, version: Version) -> None:
    queue = bull.queue(redis_url, "etl", version=version)
    queue.pause()
    queue.worker(concurrency=2)
    job = queue.add("import", {"n": 1})
    assert queue.call("isPaused") is True
    assert queue.job(job)["data"] == {"n": 1}
    queue.resume()
    wait_for(queue, completed=1)
    queue.obliterate()
    assert queue.counts("completed") == {"completed": 0}


@pytest.mark.parametrize("version", [5, 6])
def test_flows_schedulers_and_a_global_limit(bull: Bull, redis_url: str, version: Version) -> None:
    queue = bull.queue(redis_url, "etl", version=version)
    queue.set_concurrency(1)
    ids = queue.flow(
        {
            "name": "parent",
            "queueName": "etl",
            "children": [{"name": "child", "queueName": "etl", "data": {"ms": 5}}] * 3,
        }
    )
    assert len(ids["children"]) == 3
    worker = queue.worker(concurrency=5)
    wait_for(queue, completed=4)
    runs = worker.ran()
    assert all(a["end"] <= b["start"] for a, b in pairwise(runs))
    queue.set_concurrency(None)
    queue.upsert_scheduler("nightly", {"every": 3_600_000}, {"name": "report"})
    assert queue.call("getJobSchedulersCount") == 1


def test_a_killed_worker_leaves_its_jobs_locked(redis_url: str, tmp_path: Path) -> None:
    with Bull.start(tmp_path, name="doomed") as doomed, Bull.start(tmp_path) as bull:
        queue = bull.queue(redis_url, "etl")
        job = queue.add("import", {"hang": True})
        mine = Behaviour(ledger="ledger")
        # The first to check for stalled jobs sets the time of the next check for all.
        quick = {"lockDuration": 4000, "stalledInterval": 2000}
        worker = doomed.queue(redis_url, "etl").worker(mine, **quick)
        wait_for(queue, active=1)
        doomed.kill()
        assert not doomed.running
        with pytest.raises(BullError, match="has ended"):
            worker.ran()
        assert queue.counts("active") == {"active": 1}
        other = queue.worker(mine, **quick)
        wait_until(lambda: len(other.ran()) == 1, timeout=60, what="the stalled job's second run")
        assert other.ran()[0]["id"] == job


async def test_it_can_be_asked_from_a_coroutine(bull: Bull, redis_url: str) -> None:
    queue = bull.queue(redis_url, "etl")
    job = await bull.ask("add", queue=queue.handle, name="import", data={}, opts={})
    assert job == "1"
    with pytest.raises(BullError, match="no operation"):
        await bull.ask("juggle")


def test_tls_and_a_cluster(bull: Bull, tmp_path: Path) -> None:
    tls = Authority(tmp_path / "ca").server_tls("redis")
    server = RedisServer.start(tmp_path, tls=tls)
    cluster = RedisServer.start(tmp_path, name="redis-cluster", slots=ALL_SLOTS)
    try:
        secure = Connection(authority=tls.authority)
        sliced = Connection(cluster=True)
        for queue in (
            bull.queue(server.url(), "etl", connection=secure),
            bull.queue(cluster.url(), "etl", prefix="{bull}", connection=sliced),
        ):
            worker = queue.worker()
            queue.add("import")
            wait_for(queue, completed=1)
            worker.stop()
            queue.close()
    finally:
        server.close()
        cluster.close()


def test_it_follows_a_failover(bull: Bull, tmp_path: Path) -> None:
    pair = RedisFailover.start(tmp_path)
    try:
        by_name = Connection(sentinels=[pair.sentinel.url], master=MASTER_NAME)
        queue = bull.queue(pair.master.url(), "etl", connection=by_name)
        queue.add("import")
        with pair.master.client() as client:
            client.wait(1, 5000)
        pair.kill_master()
        assert queue.counts("wait") in ({"wait": 1}, {"waiting": 1})
    finally:
        bull.close_all()
        pair.close()


def test_packages_are_installed_once_and_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"name": "x", "private": True}))
    (folder / "package-lock.json").write_text("{}")
    asked: list[Path] = []

    def pretend(target: Path, _: object) -> None:
        asked.append(target)
        (target / "node_modules").mkdir()

    monkeypatch.setattr(nodejs, "_npm_ci", pretend)
    first = nodejs.node_packages(folder).resolve()
    assert nodejs.node_packages(folder).resolve() == first
    assert len(asked) == 1
    (folder / "package-lock.json").write_text('{"lockfileVersion": 3}')
    assert nodejs.node_packages(folder).resolve() != first
    assert not list(folder.glob(".linking-*"))


def test_a_lock_file_that_npm_refuses_names_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "package.json").write_text(json.dumps({"name": "x", "private": True}))
    with pytest.raises(LocalError, match="start again"):
        nodejs.node_packages(tmp_path)
