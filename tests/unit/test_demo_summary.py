"""The arithmetic at the end, and that each broken promise is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from demo import synthetic
from demo.promises import check
from demo.recording import Recording, Sample
from demo.summary import headline, rates, summarize

MADE = synthetic.recording()


def broken(recording: Recording) -> list[str]:
    return [p.claim for p in check(recording, summarize(recording)) if not p.kept]


def with_samples(change: Callable[[Sample], Sample], **about: object) -> Recording:
    return Recording(
        about=MADE.about.model_copy(update=about), samples=tuple(map(change, MADE.samples))
    )


def test_the_main_story_keeps_every_promise() -> None:
    assert broken(MADE) == []


def test_jobs_add_up() -> None:
    summary = summarize(MADE)
    assert summary.jobs == summary.done + summary.waiting + summary.running + summary.failed
    assert (summary.lost, summary.invented) == (0, 0)
    assert "0 lost" in headline(summary)


def test_a_lost_job_is_noticed() -> None:
    def lose(sample: Sample) -> Sample:
        assert sample.jobs is not None
        jobs = sample.jobs.model_copy(update={"done": max(0, sample.jobs.done - 1)})
        return sample.model_copy(update={"jobs": jobs})

    recording = with_samples(lose)
    assert summarize(recording).lost == 1
    assert broken(recording) == ["no job lost"]


def test_an_answer_that_never_came_may_be_a_job_or_not() -> None:
    def unsure(sample: Sample) -> Sample:
        assert sample.clients is not None
        accepted = max(0, sample.clients.accepted - 3)
        clients = sample.clients.model_copy(update={"accepted": accepted, "unsure": 5})
        return sample.model_copy(update={"clients": clients})

    summary = summarize(with_samples(unsure))
    assert (summary.lost, summary.invented) == (0, 0)


def test_a_job_that_nobody_sent_is_noticed() -> None:
    def invent(sample: Sample) -> Sample:
        assert sample.jobs is not None
        return sample.model_copy(
            update={"jobs": sample.jobs.model_copy(update={"waiting": sample.jobs.waiting + 2})}
        )

    assert broken(with_samples(invent)) == ["no job lost"]


def test_a_step_beyond_the_budget_is_noticed_by_counting_ourselves() -> None:
    def crowd(sample: Sample) -> Sample:
        # 27 left for workers: 6 pods; 6 replicas and their surge are 7.
        assert sample.connections is not None
        connections = sample.connections.model_copy(update={"web": 48})
        return sample.model_copy(update={"connections": connections})

    recording = with_samples(crowd)
    (violation,) = summarize(recording).over_budget
    assert "7 pods × 4 connections > 27 left" in violation
    assert "no step beyond the budget" in broken(recording)


def test_surge_and_terminating_pods_count() -> None:
    def stop_slowly(sample: Sample) -> Sample:
        assert sample.workload is not None
        return sample.model_copy(
            update={"workload": sample.workload.model_copy(update={"terminating": 1})}
        )

    assert summarize(MADE).over_budget == ()
    assert len(summarize(with_samples(stop_slowly)).over_budget) == 1


def test_others_that_left_a_second_ago_are_forgiven() -> None:
    def leave(sample: Sample) -> Sample:
        assert sample.connections is not None
        web = 48 if sample.t == 36 else 44
        return sample.model_copy(
            update={"connections": sample.connections.model_copy(update={"web": web})}
        )

    assert summarize(with_samples(leave)).over_budget == ()


def test_without_a_pause_the_main_story_fails() -> None:
    recording = with_samples(lambda s: s.model_copy(update={"flag_paused": False}))
    assert broken(recording) == ["paused ingestion", "resumed ingestion"]


def test_pressure_must_revert() -> None:
    recording = with_samples(lambda s: s, scenario="pressure", disturbed=((24.0, 45.0),))
    assert broken(recording) == [
        "the step was reverted",
        "no step up while the other client is there",
    ]


@pytest.mark.parametrize(
    ("silences", "claim"),
    [
        (((30.0, 45.0), (66.0, 75.0)), "nothing was scaled up meanwhile"),
        (((38.0, 45.0), (66.0, 100.0)), "nothing was resumed meanwhile"),
    ],
)
def test_nothing_may_change_while_the_database_is_unreadable(
    silences: tuple[tuple[float, float], ...], claim: str
) -> None:
    def silence(sample: Sample) -> Sample:
        if not any(start <= sample.t <= end for start, end in silences):
            return sample
        # The flag is read from the same database: what it says is seen before and after.
        assert sample.operator is not None
        operator = sample.operator.model_copy(update={"summary": "Unknown: no answer"})
        unseen = {"jobs": None, "connections": None, "flag_paused": None}
        return sample.model_copy(update={**unseen, "operator": operator})

    assert broken(with_samples(silence, scenario="unreadable", disturbed=silences)) == [claim]


def test_nothing_counted_is_an_error_and_not_a_success() -> None:
    nothing = with_samples(lambda s: s.model_copy(update={"jobs": None}))
    with pytest.raises(ValueError, match="recording is empty"):
        summarize(nothing)


def test_rates_follow_the_clients_own_clock() -> None:
    first, *_, last = rates(MADE.samples[2:12])
    assert first[1] == pytest.approx(12, abs=1)
    assert last[1] == pytest.approx(12, abs=1)
    assert last[2] == 0
