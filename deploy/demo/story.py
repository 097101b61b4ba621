"""One run from nothing to the picture. Start with `run`: what happens, in its order."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from demo import actions, install
from demo.bullmq import BACKFILL_JOBS
from demo.display import Display, clock, display
from demo.place import Place, open_place
from demo.promises import Promise, check
from demo.recording import About, Recorder, Recording, Sample
from demo.scenario import HEADROOM, PER_REPLICA, SURGE, Scenario, Stack
from demo.summary import Summary, headline, summarize
from demo.trouble import Trouble
from demo.watch import Watch, ask_clients
from local.errors import LocalError

FIRST_DECISION_SECONDS = 120.0
"""After the policy was applied; then something is wrong with the operator."""

CALM_SECONDS = 6.0
"""How long everything must have been over before the story ends, so that the picture shows it."""

DRAIN_SECONDS = 45.0
"""After the clients have stopped, the queue may take this long to become empty."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run leaves."""

    summary: Summary
    promises: tuple[Promise, ...]
    pictures: tuple[Path, ...]
    first_decision_seconds: float

    @property
    def kept(self) -> bool:
        """Whether every promise was."""
        return all(promise.kept for promise in self.promises)


@dataclass(slots=True)
class Story:
    """A run in progress."""

    scenario: Scenario
    place: Place
    watch: Watch
    recorder: Recorder
    show: Display
    about: About
    clients_url: str = ""
    started: float = field(default_factory=time.monotonic)

    def sample(self) -> Sample:
        """Read, record, show."""
        sample = self.watch.sample(time.monotonic() - self.started)
        self.recorder.write(sample)
        self.show.show(sample)
        return sample


def run(scenario: Scenario, how: str, *, began: float) -> Result:
    """Start everything, run the story, take everything away, judge."""
    about = About(
        scenario=scenario.name,
        title=scenario.title,
        per_replica=PER_REPLICA,
        headroom=HEADROOM,
        surge=SURGE,
        trip_waiting=scenario.trip_waiting,
        backfill_jobs=BACKFILL_JOBS if scenario.stack is Stack.BULLMQ else 0,
        started=datetime.now(UTC),
    )
    with display(about, scenario.schedule.seconds) as show:
        show.say(f"{scenario.title} (scenario {scenario.name}).")
        show.say(_what_starts(how, scenario.stack))
        with open_place(how, scenario.stack) as place:
            watch = install.everything(place, scenario, show.say)
            recorder = Recorder(place.run_dir / "recording.jsonl")
            story = Story(scenario, place, watch, recorder, show, about)
            try:
                first = _first_decision(story, began)
                _play(story)
            finally:
                watch.stop()
                recorder.close()
        recording = Recording.read(recorder.path)
        return _judge(recording, recorder.path.parent, first)


def _what_starts(how: str, stack: Stack) -> str:
    if how != "local":
        return f"Using the cluster of CLUSTER={how}; PostgreSQL runs in it as a pod."
    more = ", Redis, Prometheus and Node.js workers" if stack is Stack.BULLMQ else ""
    return (
        "Starting etcd, kube-apiserver, controller manager, scheduler, a node and PostgreSQL"
        f"{more} here. "
        "Only the first time their programs are built, which takes some minutes."
    )


def _first_decision(story: Story, began: float) -> float:
    """Wait for the operator's first sentence."""
    deadline = time.monotonic() + FIRST_DECISION_SECONDS
    while time.monotonic() < deadline:
        sample = story.watch.sample(0.0)
        if sample.operator is not None:
            seconds = time.monotonic() - began
            story.show.say(f"First decision {seconds:.0f} s after the start.")
            return seconds
        time.sleep(0.2)
    raise LocalError(
        f"the operator has not written a status within {FIRST_DECISION_SECONDS:g} s "
        f"({story.watch.problems() or 'everything answers'}). Its log: "
        f"{story.place.run_dir}/pods; its pod: {install.operator_pod(story.place)}"
    )


def _play(story: Story) -> None:
    """The clients' schedule, the trouble in the middle of it, and the way back to calm."""
    url = install.clients(story.place, story.scenario)
    story.watch.follow_clients(url)
    story.clients_url = url
    trouble = Trouble(story.scenario, story.place, story.show.say)
    ask_clients(url, "/start", post=True)
    story.started = time.monotonic()
    story.about = story.about.model_copy(update={"started": datetime.now(UTC)})
    story.recorder.write(story.about)
    try:
        _every_second(story, lambda sample: _go_on(story, trouble, sample))
    finally:
        trouble.end()
    if trouble.spans:
        story.about = trouble.describe(story.about)
        story.recorder.write(story.about)
    _drain(story)


def _go_on(story: Story, trouble: Trouble, sample: Sample) -> bool:
    """One second of it; False when there is nothing more to see."""
    trouble.step(sample, story.recorder.samples)
    if sample.t >= story.scenario.most_seconds:
        return False
    return not (sample.t > _storm_over(story.scenario) and _calm(story, sample))


def _storm_over(scenario: Scenario) -> float:
    """When the last phase of the schedule has begun."""
    return scenario.schedule.seconds - scenario.schedule.phases[-1].seconds


def _calm(story: Story, now: Sample) -> bool:
    """Nothing paused, next to nothing waiting, and the workers where they began, for a while."""
    recent = [s for s in story.recorder.samples if s.t >= now.t - CALM_SECONDS]
    smallest = min(s.workload.replicas for s in story.recorder.samples if s.workload)
    most = smallest if story.scenario.ends_at_smallest else sys.maxsize
    return all(
        s.jobs is not None
        and s.jobs.waiting < story.scenario.trip_waiting / 50
        and s.flag_paused is False
        and not (s.backfill and s.backfill.stopped)
        and s.workload is not None
        and s.workload.replicas <= most
        for s in recent
    )


def _drain(story: Story) -> None:
    """Stop the clients and let the workers finish, so that the sum at the end is exact."""
    ask_clients(story.clients_url, "/stop", post=True)
    story.show.say("The clients have stopped; counting every job.")
    deadline = time.monotonic() + DRAIN_SECONDS
    last_counted = 0.0

    def unfinished(sample: Sample) -> bool:
        nonlocal last_counted
        done = sample.jobs is not None and sample.jobs.waiting + sample.jobs.running == 0
        last_counted = last_counted + 1 if done else 0.0
        # Two samples in a row: counts of clients and of jobs are read at different moments.
        return last_counted < 3 and time.monotonic() < deadline

    _every_second(story, unfinished)


def _every_second(story: Story, go_on: Callable[[Sample], bool]) -> None:
    due = time.monotonic()
    while go_on(story.sample()):
        due = max(due + 1.0, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _judge(recording: Recording, folder: Path, first: float) -> Result:
    summary = summarize(recording)
    pictures = (folder / "timeline.png", folder / "timeline.svg")
    # Importing matplotlib takes a second that the start does not have.
    from demo.timeline import draw  # noqa: PLC0415 - only now

    draw(recording, *pictures, subtitle=headline(summary))
    return Result(summary, check(recording, summary), pictures, first)


def report(result: Result) -> str:
    """The end of the run as text."""
    s = result.summary
    lines = ["", "What happened"]
    lines += [
        f"  {clock(act.t):>5}  {act.text}{f': {act.why}' if act.why else ''}"
        for act in actions.grouped(s.acts)
    ]
    lines += ["", headline(s), ""]
    for promise in result.promises:
        mark = "kept  " if promise.kept else "BROKEN"
        lines.append(f"  {mark}  {promise.claim}  ({promise.evidence})")
    lines += ["", *(f"  {path}" for path in result.pictures)]
    return "\n".join(lines)


def main(scenario: Scenario, how: str) -> int:
    """Exit code 0 only when every promise was kept."""
    began = time.monotonic()
    try:
        result = run(scenario, how, began=began)
    except LocalError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    sys.stdout.write(report(result) + "\n")
    if not result.kept:
        sys.stdout.write("\nA promise was broken.\n")
        return 1
    return 0
