"""A queue that is not there, or is none of BullMQ's: what to report to the person who named it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.shown import shortened
from starforge_backlog.decide.numbers import steady
from starforge_backlog.queues.bullmq.keys import Keys
from starforge_backlog.queues.bullmq.queue_state import Job, NoNumber, QueueState, WrongType
from starforge_backlog.queues.bullmq.workers import Clients
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.snapshot import Unknown, Why

_SHOWN = 5  # queues in a sentence
_SCAN_COUNT = 100  # keys per SCAN
_META = ":meta"
_ALIKE = 0.3  # of 1: names that share a word are alike enough to be shown first


@dataclass(frozen=True, slots=True)
class Unnamed:
    """Why a queue cannot be read, before it is known under which name: one read serves every policy
    that names the queue. The sentence has a field of the policy between `text` and `rest`."""

    why: Why
    text: str
    field: str  # below spec.queues[…]
    rest: str
    at: datetime

    def unknown(self, queue: str) -> Unknown:
        """The reason for the policy in which the queue has that name."""
        message = f"{self.text}spec.queues[{queue}].{self.field}{self.rest}"
        return Unknown(self.why, message, self.at)


def refused(fault: RedisFault, at: datetime) -> Unknown | Unnamed:
    """Redis did not answer as it should."""
    if not fault.instead:
        return fault.unknown(at)
    text = f"{fault.message} Or watch the queue in another way ("
    return Unnamed(fault.why, text, fault.instead, ").", at)


def not_found(keys: Keys, similar: Iterable[str], at: datetime) -> Unnamed:
    """There is no such queue, which is not the same as an empty one."""
    found = sorted(set(similar))
    wanted = keys.base.removesuffix(":")
    alike = get_close_matches(wanted, found, n=_SHOWN, cutoff=_ALIKE) or found[:_SHOWN]
    there = f" There are: {', '.join(alike)}." if alike else ""
    return Unnamed(
        Why.QUEUE_NOT_FOUND,
        f"Redis has no BullMQ queue {keys.name} under prefix {keys.prefix} (no key"
        f" {keys.base}meta); correct ",
        "bullmq.name",
        " or .prefix, or the database in the URL. BullMQ makes it with the first job." + there,
        at,
    )


def bull3(keys: Keys, at: datetime) -> Unnamed:
    """The keys of Bull, BullMQ's predecessor."""
    return Unnamed(
        Why.NOT_BULLMQ,
        f"{keys.base}* has the keys of Bull 3 or 4, BullMQ's predecessor, which keeps its jobs"
        " differently; move the application to BullMQ 4 or later, or watch the queue by Prometheus"
        " (",
        "prometheus",
        ").",
        at,
    )


def wrong_type(wrong: WrongType, at: datetime) -> Unnamed:
    """A key of another type than BullMQ's."""
    return Unnamed(
        Why.NOT_BULLMQ,
        f"Key {wrong.key} is a {wrong.found} and not a {wrong.expected}: something else writes"
        " under this name; correct ",
        "bullmq.name",
        " or .prefix, or remove the key.",
        at,
    )


def no_number(wrong: NoNumber, at: datetime) -> Unknown:
    """A counter that counts nothing: BullMQ cannot add a job either."""
    return Unknown(
        Why.BAD_SHAPE,
        f"Key {wrong.key} is no whole number, so BullMQ gives no job an id; stop what writes there"
        f" and SET {wrong.key} to the highest id of a job.",
        at,
    )


def groups(state: QueueState, what: str, at: datetime) -> Unknown:
    """Jobs in groups, whose keys are BullMQ Pro's own."""
    return Unknown(
        Why.PARTIAL,
        f"The queue has {steady(state.groups):,} groups (BullMQ Pro), and Redis does not tell"
        f" {what}; name series of the application for it (spec.queues[].signals).",
        at,
    )


def priorities(oldest: int | None, state: QueueState) -> Unknown:
    """More priorities than are read, and in any of the others an older job may wait."""
    seconds = 0 if oldest is None else max(0, state.now - oldest) // 1000
    # Down to two digits: an age that grows with each reading would be a write with each pass.
    waited = timedelta(seconds=seconds - seconds % 10 ** max(0, len(str(seconds)) - 2))
    return Unknown(
        Why.PARTIAL,
        "There are more priorities than are read for the oldest job, which waits at least"
        f" {format_duration(waited)}; use fewer of them.",
        state.at,
    )


def long_ids(at: datetime) -> Unknown:
    """Ids that were made of more than an id."""
    return Unknown(
        Why.BAD_SHAPE,
        "Ids of waiting jobs are so long that not all that come next were read, so how long the"
        " oldest job waits is not known; give jobs ids of at most some hundred characters (jobId).",
        at,
    )


def odd_job(job: Job, at: datetime) -> Unknown:
    """One job whose times are none. The others are counted all the same."""
    return Unknown(
        Why.BAD_SHAPE,
        f"Job {shortened(job.id)} ({job.place}) has a number that is none, or a time at which no"
        " job was added (timestamp, processedOn: milliseconds since 1970; opts.delay, its attempts"
        " or its score), or options too long to be read, or its key is no hash, so how long the"
        " oldest job waits is not known; correct the job or remove it.",
        at,
    )


class SimilarQueues:
    """Queues that are there, for the sentence about one that is not: searched for rarely, and never
    by walking all keys."""

    def __init__(
        self,
        server: RedisServer,
        *,
        timer: Callable[[], float],
        most_keys: int,
        every: timedelta,
    ) -> None:
        self._server = server
        self._timer = timer
        self._rounds = max(1, most_keys // _SCAN_COUNT)
        self._every = every.total_seconds()
        self._found: set[str] = set()
        self._not_before = 0.0

    async def near(self, keys: Keys, clients: Clients) -> set[str]:
        """As prefix:name: those with workers, and those whose key a short search meets."""
        if self._timer() >= self._not_before:
            self._not_before = self._timer() + self._every
            self._found = await self._scan(keys)
        return self._found | {f"{prefix}:{name}" for prefix, name in clients.workers}

    async def _scan(self, keys: Keys) -> set[str]:
        found, cursor = set[str](), "0"
        for _ in range(self._rounds):
            command = ("SCAN", cursor, "MATCH", "*" + _META, "COUNT", _SCAN_COUNT)
            (answer,) = await self._server.pipeline([command], keys=[keys.of("id")])
            if isinstance(answer, RedisFault):
                break  # not allowed: the sentence does without
            cursor, names = answer
            found.update(name.removesuffix(_META) for name in names)
            if cursor == "0":
                break
        return found
