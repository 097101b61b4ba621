"""Arithmetic of flows on made-up tables: every job is accounted for, or the rate is unknown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starforge_backlog.queues.postgres.activity import Counters
from starforge_backlog.queues.postgres.depth import Depth, Depths, total_of
from starforge_backlog.queues.postgres.ended import Ended, Slice
from starforge_backlog.queues.postgres.history import History
from starforge_backlog.queues.postgres.rates import (
    View,
    arrivals,
    learn_updates_per_job,
    outcomes,
    throughput,
)
from starforge_backlog.queues.postgres.words import Group
from starforge_backlog.snapshot import Confidence, Count, Known, Outcomes, Reading, Unknown, Why

AT = datetime(2026, 1, 1, tzinfo=UTC)
FIVE_MINUTES = timedelta(minutes=5)


START = Counters(
    at=0.0,
    standby=False,
    counting=True,
    epoch="1",
    inserted=1_000,
    updated=2_000,
    deleted=0,
    live=1_000,
    maintained=0,
    pages=1,
)


@dataclass
class Table:
    """A table in memory: jobs per group and type, and the counters that a server would keep."""

    jobs: dict[Group, dict[str, int]] = field(
        default_factory=lambda: {group: {} for group in Group}
    )
    counters: Counters = START

    def count(self, **changes: int) -> None:
        for name, value in changes.items():
            self.counters = replace(self.counters, **{name: getattr(self.counters, name) + value})

    def enqueue(self, jobs: int, kind: str = "a") -> None:
        self._add(Group.WAITING, kind, jobs)
        self.count(inserted=jobs, live=jobs)

    def move(self, source: Group, target: Group, jobs: int, kind: str = "a") -> None:
        self._add(source, kind, -jobs)
        self._add(target, kind, jobs)
        self.count(updated=jobs)

    def work(self, jobs: int, kind: str = "a", *, ends: Group = Group.FINISHED) -> None:
        self.move(Group.WAITING, Group.IN_PROGRESS, jobs, kind)
        self.move(Group.IN_PROGRESS, ends, jobs, kind)

    def delete(self, group: Group, jobs: int, kind: str = "a") -> None:
        self._add(group, kind, -jobs)
        self.count(deleted=jobs, live=-jobs)

    def _add(self, group: Group, kind: str, jobs: int) -> None:
        self.jobs[group][kind] = self.jobs[group].get(kind, 0) + jobs

    def depths(self) -> Depths:
        return Depths(
            {
                group: total_of(
                    {kind: Depth(due=Count(n)) for kind, n in kinds.items()}, all_types=True
                )
                for group, kinds in self.jobs.items()
            }
        )

    def by_index(self, *, capped: bool = False) -> Depths:
        """As the index tiers see it: no finished jobs; `capped`: the line is too long."""
        seen = dict(self.depths().by_group)
        del seen[Group.FINISHED], seen[Group.OTHER]
        if capped:
            seen[Group.WAITING] = Depth(due=Count(100_001, Confidence.AT_LEAST), all_types=False)
        return Depths(seen)


class Watch:
    """Samples of a table, ten seconds apart."""

    def __init__(self, table: Table, *, seconds: float = 20.0) -> None:
        self.table = table
        self.seconds = seconds
        self.history = History(longest=300)

    def sample(self, depths: Depths | None = None, *, after: float = 10.0) -> None:
        self.table.counters = replace(self.table.counters, at=self.table.counters.at + after)
        self.history.add(self.table.counters, depths or self.table.depths())

    def view(self, *types: str, ended: Ended | None = None, per_job: float = 2.0) -> View:
        return View(self.history, ended, types, self.seconds, AT, per_job, "jobs")


def rate(reading: Reading[float]) -> float:
    assert isinstance(reading, Known), reading
    return reading.value


def why(reading: Reading[float] | Reading[Outcomes]) -> Why:
    assert isinstance(reading, Unknown), reading
    return reading.why


def test_the_first_sample_gives_no_rate() -> None:
    watch = Watch(Table())
    watch.sample()
    assert why(arrivals(watch.view())) is Why.NOT_YET
    assert why(throughput(watch.view())[0]) is Why.NOT_YET
    assert why(outcomes(watch.view(), FIVE_MINUTES)) is Why.NOT_YET


def test_less_than_half_a_window_gives_no_rate() -> None:
    watch = Watch(Table(), seconds=90)
    for _ in range(5):
        watch.sample()
    assert why(arrivals(watch.view())) is Why.NOT_YET
    watch.sample()
    assert rate(arrivals(watch.view())) == 0.0


def test_a_gap_of_twice_the_window_is_no_window() -> None:
    watch = Watch(Table(), seconds=20)
    watch.sample()
    watch.sample(after=41)
    assert why(throughput(watch.view())[0]) is Why.NOT_YET


def test_the_window_is_the_last_one_not_all_that_is_remembered() -> None:
    table = Table()
    watch = Watch(table)
    for jobs in (1_000, 1_000, 1_000, 10, 10):
        watch.sample()
        table.enqueue(jobs)
    watch.sample()
    assert rate(arrivals(watch.view())) == 1.0


TIERS = [False, True]


@pytest.mark.parametrize("by_index", TIERS)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 500),  # enqueued
            st.integers(0, 500),  # finished
            st.integers(0, 50),  # failed
            st.integers(0, 50),  # claimed and not done yet
            st.integers(0, 50),  # quarantined while waiting
            st.integers(0, 200),  # old finished jobs that a clean-up removes
        ),
        min_size=2,
        max_size=6,
    )
)
def test_every_job_is_accounted_for(by_index: bool, steps: list[tuple[int, ...]]) -> None:
    table = Table()
    table.enqueue(10_000)
    table.work(5_000)
    watch = Watch(table, seconds=60)
    see = table.by_index if by_index else table.depths
    watch.sample(see(), after=60.0 / len(steps))
    for enqueued, finished, failed, claimed, quarantined, removed in steps:
        table.enqueue(enqueued)
        table.work(finished)
        table.work(failed, ends=Group.FAILED)
        table.move(Group.WAITING, Group.IN_PROGRESS, claimed)
        table.move(Group.WAITING, Group.QUARANTINED, quarantined)
        table.delete(Group.FINISHED, removed)
        watch.sample(see(), after=60.0 / len(steps))
    sums = [sum(column) for column in zip(*steps, strict=True)]

    assert rate(arrivals(watch.view())) == pytest.approx(sums[0] / 60)
    # Claimed is not done, and quarantined is not work.
    assert rate(throughput(watch.view())[0]) == pytest.approx((sums[1] + sums[2]) / 60)
    ended = outcomes(watch.view(), FIVE_MINUTES)
    assert isinstance(ended, Known)
    assert (ended.value.finished, ended.value.failed) == (sums[1], sums[2])
    assert ended.value.window.total_seconds() == pytest.approx(60)


def test_jobs_deleted_on_completion_are_throughput() -> None:
    table = Table()
    table.enqueue(1_000)
    watch = Watch(table)
    watch.sample()
    table.move(Group.WAITING, Group.IN_PROGRESS, 100)
    table.delete(Group.IN_PROGRESS, 100)
    watch.sample(after=20)
    assert rate(throughput(watch.view())[0]) == 5.0
    watch.sample(table.by_index(capped=True), after=0.5)
    table.move(Group.WAITING, Group.IN_PROGRESS, 200)
    table.delete(Group.IN_PROGRESS, 200)
    watch.sample(table.by_index(capped=True), after=20)
    reading, source = throughput(watch.view())
    assert rate(reading) == pytest.approx(10, rel=0.05)
    assert "estimated" in source


def test_rolled_back_inserts_are_neither_arrivals_nor_throughput() -> None:
    """Measured: 1,000 inserts of an aborted transaction raise n_tup_ins by 1,000."""
    table = Table()
    watch = Watch(table)
    watch.sample(table.by_index())
    table.count(inserted=1_000)
    table.enqueue(40)
    watch.sample(table.by_index(), after=20)
    assert rate(arrivals(watch.view())) == 2.0
    assert rate(throughput(watch.view())[0]) == 0.0


def test_a_vacuum_that_rewrites_the_live_count_does_not_make_jobs() -> None:
    table = Table()
    watch = Watch(table)
    watch.sample(table.by_index())
    table.enqueue(40)
    table.count(live=500, maintained=1)
    watch.sample(table.by_index(), after=20)
    assert rate(arrivals(watch.view())) == 2.0


def test_a_consumer_outage_is_a_throughput_of_zero() -> None:
    table = Table()
    watch = Watch(table)
    watch.sample(table.by_index())
    table.enqueue(200)
    # The line is seen at once, the counters come a second late.
    late = replace(table.counters, inserted=table.counters.inserted - 10)
    table.counters = replace(late, live=late.live - 10)
    watch.sample(table.by_index(), after=20)
    assert rate(throughput(watch.view())[0]) == 0.0


def test_a_burst_that_the_counters_have_not_seen_is_not_an_outage() -> None:
    table = Table()
    watch = Watch(table)
    watch.sample(table.by_index())
    table.work(0)
    before = table.counters
    table.enqueue(5_000)
    table.counters = before
    watch.sample(table.by_index(), after=20)
    assert why(throughput(watch.view())[0]) is Why.NOT_YET


@pytest.mark.parametrize("what", ["negative", "epoch", "clock"])
def test_counters_that_started_again_are_unknown_for_one_window(what: str) -> None:
    table = Table()
    watch = Watch(table)
    watch.sample()
    watch.sample()
    if what == "negative":
        table.count(inserted=-1_000, updated=-2_000)
    elif what == "epoch":
        table.counters = replace(table.counters, epoch="2", inserted=5_000)
    else:
        table.counters = replace(table.counters, at=table.counters.at - 3_600)
    watch.sample(after=5)
    assert why(arrivals(watch.view())) is Why.COUNTER_RESET
    assert why(throughput(watch.view())[0]) is Why.COUNTER_RESET
    assert why(outcomes(watch.view(), FIVE_MINUTES)) is Why.COUNTER_RESET
    table.enqueue(40)
    watch.sample(after=20)
    assert rate(arrivals(watch.view())) == 2.0


def test_a_standby_counts_nothing() -> None:
    table = Table(counters=replace(START, standby=True))
    watch = Watch(table)
    watch.sample()
    watch.sample()
    assert why(arrivals(watch.view())) is Why.READ_ONLY
    assert why(throughput(watch.view())[0]) is Why.READ_ONLY


def test_without_track_counts_nothing_is_known() -> None:
    table = Table(counters=replace(START, counting=False))
    watch = Watch(table)
    watch.sample()
    watch.sample()
    assert why(arrivals(watch.view())) is Why.NOT_CONFIGURED


def test_beyond_the_cap_updates_stand_for_jobs_at_the_ratio_that_was_seen() -> None:
    table = Table()
    table.enqueue(10_000)
    watch = Watch(table)
    watch.sample()
    table.work(100)
    table.count(updated=300)  # three heartbeats per job
    watch.sample()
    per_job = 2.0
    for _ in range(20):
        per_job = learn_updates_per_job(watch.history, 20.0, per_job)
    assert per_job == pytest.approx(5.0, rel=0.01)
    watch.sample(table.by_index(capped=True))
    table.work(100)
    table.count(updated=300)
    watch.sample(table.by_index(capped=True))
    view = watch.view(per_job=per_job)
    reading, source = throughput(replace(view, seconds=10.0))
    assert rate(reading) == pytest.approx(10.0, rel=0.01)
    assert source == "throughput estimated from row updates"


def test_types_are_distinguished_while_nothing_is_deleted() -> None:
    table = Table()
    table.enqueue(500, "a")
    table.enqueue(500, "b")
    watch = Watch(table)
    watch.sample()
    table.enqueue(100, "a")
    table.work(40, "a")
    table.work(20, "a", ends=Group.FAILED)
    table.work(300, "b")
    watch.sample(after=20)
    assert rate(arrivals(watch.view("a"))) == 5.0
    assert rate(throughput(watch.view("a"))[0]) == 3.0
    ended = outcomes(watch.view("a"), FIVE_MINUTES)
    assert isinstance(ended, Known)
    assert (ended.value.finished, ended.value.failed) == (40, 20)
    table.delete(Group.FINISHED, 10, "b")
    watch.sample()
    assert why(arrivals(watch.view("a"))) is Why.NO_INDEX
    ends, _ = throughput(watch.view("a"))
    assert why(ends) is Why.NO_INDEX
    assert isinstance(ends, Unknown)
    assert "spec.queues[jobs].postgres.columns.updatedAt" in ends.message


def slices(**jobs: int) -> Ended:
    """Jobs per slice of five seconds, four slices back, of type a."""
    return Ended(
        tuple(
            Slice(Group.FINISHED if name == "finished" else Group.FAILED, "a", number, count)
            for name, count in jobs.items()
            for number in range(4)
        ),
        span=300.0,
        slice_seconds=5,
        changed=sum(jobs.values()),
    )


def test_times_of_change_give_rates_per_type_beyond_the_cap() -> None:
    table = Table()
    watch = Watch(table)
    watch.sample(table.by_index(capped=True))
    watch.sample(table.by_index(capped=True), after=20)
    ended = slices(finished=25, failed=5)
    reading, source = throughput(watch.view("a", ended=ended))
    assert rate(reading) == 6.0
    assert source == "throughput from the times of change"
    seen = outcomes(watch.view("a", ended=ended), FIVE_MINUTES)
    assert isinstance(seen, Known)
    assert (seen.value.finished, seen.value.failed) == (100, 20)
    assert why(throughput(watch.view("b"))[0]) is Why.NO_INDEX


def test_a_time_of_change_that_nobody_keeps_is_not_believed() -> None:
    """Rows are updated, none of them with a new time: zero would mean an outage."""
    table = Table()
    table.enqueue(1_000)
    watch = Watch(table)
    watch.sample(table.by_index(capped=True))
    table.work(100)
    watch.sample(table.by_index(capped=True), after=20)
    idle = Ended((), span=300.0, slice_seconds=5, changed=0)
    reading, source = throughput(watch.view(ended=idle))
    assert rate(reading) == 5.0
    assert source == "throughput estimated from row updates"
    assert why(outcomes(watch.view(ended=idle), FIVE_MINUTES)) is Why.NO_INDEX


def test_failed_jobs_that_are_put_back_hide_no_failures() -> None:
    """A sweep empties the failed ones once; other steps still count."""
    table = Table()
    table.enqueue(5_000)
    watch = Watch(table, seconds=40)
    watch.sample()
    table.work(90)
    table.work(10, ends=Group.FAILED)
    watch.sample()
    table.move(Group.FAILED, Group.WAITING, 8)
    watch.sample()
    table.work(90)
    table.work(10, ends=Group.FAILED)
    watch.sample()
    seen = outcomes(watch.view(), FIVE_MINUTES)
    assert isinstance(seen, Known)
    assert (seen.value.finished, seen.value.failed) == (180, 20)
    assert seen.value.window == timedelta(seconds=20)


def test_moving_failed_jobs_to_quarantine_is_neither_work_nor_failure() -> None:
    table = Table()
    table.enqueue(500)
    table.work(100, ends=Group.FAILED)
    watch = Watch(table)
    watch.sample()
    table.move(Group.FAILED, Group.QUARANTINED, 60)
    table.work(40)
    watch.sample(after=20)
    assert rate(throughput(watch.view())[0]) == 2.0
    seen = outcomes(watch.view(), FIVE_MINUTES)
    assert isinstance(seen, Known)
    assert (seen.value.finished, seen.value.failed) == (40, 0)


def test_memory_is_bounded() -> None:
    table = Table()
    for number in range(100):
        table.enqueue(number, f"type-{number}")
    watch = Watch(table)
    for _ in range(1_500):
        watch.sample(after=0.3)
    samples = watch.history.samples
    assert len(samples) <= 302 * 2
    depth = samples[-1].depths
    assert depth is not None
    waiting = depth.of(Group.WAITING)
    assert waiting is not None
    assert len(waiting.by_type) == 64
    assert waiting.due.value == sum(range(100))
    assert waiting.only(("type-99",)).due == Count(99)
    assert waiting.only(("type-1",)).due.confidence is Confidence.AT_LEAST
