"""Pauses of ours at a place that the spec names no more: another table, another kind, another
Secret, another producer under the name. Pure.

A manifest is applied in the middle of an incident too, and is never refused for what is paused. The
pause at the old place is ours to release (P4). Its entry goes on under the producer's name and the
time of the pause, says where it is and how to get there, and is released first; then the new place
counts, as if it had just been added. One that cannot be released is reported; nothing waits for it.

| of the place      | the reading at the new one                 | the pause                    |
|-------------------|--------------------------------------------|------------------------------|
| nothing changed   | any                                        | as ever                      |
| the Secret's name | is of the very server where it was made    | is there: the way was new    |
| anything          | shows our token, and may be of that server | is there, spelt in a new way |
| the Secret's name | missing                                    | stays until there is one     |
| anything          | any other                                  | is at the former place       |

A generator of Secrets names each version again and prunes the one before, so a new name alone says
nothing of the server. An intent without a reading may have been carried out at the old place, and
must not be repeated at another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from starforge_backlog.api.breaker_status import FORMER
from starforge_backlog.api.database_tls import DatabaseTls
from starforge_backlog.api.policy import (
    DATABASE_TLS,
    DATABASE_URL,
    Producer,
    QueueBacklogPolicySpec,
)
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.api.status import PauseState, PauseStatus
from starforge_backlog.decide.pauses.server_identity import made_at, same_server, surely_same_server
from starforge_backlog.decide.pauses.standing import OURS
from starforge_backlog.decide.pauses.ways import carries_token
from starforge_backlog.snapshot import (
    FlagValue,
    Known,
    ProducerReading,
    Reading,
    Unknown,
    Why,
)

_READ_NEXT = "its place is another one now; it is read there with the next pass"


Readings = Mapping[str, Reading[ProducerReading]]


def follow_places(
    spec: QueueBacklogPolicySpec,
    entries: tuple[PauseStatus, ...],
    readings: Readings,
    now: datetime,
) -> tuple[tuple[PauseStatus, ...], Readings]:
    """The memory with each pause where it is, and the readings without those that were made for
    an entry of another place."""
    kept: list[PauseStatus] = []
    unread: dict[str, Reading[ProducerReading]] = {}
    for entry in entries:
        producer = spec.producer(entry.producer)
        if producer is None or not entry.locator or entry.state is PauseState.REFUSED:
            kept.append(entry)
            continue
        match _is_there(spec, producer, entry, readings.get(entry.producer)):
            case None:
                kept.append(entry)
            case True:
                kept.append(entry.model_copy(update={"locator": spec.locator(producer)}))
            case False:
                # What others did to it at the old place is their business now.
                if entry.state in OURS or entry.state is PauseState.UNRECORDED:
                    kept.append(_former(entry))
                unread[entry.producer] = Unknown(Why.NOT_YET, _READ_NEXT, now)
    return tuple(kept), {**readings, **unread}


def located(entry: PauseStatus) -> Producer | None:
    """The producer as the entry's locator has it; None for an entry without a place."""
    for way, text in entry.locator.items():
        if way in {DATABASE_URL, DATABASE_TLS}:
            continue
        try:
            return Producer.model_validate({"name": formerly(entry), way: json.loads(text)})
        except ValueError:
            return None  # edited by hand; the spec may still know
    return None


def database_of(entry: PauseStatus) -> SecretValue | None:
    """The reference behind `spec.database.url` when the pause was made; None where the pause is in
    no database, or the entry is of a version that did not keep it."""
    try:
        return SecretValue.model_validate_json(entry.locator.get(DATABASE_URL, ""))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Way:
    """A producer to search for, and the reference to its database."""

    producer: Producer | None
    database: SecretValue | None
    tls: DatabaseTls | None
    only_if_same: bool = False  # the server there must be the one where the pause was made


def ways_to(spec: QueueBacklogPolicySpec, held: PauseStatus) -> tuple[Way, ...]:
    """How to reach a pause, one after the other: where its entry says that it is.

    Where the spec names the same place, the spec's way to it comes first: a login that was
    corrected must count, and the Secret of old may have been pruned. By another Secret only to the
    very server where the pause was made.
    """
    named, kept = spec.producer(formerly(held)), located(held)
    database = spec.database.url if spec.database is not None else None
    tls = spec.database.tls if spec.database is not None else None
    if kept is None:
        return (Way(named, database, tls),)
    same = named is not None and named.place == kept.place
    as_named = named if same else kept
    was = database_of(held) or database
    if kept.in_database and was != database:
        by_now = (Way(as_named, database, tls, only_if_same=True),) if database is not None else ()
        return (*by_now, Way(kept, was, _tls_of(held)))
    now = named.queue if named is not None else None
    if kept.queue is not None and now is not None and now.url != kept.queue.url:
        queue = kept.queue.model_copy(update={"url": now.url, "tls": now.tls})
        by_now = (Way(kept.model_copy(update={"queue": queue}), None, None, only_if_same=True),)
        return (*by_now, Way(kept, None, None))
    return (Way(as_named, database, tls),)


def _tls_of(entry: PauseStatus) -> DatabaseTls | None:
    try:
        return DatabaseTls.model_validate_json(entry.locator.get(DATABASE_TLS, ""))
    except ValueError:
        return None


def is_former(entry: PauseStatus) -> bool:
    """Whether it is a pause at a place that the spec names no more."""
    return FORMER in entry.producer


def is_stuck(entry: PauseStatus) -> bool:
    """Whether such a pause could not be released: a person may have to."""
    return is_former(entry) and entry.failed


def formerly(entry: PauseStatus) -> str:
    """The name that its producer has, or had, in the spec."""
    return entry.producer.partition(FORMER)[0]


def _is_there(
    spec: QueueBacklogPolicySpec,
    producer: Producer,
    entry: PauseStatus,
    reading: Reading[ProducerReading] | None,
) -> bool | None:
    """True: the pause is where the spec says, in other words. False: it is not. None: nothing
    changed, or it is not known yet."""
    now = spec.locator(producer)
    if entry.locator == now:
        return None
    kept = located(entry)
    same_place = kept is not None and kept.place == producer.place
    if same_place and _same_secret(entry, kept, producer, now):
        return True  # another login, or an entry of an older version
    if not isinstance(reading, Known):
        return None if same_place and entry.state is not PauseState.INTENDED else False
    there = reading.value
    if same_place and surely_same_server(made_at(entry), there.where):
        return True
    shown = there.value is FlagValue.PAUSED and bool(entry.token) and there.token == entry.token
    return shown and carries_token(producer) and same_server(made_at(entry), there.where)


def _same_secret(
    entry: PauseStatus, kept: Producer | None, producer: Producer, now: Mapping[str, str]
) -> bool:
    """Whether the way to its server is what it was."""
    if producer.in_database:
        was = entry.locator.get(DATABASE_URL)
        return was is None or was == now.get(DATABASE_URL)
    if kept is None or kept.queue is None or producer.queue is None:
        return True  # the place says it all
    return kept.queue.url == producer.queue.url


def _former(entry: PauseStatus) -> PauseStatus:
    made = entry.since.astimezone(UTC)
    name = f"{entry.producer}{FORMER}{made:%Y-%m-%dT%H:%M:%SZ}"
    return entry.model_copy(update={"producer": name, "failed": False})
