"""Due times of jobs that are held back: far in the future, whose hold it is, and the way back.

A held job is due `BASE` (a hundred years) plus some *slots* of four years later than before, in
each of StarForge's schemas and with no column of ours. Taking the same hours off again is exact:
hours are not days, which a session's time zone could stretch by a change of clocks, and both kinds
of timestamp are whole microseconds.

A due time alone proves nothing: an application may have far dates of its own. What proves a hold is
that its slot was *free* when it was chosen, which is in the policy's status before the first job is
moved; see docs/pausing-rows-and-queues.md. A slot that lies over the turn of a decade is never
chosen: that is where people put dates that mean "never".

A slot is as wide as the due times that it can hold, so neighbours never overlap:

    original due time     now − 1 year … now + 1 year   (`HELD_PAST`, `HELD_AHEAD`)
    the hold may last     2 years                       (`LONGEST_HOLD`)

Jobs outside of that (due since more than a year, or at -infinity, or NULL) are left as they are.
Times end before the year 9999, the last one that Python, JavaScript and most tools can read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from itertools import count
from typing import Final

from psycopg import sql

_YEAR: Final = 8_766  # hours: 365.25 days
BASE: Final = 100 * _YEAR  # hours; no application plans that far ahead
HELD_PAST: Final = _YEAR
HELD_AHEAD: Final = _YEAR
LONGEST_HOLD: Final = 2 * _YEAR
WIDTH: Final = HELD_PAST + HELD_AHEAD + LONGEST_HOLD
# More slots would pass the year 9000.
SLOTS: Final = 1_700


def slot_of(holder: str) -> int:
    """The slot that a holder asks for first, the same in every process and for ever."""
    return int.from_bytes(sha256(holder.encode()).digest()[:8], "big") % SLOTS


def slots_of(holder: str) -> Iterator[int]:
    """The slots that a holder asks for, one after the other until one is free."""
    yield slot_of(holder)
    for again in count(1):
        yield slot_of(f"{holder} {again}")


def has_round_dates(slot: int, now: datetime) -> bool:
    """Whether a first of January of a year like 2500 lies in the slot, now or before a hold that
    begins now has to end."""
    first, last = slot_range(slot)
    begins, ends = (now.year + hours / _YEAR for hours in (first, last + LONGEST_HOLD))
    # A year of margin: a moment is up to a year later than its year's number.
    return begins // 10 != (ends + 1) // 10


def shift_hours(slot: int) -> int:
    """Hours by which the jobs of this slot are due later."""
    return BASE + slot * WIDTH


def slot_range(slot: int) -> tuple[int, int]:
    """Hours from now between which the due times of this slot lie, the second one excluded."""
    first = shift_hours(slot) - HELD_PAST - LONGEST_HOLD
    return first, first + WIDTH


FIRST: Final = slot_range(0)[0]
"""Hours from now at which held due times begin; earlier ones are the application's own."""

LAST: Final = slot_range(SLOTS - 1)[1]
"""Hours from now at which they end."""


def from_now(hours: int) -> sql.Composed:
    """That moment, constant within a statement, so that an index can be used."""
    return sql.SQL("now() + make_interval(hours => {})").format(sql.Literal(hours))


def is_held(due: sql.Composable) -> sql.Composed:
    """Whether a due time is that of a job held by anybody, as a range of an index."""
    return sql.SQL("({due} >= {first} AND {due} < {last})").format(
        due=due, first=from_now(FIRST), last=from_now(LAST)
    )


def slot_in_sql(due: sql.Composable) -> sql.Composed:
    """The slot of a held due time."""
    # Epochs: PostgreSQL before 17 cannot subtract infinite timestamps, and an interval's days
    # and hours are distinguished.
    return sql.SQL(
        "floor((extract(epoch FROM ({due})::timestamptz) - extract(epoch FROM now())"
        " - {first}) / {width})::int"
    ).format(due=due, first=sql.Literal(FIRST * 3600), width=sql.Literal(WIDTH * 3600))


def original(due: sql.Composable) -> sql.Composed:
    """The due time that a held job had before."""
    return sql.SQL("(({due}) - make_interval(hours => {base} + {width} * {slot}))").format(
        due=due, base=sql.Literal(BASE), width=sql.Literal(WIDTH), slot=slot_in_sql(due)
    )
