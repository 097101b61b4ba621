"""Rates, versions, ages, types and clients of BullMQ queues, without a server."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.queues.bullmq_states import NOW, state

from starforge_backlog.queues.bullmq import missing
from starforge_backlog.queues.bullmq.events import EventMark, Slice, parse_slice
from starforge_backlog.queues.bullmq.history import History, Sample
from starforge_backlog.queues.bullmq.keys import Keys
from starforge_backlog.queues.bullmq.oldest import FirstSeen, oldest_due
from starforge_backlog.queues.bullmq.queue_state import Job, WrongType
from starforge_backlog.queues.bullmq.rates import (
    Kept,
    View,
    arrivals,
    failed_attempts,
    outcomes,
    throughput,
)
from starforge_backlog.queues.bullmq.server import ServerFacts
from starforge_backlog.queues.bullmq.settings import ObserverSettings
from starforge_backlog.queues.bullmq.types import Mix, Part, blocks, parse_ended, parse_sample
from starforge_backlog.queues.bullmq.versions import Fleet, updated_fleet
from starforge_backlog.queues.bullmq.workers import parse_clients
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.snapshot import Confidence, Count, Known, Unknown, Why

AT = datetime(2026, 11, 24, tzinfo=UTC)
NOTHING_KEPT = Kept(0, 0, reaches_back=False)
FIVE_MINUTES = timedelta(minutes=5)


def history(*samples: Sample) -> History:
    made = History(longest=600)
    for sample in samples:
        made.add(sample)
    return made


def view(*samples: Sample, seconds: float = 10) -> View:
    return View(history(*samples), seconds, AT)


def value(reading: Any) -> Any:
    assert isinstance(reading, Known), reading
    return reading.value


START = Sample(at=100, ids=1000, live=500, failed=50)


def later(**changes: Any) -> Sample:
    return replace(START, at=110, **changes)


def test_what_arrived_and_is_no_longer_there_has_ended() -> None:
    seen = view(START, later(ids=1300, live=600))
    assert value(arrivals(seen)) == 30
    assert value(throughput(seen)) == 20


def test_one_sample_is_no_rate_and_samples_too_far_apart_are_none_either() -> None:
    for seen in (view(START), view(START, replace(START, at=200)), view()):
        reading = throughput(seen)
        assert isinstance(reading, Unknown)
        assert reading.why is Why.NOT_YET


@pytest.mark.parametrize(
    "changes",
    [{"ids": 40}, {"ids": 1200, "metrics": (3, 0)}, {"at": 90}],
    ids=["obliterated", "metrics", "clock"],
)
def test_counters_that_fall_are_a_reset_and_never_a_negative_rate(changes: dict[str, Any]) -> None:
    first = replace(START, metrics=(500, 10))
    seen = view(first, replace(first, **{"at": 110, **changes}))
    for reading in (arrivals(seen), throughput(seen), outcomes(seen, FIVE_MINUTES, NOTHING_KEPT)):
        assert isinstance(reading, Unknown)
        assert reading.why is Why.COUNTER_RESET


def test_after_a_reset_rates_come_back() -> None:
    at = replace(START, ids=10, live=5)
    seen = view(START, replace(at, at=110), replace(at, at=120, ids=110, live=5))
    assert value(arrivals(seen)) == 10


def test_adds_of_jobs_that_exist_are_no_arrivals() -> None:
    part = Slice(seconds=1, whole=False, entries=100, added=75, again=25)
    seen = view(START, later(ids=1400, live=500, slice=part))
    assert value(arrivals(seen)) == 30
    every = Slice(seconds=10, whole=True, entries=1600, added=390, again=10, completed=390)
    assert value(arrivals(view(START, later(ids=1400, slice=every)))) == 39


def test_failed_jobs_that_are_put_back_are_no_negative_departures() -> None:
    seen = view(START, later(live=540, failed=10))
    assert value(throughput(seen)) == 0
    # With events that say how many, those that ended meanwhile show as well.
    part = Slice(seconds=5, whole=False, entries=60, of=120, restarted=20, completed=15)
    seen = view(START, later(live=510, failed=10, slice=part))
    assert value(throughput(seen)) == 3


def test_jobs_that_are_removed_were_not_worked_on() -> None:
    part = Slice(seconds=10, whole=False, entries=500, of=500, completed=100)
    drained = view(START, later(live=0, slice=part))
    assert value(throughput(drained)) == 10
    single = Slice(seconds=10, whole=False, entries=100, of=100, removed=40, completed=10)
    assert value(throughput(view(START, later(live=450, slice=single)))) == 1


def test_metrics_count_exactly_where_all_workers_keep_them() -> None:
    first = replace(START, metrics=(1000, 10))
    seen = view(first, replace(first, at=110, ids=1300, metrics=(1280, 30)))
    assert value(throughput(seen)) == 30
    reported = value(outcomes(seen, FIVE_MINUTES, NOTHING_KEPT))
    assert (reported.finished, reported.failed) == (280, 20)


def test_metrics_of_some_workers_are_not_taken_for_all() -> None:
    first = replace(START, metrics=(1000, 0))
    half = view(first, replace(first, at=110, ids=1300, metrics=(1100, 0)))
    assert value(throughput(half)) == 30
    reading = outcomes(half, FIVE_MINUTES, NOTHING_KEPT)
    assert isinstance(reading, Unknown)
    assert "metrics: {maxDataPoints: 15}" in reading.message


def test_workers_that_died_show_no_throughput_whatever_their_last_metrics_were() -> None:
    first = replace(START, metrics=(1000, 10))
    seen = view(first, replace(first, at=110, ids=1300, live=800))
    assert value(throughput(seen)) == 0


@pytest.mark.parametrize(
    ("of", "completed", "per_second"),
    [
        (None, 80, 15),  # as many as 450 jobs have for 90
        (2500, 0, 15),  # five times as many events
        (None, 0, 15),  # Redis 6.2: five times as much time
    ],
)
def test_failed_attempts_of_some_events_stand_for_all(
    of: int | None, completed: int, per_second: float
) -> None:
    part = Slice(2, False, entries=500, of=of, completed=completed, failed=10, retried=20)
    seen = view(START, later(ids=1000 + (450 if completed else 10), live=500, slice=part))
    assert value(failed_attempts(seen)) == pytest.approx(per_second)


def test_where_nothing_ends_failed_attempts_are_counted_by_time() -> None:
    part = Slice(seconds=2, whole=False, entries=500, retried=20)
    assert value(failed_attempts(view(START, later(slice=part)))) == 10


def test_a_burst_before_a_rest_is_no_removal() -> None:
    """The newest events go back far in time and are a small part of all."""
    for of in (None, 3900):
        part = Slice(seconds=9.5, whole=False, entries=500, of=of, completed=115)
        seen = view(START, later(ids=1900, live=500, slice=part))
        assert value(throughput(seen)) == 90


def test_without_events_failed_attempts_are_not_zero_but_unknown() -> None:
    silent = Slice(seconds=10, whole=False, entries=0)
    for events in (None, silent):
        reading = failed_attempts(view(START, later(ids=1450, slice=events)))
        assert isinstance(reading, Unknown)
        assert reading.why is Why.NOT_CONFIGURED
        assert "maxLen" in reading.message


def test_kept_jobs_give_their_outcomes_as_long_as_all_are_kept() -> None:
    seen = view(START, later(ids=1300, live=500))
    kept = Kept(completed=280, failed=20, reaches_back=True)
    reported = value(outcomes(seen, FIVE_MINUTES, kept))
    assert (reported.finished, reported.failed, reported.window) == (280, 20, FIVE_MINUTES)
    # An old one that is still there, while those that end now are removed.
    stale = outcomes(seen, FIVE_MINUTES, replace(kept, completed=0, failed=0))
    assert isinstance(stale, Unknown)


@st.composite
def days(draw: st.DrawFn) -> list[dict[str, int]]:
    """What happens to a queue, step by step."""
    small = st.integers(0, 30)
    names = ("adds", "again", "starts", "completes", "fails", "puts_back", "removes")
    return draw(
        st.lists(st.fixed_dictionaries(dict.fromkeys(names, small)), min_size=1, max_size=8)
    )


@given(days(), st.booleans(), st.booleans())
def test_rates_hold_for_any_history(day: list[dict[str, int]], whole: bool, metrics: bool) -> None:
    """With complete events or metrics exact; with neither, never negative, and exact as long as
    nobody removes jobs, puts them back or adds them twice."""
    ids, live, failed, ended, arrived = 0, 0, 0, 0, 0
    counted = (0, 0)
    made = History(longest=600)
    made.add(Sample(at=0, ids=0, live=0, failed=0, metrics=counted if metrics else None))
    plain = True
    for number, step in enumerate(day, 1):
        adds, again = step["adds"], step["again"]
        live += adds
        back = min(step["puts_back"], failed)
        live, failed = live + back, failed - back
        completes = min(step["completes"], live)
        fails = min(step["fails"], live - completes)
        removes = min(step["removes"], live - completes - fails)
        live -= completes + fails + removes
        failed += fails
        ids += adds + again
        ended, arrived = ended + completes + fails, arrived + adds
        counted = (counted[0] + completes, counted[1] + fails)
        plain = plain and not (again or back or removes)
        events = Slice(
            seconds=10,
            whole=True,
            entries=adds + again + completes + fails + back + removes,
            added=adds,
            again=again,
            completed=completes,
            failed=fails,
            restarted=back,
            removed=removes,
        )
        made.add(
            Sample(
                at=10 * number,
                ids=ids,
                live=live,
                failed=failed,
                failed_since=fails,
                metrics=counted if metrics else None,
                slice=events if whole else None,
            )
        )
    seen = View(made, 10.0 * len(day), AT)
    came, left = value(arrivals(seen)), value(throughput(seen))
    assert came >= 0
    assert left >= 0
    if whole or plain:
        assert came * 10 * len(day) == pytest.approx(arrived)
        assert left * 10 * len(day) == pytest.approx(ended)
    if whole:
        reported = value(outcomes(seen, timedelta(seconds=600), NOTHING_KEPT))
        assert reported.samples == ended


def events(**given: Any) -> str:
    names = ("added", "again", "replaced", "completed", "failed", "retried", "restarted", "removed")
    known: dict[str, Any] = {"now": NOW, "from": NOW - 5000, "newest": "7-1"}
    known |= {"whole": False, "entries": 9, "ever": False, "over": False}
    return json.dumps(known | dict.fromkeys(names, 0) | given)


def test_a_slice_of_events() -> None:
    first, mark = parse_slice(events(whole=True, failed=2, retried=3), EventMark(), None)
    assert (first.whole, first.seconds, mark) == (False, 5, EventMark("7-1"))
    assert first.failed_attempts == 5
    assert parse_slice(events(whole=True), mark, 20.0)[0].whole


def test_events_that_are_too_large_to_be_read_are_reported_with_their_size() -> None:
    found, mark = parse_slice(json.dumps({"heavy": 200_311}), EventMark("1-1", 100), 20.0)
    assert (found.heavy, found.representative, found.whole) == (200_311, False, False)
    assert mark == EventMark("1-1"), "read on from here, once they are small again"
    made = history(
        Sample(at=0, ids=0, live=0, failed=0), Sample(at=20, ids=5, live=5, failed=0, slice=found)
    )
    attempts = failed_attempts(View(made, 20.0, AT))
    assert isinstance(attempts, Unknown)
    assert "200,000 bytes" in attempts.message
    assert "updateProgress()" in attempts.message
    assert value(arrivals(View(made, 20.0, AT))) == 0.25


@pytest.mark.parametrize(
    ("before", "ever", "whole", "scale"),
    [
        (100, 109, True, 1),
        (100, 118, False, 2),
        (100, 50, False, None),  # made again
        (None, 118, False, None),
        (100, False, False, None),
    ],
)
def test_how_many_events_there_were(
    before: int | None, ever: int | bool, whole: bool, scale: float | None
) -> None:
    found, _ = parse_slice(events(ever=ever), EventMark("1-1", before), 20.0)
    assert (found.whole, found.scale) == (whole, scale)


@pytest.mark.parametrize(
    ("given_", "major"),
    [
        ({"version": "bullmq:5.81.5"}, 5),
        ({"version": "bullmq:6.7.0", "marker": True}, 6),
        ({"version": "bullmq:4.18.3", "old_style": 3}, 4),
        ({"markers": 1, "wait": 1}, 4),
        ({"paused": 3, "meta_paused": "1"}, 5),
        ({"version": "bullmq-pro:7.1"}, None),
        ({}, None),
    ],
)
def test_the_major_by_what_it_leaves(given_: dict[str, Any], major: int | None) -> None:
    fleet = updated_fleet(state(**given_), Fleet())
    assert fleet.major == major
    assert fleet.notes == ()


@pytest.mark.parametrize(
    "given_",
    [
        {"meta_paused": "1", "wait": 2, "paused": 3},
        {"meta_paused": "1", "paused": 3, "version": "bullmq:6.7.0"},
        {"meta_paused": "1", "wait": 3, "version": "bullmq:5.81.5"},
        {"markers": 1, "wait": 2, "marker": True},
    ],
)
def test_a_mixed_fleet_is_said_with_the_danger(given_: dict[str, Any]) -> None:
    (note,) = updated_fleet(state(**given_), Fleet()).notes
    assert "do not pause or resume it with pause()" in note


def test_an_upgrade_is_no_mixed_fleet_and_taking_turns_is() -> None:
    fleet = Fleet()
    for version in ("5.81.5", "5.81.5", "6.7.0", "6.7.0"):
        fleet = updated_fleet(state(version=f"bullmq:{version}"), fleet)
        assert not fleet.mixed
    assert updated_fleet(state(version="bullmq:5.81.5"), fleet).mixed


def test_jobs_in_the_list_of_a_pause_that_is_over_are_stranded() -> None:
    fleet = updated_fleet(state(paused=13_000, wait=7_001, version="bullmq:5.81.5"), Fleet())
    assert "13000 jobs" in fleet.notes[0]
    assert (
        updated_fleet(state(paused=5, meta_paused="1", version="bullmq:5.1.0"), Fleet()).notes == ()
    )


def job(**given_: Any) -> Job:
    known: dict[str, Any] = {
        "id": "1",
        "place": "wait",
        "name": "n",
        "created": 1000,
        "delay": 0,
        "attempts": 0,
    }
    return Job(**(known | given_))


@pytest.mark.parametrize(
    ("given_", "due"),
    [
        ({}, 1000),
        ({"delay": 600}, 1600),  # a promoted one was not late while it was delayed
        ({"attempts": 2, "processed": 5000}, 5000),
        ({"started": 1, "processed": 5000}, 5000),  # its worker died
        ({"due_at": 9000, "delay": 8000}, 9000),
        ({"attempts": 3}, None),  # put back by hand
        ({"started": 1}, None),
        ({"created": 0}, None),
    ],
)
def test_since_when_a_job_waits(given_: dict[str, Any], due: int | None) -> None:
    assert job(**given_).due == due


def test_a_job_put_back_by_hand_waits_since_we_saw_it() -> None:
    memory = FirstSeen()
    entry = ["7", "wait", "n", 1000, 0, 3, 0, 0, 0, 0]
    first = state(jobs=[entry], wait=1)
    assert oldest_due(first.jobs, memory.of(first), first.now) == NOW
    second = state(jobs=[entry], wait=1, now=NOW + 60_000)
    assert oldest_due(second.jobs, memory.of(second), second.now) == NOW
    assert memory.of(state()) == {}, "what is gone is forgotten"


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=4), st.integers(0, 1000))
def test_blocks_lie_within_their_lists(lengths: list[int], seed: int) -> None:
    parts = [Part(str(number), length) for number, length in enumerate(lengths)]
    where = blocks(parts, sample=500, block=10, chance=random.Random(seed))
    for part in parts:
        starts = where.get(part.suffix, [])
        assert bool(starts) == bool(part.length)
        assert all(0 <= start < part.length for start in starts)
    assert sum(len(starts) for starts in where.values()) <= 500 / 10 + len(parts)


def passed_over(where: list[int], jobs: set[int], block: int) -> bool:
    return not any(start + at in jobs for start in where for at in range(block))


@pytest.mark.parametrize("bulk", [True, False])
def test_a_kind_that_is_many_is_rarely_passed_over_and_its_bound_holds(bulk: bool) -> None:
    """600 jobs of 200,000: the sample of before passed over them in 23 % (together: 85 %)."""
    chance, settings, total = random.Random(5), ObserverSettings(), 200_000
    missed, rounds = 0, 400
    for _ in range(rounds):
        part = [Part("wait", total)]
        length, sample = settings.named_block, settings.named_sample
        where = blocks(part, sample=sample, block=length, chance=chance)["wait"]
        first = chance.randrange(total - 600)
        jobs = set(range(first, first + 600)) if bulk else set(chance.sample(range(total), 600))
        missed += passed_over(where, jobs, length)
    assert missed <= (0 if bulk else 0.03 * rounds)
    most = Mix({"other": 1}, exact=False, places=settings.named_sample).none_of(total)
    assert most == Count(400, Confidence.AT_MOST), "below 600"


def flat(name: str, created: int, *, attempts: int = 0, score: int = 0) -> list[str]:
    return [name, str(created), "0", str(attempts), "0", "0", str(score)]


def test_the_mix_of_a_short_queue_is_exact_and_of_a_long_one_estimated() -> None:
    jobs = flat("a", NOW - 500) + flat("b", NOW - 700) + flat("a", NOW - 800) + flat("", 1)
    answers = [("wait", ["0", *jobs])]
    mix = parse_sample(answers, now=NOW, exact=True, delayed="delayed")
    assert mix.waiting(3, 64) == {"a": Count(2), "b": Count(1)}
    assert mix.oldest == {"a": NOW - 800, "b": NOW - 700}
    sampled = parse_sample(answers, now=NOW, exact=False, delayed="delayed")
    assert sampled.waiting(3000, 1) == {"a": Count(2000, Confidence.ESTIMATED)}
    assert sampled.oldest == {}
    assert sampled.none_of(3000).confidence is Confidence.AT_MOST
    assert mix.none_of(3000) == Count(0)
    due = flat("d", 1, score=(NOW + 5) * 4096) + flat("d", 1, score=NOW * 4096)
    late = [("delayed", ["0", *due])]
    assert parse_sample(late, now=NOW, exact=True, delayed="delayed").names == {"d": 1}
    cut = parse_sample([("wait", ["1", *jobs])], now=NOW, exact=True, delayed="delayed")
    assert not cut.exact, "ids were too long for all to be read"


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999", "-5", "x", "", "1e300"])
def test_a_number_that_is_none_ends_no_reading(text: str) -> None:
    scored = flat("d", NOW) if text in {"nan", "x", ""} else [*flat("d", NOW)[:-1], text]
    answers = [("delayed", ["0", *scored]), ("wait", ["0", "w", text, text, text, text, text, "0"])]
    mix = parse_sample(answers, now=NOW, exact=True, delayed="delayed")
    assert mix.names["w"] == 1
    assert "w" not in mix.oldest, "its age is not 0 but unknown"
    assert state(metrics_completed=text).metrics_completed in {None, -5, round(1e300)}
    assert state(concurrency=text).braked is (text in {"-inf", "-5"}) or text == "-inf"


def test_ended_jobs_are_compared_over_the_time_that_both_lists_reach_back() -> None:
    completed = [word for n in range(4) for word in ("a", str(NOW - n * 1000))]
    failed = ["a", str(NOW - 500), "b", str(NOW - 60_000)]
    ended = parse_ended([completed, failed, 0], now=NOW, window=FIVE_MINUTES, most=4)
    assert ended.window == timedelta(seconds=3)
    assert (dict(ended.completed), dict(ended.failed)) == ({"a": 4}, {"a": 1})
    cut = parse_ended([completed, failed, 1], now=NOW, window=FIVE_MINUTES, most=200)
    assert cut.window == timedelta(seconds=3), "ids were too long for all to be read"
    assert ended.most(1) == ["a"]


def test_workers_are_known_by_the_names_of_their_connections() -> None:
    queue = base64.b64encode(b"etl-snapshots").decode()
    lines = [
        f"id=1 addr=127.0.0.1:1 laddr=x fd=8 name=bull:{queue} age=5 idle=0",
        f"id=2 addr=127.0.0.1:1 laddr=x fd=8 name=bull:{queue}:w:one age=5 idle=0",
        f"id=3 addr=127.0.0.1:1 laddr=x fd=8 name=bull:{queue}:qe age=5 idle=0",
        f"id=4 addr=127.0.0.1:1 laddr=x fd=8 name={{a}}:b:{queue} age=5 idle=0",
        "id=5 addr=127.0.0.1:1 laddr=x fd=8 name= age=5 idle=0",
        "id=6 addr=127.0.0.1:1 laddr=x fd=8 name=some:thing:else age=5 idle=0",
    ]
    clients = parse_clients(lines)
    assert clients.of(Keys("bull", "etl-snapshots")) == 2
    assert clients.of(Keys("{a}:b", "etl-snapshots")) == 1
    assert clients.of(Keys("bull", "other")) == 0


def test_numbers_that_grow_with_each_reading_do_not_change_a_text_with_each() -> None:
    """A text of the status that changes is a write, with each pass (P7)."""

    def texts(more: int) -> list[str]:
        facts = ServerFacts(policy="allkeys-lru", evicted=120_100 + more)
        lost = facts.lost("redis:6379", AT)
        assert lost is not None
        seen = state(groups=1_510 + more)
        waits = missing.priorities(seen.now - 3_725_000 - more * 1000, seen)
        return [lost.message, missing.groups(seen, "them", AT).message, waits.message]

    assert texts(0) == texts(15)
    assert "120,000 keys" in texts(0)[0]
    assert "waits at least 1h1m40s" in texts(0)[2], "at least: never more than it is"


# --- what fixes a queue that cannot be read -----------------------------------------------------

KEYS = Keys("bull", "etl")
NOT_OFFERED = RedisFault(Why.ERROR, "No command EVALSHA.", instead="prometheus")


@pytest.mark.parametrize(
    ("why", "field"),
    [
        (missing.not_found(KEYS, [], AT), "bullmq.name"),
        (missing.bull3(KEYS, AT), "prometheus"),
        (missing.wrong_type(WrongType("bull:etl:wait", "string", "list"), AT), "bullmq.name"),
        (missing.refused(NOT_OFFERED, AT), "prometheus"),
    ],
)
def test_each_policy_reads_its_own_name_of_the_queue(
    why: missing.Unnamed | Unknown, field: str
) -> None:
    assert isinstance(why, missing.Unnamed)
    for name in ("jobs", "a queues[] of its own"):
        assert f"spec.queues[{name}].{field}" in why.unknown(name).message


def test_a_fault_that_no_field_fixes_names_none() -> None:
    fault = RedisFault(Why.TIMEOUT, "No answer.")
    assert missing.refused(fault, AT) == Unknown(Why.TIMEOUT, "No answer.", AT)
