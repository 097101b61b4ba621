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
from starforge_backlog.queues.bullmq.look import Job, Look
from starforge_backlog.queues.bullmq.oldest import oldest_due
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

    look: Look
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
    """What a policy is told. `window`: of its rates; `named`: types that it looks at."""
    look = seen.look
    view = View(history, window.total_seconds(), look.at)
    kept = _kept(look, settings)
    past = history.past(settings.outcome_window.total_seconds())
    types = {} if seen.mix is None else seen.mix.waiting(look.waiting, settings.most_types)
    throughput = rates.throughput(view)
    all_kept = kept.everything(past)
    return QueueReading(
        waiting=_waiting(look),
        scheduled=_count(look, look.delayed - look.due),
        in_progress=_count(look, look.active),
        failed=_count(look, look.failed),
        oldest_due_age=_age(look, look.jobs, seen),
        arrivals_per_second=rates.arrivals(view),
        throughput_per_second=_uncounted(look) or throughput,
        outcomes=rates.outcomes(view, settings.outcome_window, kept),
        types={name: count for name, count in types.items() if count.value},
        how=f"{seen.fleet.text} at redis {seen.where}, {_how(seen)}",
        by_type=_by_type(seen, types, named, all_kept, settings),
        failed_attempts_per_second=rates.failed_attempts(view),
        consumers=_consumers(seen, throughput),
        notes=_notes(seen, settings),
    )


def _count(look: Look, jobs: int) -> Reading[Count]:
    return Known(Count(jobs), look.at)


def _how(seen: Seen) -> str:
    if seen.look.groups:
        return "jobs in groups counted in part"
    sampled = seen.mix is not None and not seen.mix.exact
    return "counts exact, types sampled" if sampled else "counts exact"


def _waiting(look: Look) -> Reading[Count]:
    """Those in groups are counted by their lists, and Pro keeps more than we know of."""
    if not look.groups:
        return Known(Count(look.waiting), look.at)
    if not look.grouped:
        return missing.groups(look, "how many jobs wait in them", look.at)
    return Known(Count(look.waiting + look.grouped, Confidence.AT_LEAST), look.at)


def _uncounted(look: Look) -> Unknown | None:
    """What left the queue is told by what is still there, which has to be all of it."""
    if look.groups > look.groups_looked:
        return missing.groups(look, "how many jobs end", look.at)
    return None


def _kept(look: Look, settings: ObserverSettings) -> Kept:
    since = look.now - round(settings.outcome_window.total_seconds() * 1000)
    return Kept(
        completed=look.completed_lately,
        failed=look.failed_lately,
        # Without a completed job from before, those that ended meanwhile may have been removed.
        reaches_back=look.first_completed is not None and look.first_completed <= since,
    )


def _age(look: Look, jobs: tuple[Job, ...], seen: Seen) -> Reading[timedelta]:
    if look.groups:
        return missing.groups(look, "how long the oldest job waits", look.at)
    if not look.all_priorities:
        return missing.priorities(oldest_due(jobs, seen.undated, look.now), look)
    if look.long_ids:
        return missing.long_ids(look.at)
    odd = next((job for job in jobs if job.odd), None)
    if odd is not None:
        return missing.odd_job(odd, look.at)
    oldest = oldest_due(jobs, seen.undated, look.now)
    if oldest is None and look.waiting:
        return Unknown(
            Why.NOT_YET, "The jobs that wait changed while they were looked at.", look.at
        )
    return Known(timedelta(milliseconds=0 if oldest is None else look.now - oldest), look.at)


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
    look = seen.look
    if look.groups:
        return missing.groups(look, f"how many jobs of type {name} wait in them", look.at)
    return Known(waiting.get(name, mix.none_of(look.waiting)), look.at)


def _oldest_of(name: str, seen: Seen, mix: Mix) -> Reading[timedelta]:
    look = seen.look
    if look.groups:
        return missing.groups(look, f"how long the oldest job of type {name} waits", look.at)
    if mix.exact and (name in mix.oldest or name not in mix.names):
        oldest = mix.oldest.get(name, look.now)
        return Known(timedelta(milliseconds=max(0, look.now - oldest)), look.at)
    # Workers take from the end that was looked at, so the first of a kind there is its oldest.
    first = tuple(job for job in look.jobs if job.name == name and not job.place.endswith("-back"))
    if first:
        return _age(look, first, seen)
    return Unknown(
        Why.NO_SAMPLES,
        f"None of the jobs that come next is a {name}, so the age of its oldest is not known; it is"
        " younger than the queue's oldest.",
        look.at,
    )


def _outcomes_of(name: str, seen: Seen, all_kept: bool) -> Reading[Outcomes]:
    if all_kept and seen.ended is not None:
        ended = seen.ended
        counts = ended.completed.get(name, 0), ended.failed.get(name, 0)
        return Known(Outcomes(*counts, ended.window), seen.look.at)
    if seen.fault is not None:
        return seen.fault
    if seen.look.first_completed is not None:
        # Some are kept: soon all of the window are, or removeOnComplete keeps too few of them.
        return Unknown(
            Why.NOT_YET,
            "Jobs that ended are not kept for the whole window yet, so outcomes are not known by"
            " type; if this stays so, keep them for longer: removeOnComplete and removeOnFail:"
            " {age: 600}.",
            seen.look.at,
        )
    return Unknown(
        Why.NOT_CONFIGURED,
        "Jobs that ended are not kept, so outcomes are not known by type; keep them for a while:"
        " removeOnComplete and removeOnFail: {age: 600}.",
        seen.look.at,
    )


def _consumers(seen: Seen, throughput: Reading[float]) -> Reading[Consumers]:
    look = seen.look
    if seen.fault is not None:
        return seen.fault
    return Known(
        Consumers(
            live=_live(seen),
            orphaned=look.orphaned,
            stalled=look.stalled,
            paused_by=_paused_by(look),
            held=look.active_looked - look.orphaned,
            limited_by=_limited_by(look, throughput),
        ),
        look.at,
    )


def _limited_by(look: Look, throughput: Reading[float]) -> str:
    """A limit that binds. Of a rate limit that is seen by what ends: Redis keeps it only for
    moments that it was reached."""
    if not look.waiting:
        return ""
    if look.concurrency is not None and 0 < look.concurrency <= look.active:
        return f"its global concurrency of {look.concurrency}"
    reached = (
        look.limit is not None
        and isinstance(throughput, Known)
        and throughput.value >= _LIMIT_REACHED * look.limit
    )
    return f"its global rate limit of {_limit(look)}" if reached else ""


def _limit(look: Look) -> str:
    return f"{look.limit_max} jobs per {(look.limit_duration or 0) / 1000:g} s"


def _live(seen: Seen) -> int | None:
    """Workers with a connection. Jobs that are held although nobody seems to be there are held by
    workers whose names do not reach the server (a proxy in between), or that have just come."""
    held = seen.look.active_looked > seen.look.orphaned
    return None if held and not seen.live else seen.live


def _paused_by(look: Look) -> str:
    if look.meta_paused:
        return _PERSON  # the operator never uses BullMQ's own pause
    if look.braked:
        return look.token or _PERSON
    return ""


def _notes(seen: Seen, settings: ObserverSettings) -> tuple[str, ...]:
    look = seen.look
    found = [*seen.fleet.notes, *seen.facts.notes(seen.user)]
    if look.meta_paused:
        found.append("The queue is paused by BullMQ's pause(); that is left alone.")
    elif look.braked and not look.token:
        found.append("The queue's global concurrency was set to 0 by a person; that is left alone.")
    elif look.concurrency and not look.braked:
        found.append(f"The queue's global concurrency is {look.concurrency}.")
    if look.limit is not None:
        found.append(f"The queue's global rate limit is {_limit(look)}.")
    if look.groups:
        found.append(
            f"Jobs wait in {steady(look.groups):,} groups (BullMQ Pro): {steady(look.grouped):,}"
            f" are in the lists of the {steady(look.groups_looked):,} that were looked at, and"
            " there may be more."
        )
    if look.children:
        found.append(f"{steady(look.children)} parents wait for their children.")
    if look.orphaned:
        some = "" if look.active_looked >= look.active else f" of {look.active_looked} looked at"
        found.append(
            f"{steady(look.orphaned)} jobs in progress{some} have lost their worker's lock; a"
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
