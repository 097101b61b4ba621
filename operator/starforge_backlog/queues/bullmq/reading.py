"""From what was seen of a queue to its reading: pure; what is missing says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from starforge_backlog.decide.numbers import steady
from starforge_backlog.queues.bullmq import missing, rates
from starforge_backlog.queues.bullmq.events import Slice
from starforge_backlog.queues.bullmq.history import History
from starforge_backlog.queues.bullmq.oldest import oldest_due
from starforge_backlog.queues.bullmq.queue_state import Job, QueueState
from starforge_backlog.queues.bullmq.rates import Kept, View
from starforge_backlog.queues.bullmq.server import ServerFacts
from starforge_backlog.queues.bullmq.settings import ObserverSettings
from starforge_backlog.queues.bullmq.types import Ended, Mix
from starforge_backlog.queues.bullmq.versions import Fleet
from starforge_backlog.queues.bullmq.workers import NOT_ALLOWED, TOO_MANY, Clients
from starforge_backlog.snapshot import (
    Confidence,
    Consumers,
    Count,
    Known,
    Outcomes,
    QueueReading,
    Reading,
    TypeReading,
    Unknown,
    Why,
)

T = TypeVar("T")

_PERSON = "a person"
_LIMIT_REACHED = (
    0.8  # of a rate limit; windows of rates and of the limit begin at different moments
)


@dataclass(slots=True)
class Seen:
    """One observation. `fault`: why what comes after the counts is missing."""

    state: QueueState
    fleet: Fleet
    where: str
    user: str = "default"
    events: Slice | None = None
    ended: Ended | None = None
    mix: Mix | None = None
    clients: Clients | None = None
    live: int | None = None  # workers with a connection
    facts: ServerFacts = field(default_factory=ServerFacts)
    undated: Mapping[str, int] = field(default_factory=dict)
    fault: Unknown | None = None


def queue_reading(
    seen: Seen,
    history: History,
    window: timedelta,
    settings: ObserverSettings,
    named: frozenset[str] = frozenset(),
) -> QueueReading:
    """What a policy gets. `window`: of its rates; `named`: types that it reads."""
    state = seen.state
    view = View(history, window.total_seconds(), state.at)
    kept = _kept(state, settings)
    past = history.past(settings.outcome_window.total_seconds())
    types = {} if seen.mix is None else seen.mix.waiting(state.waiting, settings.most_types)
    throughput = rates.throughput(view)
    all_kept = kept.everything(past)
    return QueueReading(
        waiting=_waiting(state),
        scheduled=_count(state, state.delayed - state.due),
        in_progress=_count(state, state.active),
        failed=_count(state, state.failed),
        oldest_due_age=_age(state, state.jobs, seen),
        arrivals_per_second=rates.arrivals(view),
        throughput_per_second=_uncounted(state) or throughput,
        outcomes=rates.outcomes(view, settings.outcome_window, kept),
        types={name: count for name, count in types.items() if count.value},
        how=f"{seen.fleet.text} at redis {seen.where}, {_how(seen)}",
        by_type=_by_type(seen, types, named, all_kept, settings),
        failed_attempts_per_second=rates.failed_attempts(view),
        consumers=_consumers(seen, throughput),
        notes=_notes(seen, settings),
    )


def _count(state: QueueState, jobs: int) -> Reading[Count]:
    return Known(Count(jobs), state.at)


def _how(seen: Seen) -> str:
    if seen.state.groups:
        return "jobs in groups counted in part"
    sampled = seen.mix is not None and not seen.mix.exact
    return "counts exact, types sampled" if sampled else "counts exact"


def _waiting(state: QueueState) -> Reading[Count]:
    """Those in groups are counted by their lists, and Pro keeps more than we know of."""
    if not state.groups:
        return Known(Count(state.waiting), state.at)
    if not state.grouped:
        return missing.groups(state, "how many jobs wait in them", state.at)
    return Known(Count(state.waiting + state.grouped, Confidence.AT_LEAST), state.at)


def _uncounted(state: QueueState) -> Unknown | None:
    """What left the queue is known by what is still there, which has to be all of it."""
    if state.groups > state.groups_read:
        return missing.groups(state, "how many jobs end", state.at)
    return None


def _kept(state: QueueState, settings: ObserverSettings) -> Kept:
    since = state.now - round(settings.outcome_window.total_seconds() * 1000)
    return Kept(
        completed=state.completed_lately,
        failed=state.failed_lately,
        # Without a completed job from before, those that ended meanwhile may have been removed.
        reaches_back=state.first_completed is not None and state.first_completed <= since,
    )


def _age(state: QueueState, jobs: tuple[Job, ...], seen: Seen) -> Reading[timedelta]:
    if state.groups:
        return missing.groups(state, "how long the oldest job waits", state.at)
    if not state.all_priorities:
        return missing.priorities(oldest_due(jobs, seen.undated, state.now), state)
    if state.long_ids:
        return missing.long_ids(state.at)
    odd = next((job for job in jobs if job.odd), None)
    if odd is not None:
        return missing.odd_job(odd, state.at)
    oldest = oldest_due(jobs, seen.undated, state.now)
    if oldest is None and state.waiting:
        return Unknown(Why.NOT_YET, "The waiting jobs changed while they were read.", state.at)
    return Known(timedelta(milliseconds=0 if oldest is None else state.now - oldest), state.at)


def _by_type(
    seen: Seen,
    waiting: Mapping[str, Count],
    named: frozenset[str],
    all_kept: bool,
    settings: ObserverSettings,
) -> dict[str, TypeReading]:
    if seen.mix is None:
        return {}
    ended = seen.ended
    names = {*waiting, *named, *(ended.most(settings.most_types) if ended else ())}
    return {
        name: TypeReading(
            waiting=_waiting_of(name, waiting, seen, seen.mix),
            oldest_due_age=_oldest_of(name, seen, seen.mix),
            outcomes=_outcomes_of(name, seen, all_kept),
        )
        for name in sorted(names)
    }


def _waiting_of(name: str, waiting: Mapping[str, Count], seen: Seen, mix: Mix) -> Reading[Count]:
    state = seen.state
    if state.groups:
        return missing.groups(state, f"how many jobs of type {name} wait in them", state.at)
    return Known(waiting.get(name, mix.none_of(state.waiting)), state.at)


def _oldest_of(name: str, seen: Seen, mix: Mix) -> Reading[timedelta]:
    state = seen.state
    if state.groups:
        return missing.groups(state, f"how long the oldest job of type {name} waits", state.at)
    if mix.exact and (name in mix.oldest or name not in mix.names):
        oldest = mix.oldest.get(name, state.now)
        return Known(timedelta(milliseconds=max(0, state.now - oldest)), state.at)
    # Workers take from the end that was read, so the first of a kind there is its oldest.
    first = tuple(job for job in state.jobs if job.name == name and not job.place.endswith("-back"))
    if first:
        return _age(state, first, seen)
    return Unknown(
        Why.NO_SAMPLES,
        f"None of the jobs that come next is a {name}, so the age of its oldest is not known; it is"
        " less than the age of the queue's oldest.",
        state.at,
    )


def _outcomes_of(name: str, seen: Seen, all_kept: bool) -> Reading[Outcomes]:
    if all_kept and seen.ended is not None:
        ended = seen.ended
        counts = ended.completed.get(name, 0), ended.failed.get(name, 0)
        return Known(Outcomes(*counts, ended.window), seen.state.at)
    if seen.fault is not None:
        return seen.fault
    if seen.state.first_completed is not None:
        # Some are kept: soon all of the window are, or removeOnComplete keeps too few of them.
        return Unknown(
            Why.NOT_YET,
            "Jobs that ended are not kept for the whole window yet, so outcomes are not known by"
            " type; if this stays so, keep them for longer: removeOnComplete and removeOnFail:"
            " {age: 600}.",
            seen.state.at,
        )
    return Unknown(
        Why.NOT_CONFIGURED,
        "Jobs that ended are not kept, so outcomes are not known by type; keep them for a while:"
        " removeOnComplete and removeOnFail: {age: 600}.",
        seen.state.at,
    )


def _consumers(seen: Seen, throughput: Reading[float]) -> Reading[Consumers]:
    state = seen.state
    if seen.fault is not None:
        return seen.fault
    return Known(
        Consumers(
            live=_live(seen),
            orphaned=state.orphaned,
            stalled=state.stalled,
            paused_by=_paused_by(state),
            held=state.active_read - state.orphaned,
            limited_by=_limited_by(state, throughput),
        ),
        state.at,
    )


def _limited_by(state: QueueState, throughput: Reading[float]) -> str:
    """A limit that binds. Of a rate limit that is seen by what ends: Redis keeps it only for
    moments that it was reached."""
    if not state.waiting:
        return ""
    if state.concurrency is not None and 0 < state.concurrency <= state.active:
        return f"its global concurrency of {state.concurrency}"
    reached = (
        state.limit is not None
        and isinstance(throughput, Known)
        and throughput.value >= _LIMIT_REACHED * state.limit
    )
    return f"its global rate limit of {_limit(state)}" if reached else ""


def _limit(state: QueueState) -> str:
    return f"{state.limit_max} jobs per {(state.limit_duration or 0) / 1000:g} s"


def _live(seen: Seen) -> int | None:
    """Workers with a connection. Jobs that are held although nobody seems to be there are held by
    workers whose names do not reach the server (a proxy in between), or that have just come."""
    held = seen.state.active_read > seen.state.orphaned
    return None if held and not seen.live else seen.live


def _paused_by(state: QueueState) -> str:
    if state.meta_paused:
        return _PERSON  # the operator never uses BullMQ's own pause
    if state.braked:
        return state.token or _PERSON
    return ""


def _notes(seen: Seen, settings: ObserverSettings) -> tuple[str, ...]:
    state = seen.state
    found = [*seen.fleet.notes, *seen.facts.notes(seen.user)]
    if state.meta_paused:
        found.append("The queue is paused by BullMQ's pause(); the operator does not change that.")
    elif state.braked and not state.token:
        found.append(
            "The queue's global concurrency was set to 0 by a person; the operator does not change"
            " that."
        )
    elif state.concurrency and not state.braked:
        found.append(f"The queue's global concurrency is {state.concurrency}.")
    if state.limit is not None:
        found.append(f"The queue's global rate limit is {_limit(state)}.")
    if state.groups:
        found.append(
            f"Jobs wait in {steady(state.groups):,} groups (BullMQ Pro): {steady(state.grouped):,}"
            f" are in the lists of the {steady(state.groups_read):,} that were read, and there"
            " may be more."
        )
    if state.children:
        found.append(f"{steady(state.children)} parents wait for their children.")
    if state.orphaned:
        some = "" if state.active_read >= state.active else f" of {state.active_read} read"
        found.append(
            f"{steady(state.orphaned)} jobs in progress{some} have lost their worker's lock; a"
            " worker gives them out again within its stalledInterval."
        )
    if seen.events is not None and seen.events.heavy:
        found.append(
            f"Entries of the event stream have {steady(seen.events.heavy):,} bytes on average, too"
            " many to be read, and Redis holds them all; hand updateProgress() a few numbers, and"
            " let jobs return a reference instead of the data."
        )
    if seen.clients is not None and seen.clients.too_many:
        most = settings.clients_most
        found.append(TOO_MANY.format(clients=steady(seen.clients.too_many), most=most))
    if seen.clients is not None and not seen.clients.allowed:
        found.append(NOT_ALLOWED.format(user=seen.user))
    return tuple(found)
