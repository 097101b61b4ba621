"""What happened is read off effects."""

from __future__ import annotations

from demo import synthetic
from demo.actions import Kind, acts, grouped, pauses
from demo.recording import Operator, Sample

MADE = synthetic.recording()


def changed(second: int, **update: object) -> tuple[Sample, ...]:
    samples = list(MADE.samples)
    samples[second] = samples[second].model_copy(update=update)
    return tuple(samples)


def test_the_main_story() -> None:
    kinds = [act.kind for act in acts(MADE.about, MADE.samples)]
    assert kinds == [
        *(Kind.UP, Kind.UP, Kind.TRIP, Kind.PAUSE, Kind.PROBE, Kind.RESUME, Kind.CLOSE),
        *(Kind.DOWN,) * 4,
    ]


def test_the_breaker_and_its_pause_are_one() -> None:
    texts = [act.text for act in grouped(acts(MADE.about, MADE.samples))]
    assert "opens the breaker, pauses ingestion" in texts
    assert len(texts) == 9


def test_steps_close_together_stay_two() -> None:
    samples = tuple(s.model_copy(update={"t": s.t / 10}) for s in MADE.samples)
    ups = [a for a in grouped(acts(MADE.about, samples)) if a.kind is Kind.UP]
    assert len(ups) == 2


def test_a_gap_in_the_readings_does_not_end_a_pause() -> None:
    assert pauses(changed(80, flag_paused=None)) == pauses(MADE.samples) == ((64.0, 96.0),)


def test_a_pause_that_never_ends_lasts_to_the_end() -> None:
    samples = MADE.samples[:80]
    assert pauses(samples) == ((64.0, 79.0),)


def test_down_after_a_failed_step_is_a_revert() -> None:
    failed = Operator(verdict="Failed", verdict_message="connections 88% >= 80%")
    samples = []
    for sample in MADE.samples[:40]:
        assert sample.workload is not None
        replicas = 4 if 22 <= sample.t < 30 else 2
        update: dict[str, object] = {
            "workload": sample.workload.model_copy(update={"replicas": replicas})
        }
        if sample.t >= 30:
            update["operator"] = failed
        samples.append(sample.model_copy(update=update))
    revert = acts(MADE.about, samples)[-1]
    assert (revert.kind, revert.why) == (Kind.REVERT, "connections 88% >= 80%")


def test_a_disturbance_begins_and_ends() -> None:
    about = MADE.about.model_copy(
        update={"disturbance": "silent", "relief": "back", "disturbed": ((5.0, 9.0),)}
    )
    assert [(a.t, a.text) for a in acts(about, MADE.samples[:12])] == [(5, "silent"), (9, "back")]
