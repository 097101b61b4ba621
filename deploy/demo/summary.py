"""The numbers at the end of a run. Only arithmetic over the recording; judged in `promises.py`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from demo.actions import Act, Kind, acts, pauses
from demo.recording import Recording, Sample

OTHERS_SETTLE_SECONDS = 3.0
"""The operator and this recorder count the other clients at slightly different moments."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in numbers."""

    seconds: float
    accepted: int  # clients got 202
    unsure: int  # clients got no clear answer: each may be a job or not
    turned_away: int  # refused, or held back by clients that honour Retry-After
    jobs: int  # rows in the table at the end
    done: int
    waiting: int
    running: int
    failed: int
    repeated: int
    peak_waiting: int
    peak_waiting_at: float
    paused_seconds: float
    most_connections: int
    usable: int
    max_connections: int
    most_replicas: int
    highest_budget: int | None
    up_steps: int
    over_budget: tuple[str, ...]  # one sentence per violation
    acts: tuple[Act, ...]

    @property
    def lost(self) -> int:
        """Jobs that a client was promised and that are nowhere."""
        return max(0, self.accepted - self.jobs)

    @property
    def invented(self) -> int:
        """Jobs that no client sent."""
        return max(0, self.jobs - self.accepted - self.unsure)


def summarize(recording: Recording) -> Summary:
    """All numbers of a run. Raises ValueError when nothing was counted at all."""
    samples = recording.samples
    jobs = [(s.t, s.jobs) for s in samples if s.jobs is not None]
    connections = [s.connections for s in samples if s.connections is not None]
    clients = [s.clients for s in samples if s.clients is not None]
    replicas = [s.workload.replicas for s in samples if s.workload is not None]
    budgets = [s.operator.budget for s in samples if s.operator and s.operator.budget is not None]
    if not (jobs and connections and clients and replicas):
        msg = "the recording is empty: the run ended before anything could be counted"
        raise ValueError(msg)
    peak_at, peak = max(jobs, key=lambda pair: pair[1].waiting)
    last = jobs[-1][1]
    happened = acts(recording.about, samples)
    return Summary(
        seconds=samples[-1].t - samples[0].t,
        accepted=clients[-1].accepted,
        unsure=clients[-1].unsure,
        turned_away=clients[-1].refused + clients[-1].held_back,
        jobs=last.all,
        done=last.done,
        waiting=last.waiting,
        running=last.running,
        failed=last.failed,
        repeated=last.repeated,
        peak_waiting=peak.waiting,
        peak_waiting_at=peak_at,
        paused_seconds=sum(end - start for start, end in pauses(samples)),
        most_connections=max(c.total for c in connections),
        usable=connections[-1].usable,
        max_connections=connections[-1].max_connections,
        most_replicas=max(replicas),
        highest_budget=max(budgets, default=None),
        up_steps=sum(act.kind is Kind.UP for act in happened),
        over_budget=tuple(_over_budget(recording)),
        acts=happened,
    )


def _over_budget(recording: Recording) -> Iterable[str]:
    """Up-steps that the database could not serve, by our own count and not the operator's.

    At every rise of `replicas`: what all pods could open (surge and terminating ones included)
    against what the other clients left, less the headroom.
    """
    about = recording.about
    last: int | None = None
    recent: list[Sample] = []
    for sample in recording.samples:
        recent = [s for s in recent if s.t >= sample.t - OTHERS_SETTLE_SECONDS] + [sample]
        workload = sample.workload
        if workload is None:
            continue
        counted = [s.connections for s in recent if s.connections is not None]
        if last is not None and workload.replicas > last and counted:
            others = min(c.others for c in counted)
            pods = workload.replicas + about.surge + workload.terminating
            left = counted[-1].usable - about.headroom - others
            if pods * about.per_replica > left:
                yield (
                    f"at {sample.t:.0f} s {workload.replicas} replicas were asked for: {pods} pods "
                    f"× {about.per_replica} connections > {left} left"
                )
        last = workload.replicas


def rates(samples: Iterable[Sample], window: float = 2.5) -> list[tuple[float, float, float]]:
    """(t, accepted per second, turned away per second), smoothed over a short window."""
    counted = [(s.t, s.clients) for s in samples if s.clients is not None]
    found: list[tuple[float, float, float]] = []
    start = 0
    for t, now in counted:
        while now.seconds - counted[start][1].seconds > window:
            start += 1
        then = counted[start][1]
        span = now.seconds - then.seconds
        if span > 0:
            turned = (now.refused + now.held_back) - (then.refused + then.held_back)
            found.append((t, (now.accepted - then.accepted) / span, turned / span))
    return found


def headline(summary: Summary) -> str:
    """The run in one line, also below the picture's title."""
    return " · ".join(
        (
            f"at most {summary.peak_waiting:,} waiting",
            f"paused {summary.paused_seconds:.0f} s",
            f"{summary.most_connections} of {summary.max_connections} connections at most",
            f"{len(summary.over_budget)} budget violations",
            f"{summary.jobs:,} jobs in, {summary.done:,} done, {summary.lost} lost",
        )
    )
