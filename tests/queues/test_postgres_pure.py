"""Words, CHECK constraints, plans and depths without a server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from starforge_backlog.api.queue import PostgresQueue, Queue, StatusNames
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.queues.adapters import QueueAdapters
from starforge_backlog.queues.postgres.catalog import quoted
from starforge_backlog.queues.postgres.columns import Column
from starforge_backlog.queues.postgres.depth import Head, by_type_depth, head_depth
from starforge_backlog.queues.postgres.ended import parse_ended
from starforge_backlog.queues.postgres.gate import TimeoutBreaker
from starforge_backlog.queues.postgres.holds import Holds
from starforge_backlog.queues.postgres.plan import parse_plan
from starforge_backlog.queues.postgres.problem import Problem
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.queues.postgres.source import InTable
from starforge_backlog.queues.postgres.words import Group, Words, resolve_words
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Confidence, Count, Unknown, Why

STATUS = Column("status", "text", False, True, None, (), ())


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (
            "CHECK ((status = ANY (ARRAY['pending'::text, 'it''s'::text])))",
            ("pending", "it's"),
        ),
        (
            "CHECK (((status)::text = ANY ((ARRAY['pending'::varchar, 'done'::varchar])::text[])))",
            ("pending", "done"),
        ),
        ("CHECK (((status = 'a'::text) OR (status = 'b'::text)))", ("a", "b")),
        ("CHECK ((status = ANY (ARRAY['a'::text, 'b'::text]))) NOT VALID", ("a", "b")),
        ("CHECK (((s IS NOT NULL) AND (s = ANY (ARRAY['a'::text, 'b'::text]))))", ("a", "b")),
        # These do not list what may occur.
        ("CHECK ((status <> 'never'::text))", None),
        ("CHECK ((status ~ '^[a-z]+$'::text))", None),
        ("CHECK ((NOT (status = 'x'::text)))", None),
        ("CHECK ((length(status) > 2))", None),
    ],
)
def test_the_words_of_a_check(check: str, words: tuple[str, ...] | None) -> None:
    assert replace(STATUS, checks=(check,)).allowed == words


def words(**given: Any) -> Words:
    found = resolve_words(
        given.pop("mapped", StatusNames()),
        holds=Holds("text", given.get("allowed")),
        seen=given.get("seen", ()),
    )
    assert isinstance(found, Words), found
    return found


def test_free_text_keeps_the_words_that_were_seen_and_all_of_a_group_without_any() -> None:
    found = words(seen={"pending", "completed", "whatever"})
    assert found.of(Group.WAITING) == ("pending",)
    assert found.of(Group.IN_PROGRESS) == ("running", "processing", "active")
    assert found.of(Group.FINISHED) == ("completed",)


def test_a_mapped_word_is_not_recognised_a_second_time() -> None:
    found = words(
        mapped=StatusNames(in_progress=("queued",)), allowed=("pending", "queued", "done")
    )
    assert found.of(Group.WAITING) == ("pending",)
    assert found.of(Group.IN_PROGRESS) == ("queued",)


def test_no_word_for_waiting_is_a_problem() -> None:
    found = resolve_words(StatusNames(), holds=Holds("text", ("new", "old")), seen=())
    assert isinstance(found, Problem)
    assert found.why is Why.STATUS_NOT_MAPPED


async def test_readers_are_shared_as_long_as_the_connection_is_the_same() -> None:
    hub = DatabaseHub()
    database = hub.get("postgresql://u@localhost/d", owner="a")
    other_spelling = hub.get("postgresql://u@localhost/d?sslmode=require", owner="b")
    one, other = in_table(hub, "a"), in_table(hub, "b")
    readers = one.tables(database)
    assert other.tables(database) is readers
    assert other.tables(other_spelling) is not readers
    assert one.tables(database) is readers, "a second spelling must not throw away the samples"
    await hub.close()


def in_table(hub: DatabaseHub, policy: str) -> InTable:
    """The source of one policy's queue. Nothing here asks for a Secret."""
    deadline = Deadline(asyncio.get_running_loop().time() + 5)
    access = PolicyAccess(
        policy=policy,
        namespace="starforge",
        database=None,
        secrets=SecretReader(KeyValueStore(NoCluster())),
        databases=hub,
        deadline=deadline,
        late=Unknown(Why.TIMEOUT, "no answer in time", utc_now()),
    )
    adapters = QueueAdapters(hub, PrometheusHub(), RedisHub(), utc_now)
    source = adapters.source(Queue(name="jobs", postgres=PostgresQueue()), access)
    assert isinstance(source, InTable)
    return source


class NoCluster:
    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        pytest.fail(f"asked for {resource} {namespace}/{name}{sub}")


def test_names_are_quoted_where_sql_needs_it() -> None:
    assert quoted("queue_jobs") == "queue_jobs"
    assert quoted("QueueJobs") == '"QueueJobs"'
    assert quoted('odd"name') == '"odd""name"'


def plan(*nodes: dict[str, Any]) -> Any:
    root = {"Node Type": "Aggregate", "Total Cost": 10.0, "Plan Rows": 1, "Plans": list(nodes)}
    return parse_plan([{"QUERY PLAN": json.dumps([{"Plan": root}])}])


SCAN = {
    "Node Type": "Index Scan",
    "Index Name": "i",
    "Relation Name": "j",
    "Total Cost": 5.0,
    "Plan Rows": 9,
}


def test_a_sort_below_a_limit_is_unbounded_and_one_above_is_not() -> None:
    sort = {"Node Type": "Sort", "Total Cost": 9.0, "Plans": [SCAN]}
    limit = {"Node Type": "Limit", "Total Cost": 9.0}
    assert plan({**limit, "Plans": [sort]}).sorts
    assert not plan({**sort, "Plans": [{**limit, "Plans": [SCAN]}]}).sorts


def test_a_filter_on_the_table_skips_rows_and_one_on_a_query_does_not() -> None:
    assert plan({**SCAN, "Filter": "(status = 'pending')"}).skips_rows
    assert not plan({"Node Type": "CTE Scan", "Total Cost": 1.0, "Filter": "(x)"}).skips_rows
    assert plan(SCAN, SCAN).indexes == ("i",)


def row(part: str, kind: str | None, due: int, **more: Any) -> dict[str, Any]:
    return {
        "part": part,
        "word": "pending",
        "type": kind,
        "due": due,
        "scheduled": 0,
        "undated": 0,
        "held": 0,
        "held_oldest": None,
        "oldest": 5.0,
        **more,
    }


def test_a_full_head_bounds_types_from_below_and_keeps_the_age_of_the_first() -> None:
    depth = head_depth(
        [row("head", "a", 60, oldest=90.0), row("head", "b", 40), row("total", None, 250)],
        head=Head.ORDERED,
        head_limit=100,
        total_limit=1_000,
        held_rows=10,
        least_held=50,
    )
    assert depth.due == Count(250)
    assert depth.oldest == 90.0
    assert depth.by_type["a"].due == Count(60, Confidence.AT_LEAST)
    assert depth.only(("b",)).due == Count(40, Confidence.AT_LEAST)
    assert depth.only(("b",)).oldest == 5.0
    unseen = depth.only(("c",))
    assert unseen.due == Count(0, Confidence.AT_LEAST)
    assert unseen.oldest is None


def test_a_short_line_is_exact_before_thousands_that_are_held() -> None:
    """The types of the first of these are known; their number comes from the index."""
    found = [
        row("front", "a", 60, oldest=90.0),
        row("held", "b", 0, held=10, held_oldest=7_200.0),
        row("total", None, 60, held=940),
    ]
    limits: dict[str, Any] = {
        "head": Head.ORDERED,
        "head_limit": 100,
        "total_limit": 1_000,
        "held_rows": 10,
        "least_held": 50,
    }
    depth = head_depth(found, **limits)
    assert (depth.due, depth.oldest) == (Count(60), 90.0)
    # Counted with what the line left of 1,000.
    assert (depth.held, depth.held_oldest) == (Count(940, Confidence.AT_LEAST), 7_200.0)
    assert depth.only(["a"]).held == Count(0, Confidence.AT_LEAST)
    assert depth.only(["b"]).due == Count(0)
    assert depth.only(["b"]).held == Count(10, Confidence.AT_LEAST)
    found[-1] = row("total", None, 60, held=939)
    depth = head_depth(found, **limits)
    assert (depth.held, depth.exact) == (Count(939), 999)


def test_any_hundred_rows_prove_no_age() -> None:
    depth = head_depth(
        [row("head", "a", 100), row("total", None, 1_000)],
        head=Head.ANY,
        head_limit=100,
        total_limit=1_000,
        held_rows=10,
        least_held=50,
    )
    assert depth.due == Count(1_000, Confidence.AT_LEAST)
    assert depth.oldest is None
    assert depth.only(("a",)).oldest is None


def test_jobs_without_a_due_time_hide_the_oldest_age() -> None:
    rows = [row("type", "a", 3, undated=2), row("type", "b", 1)]
    depth = by_type_depth(rows, limit=100, most_types=10)
    assert depth.due == Count(6)
    assert depth.oldest is None
    assert depth.only(("b",)).oldest == 5.0


def test_more_types_than_are_distinguished_make_the_total_a_lower_bound() -> None:
    rows = [row("type", str(number), 1) for number in range(11)]
    depth = by_type_depth(rows, limit=100, most_types=10)
    assert depth.due == Count(11, Confidence.AT_LEAST)
    assert not depth.all_types


def test_ended_jobs_cover_only_what_the_cap_reached() -> None:
    found = words(seen={"completed"})
    rows = [
        {"word": "completed", "type": "a", "slice": n, "jobs": 50, "changed": 50, "oldest": n * 5.0}
        for n in range(4)
    ]
    capped = parse_ended(rows, found, window=300.0, slice_seconds=5, limit=200)
    assert capped.span == 15.0
    assert capped.covered(60.0) == 15.0
    assert capped.jobs(Group.FINISHED, 60.0) == 150  # whole slices only
    whole = parse_ended(rows, found, window=300.0, slice_seconds=5, limit=201)
    assert whole.covered(60.0) == 60.0
    assert whole.jobs(Group.FINISHED, 60.0) == 200
    assert whole.jobs(Group.FINISHED, 60.0, ("b",)) == 0


def test_timeouts_far_apart_lower_nothing() -> None:
    settings = ObserverSettings()
    breaker = TimeoutBreaker(settings)
    apart = (settings.timeouts_within / 2 + timedelta(seconds=1)).total_seconds()
    for number in range(10):
        breaker.timed_out(number * apart)
        assert breaker.lowered(number * apart) == 0


def test_timeouts_in_the_lower_tier_lower_further_and_time_heals() -> None:
    settings = ObserverSettings()
    breaker = TimeoutBreaker(settings)
    for now in (0.0, 1.0, 2.0):
        breaker.timed_out(now)
    assert breaker.lowered(3.0) == 1
    for now in (4.0, 5.0, 6.0):
        breaker.timed_out(now)
    assert breaker.lowered(7.0) == 2
    assert breaker.lowered(6.0 + settings.lower_for.total_seconds()) == 0
