"""Due times of jobs that are held back: far in the future, whose hold it is, and the way back.

A held job is due `BASE` (a hundred years) plus some *slots* of four years later than before. The
slot is the holder's, so a row tells by itself whose it is, in each of StarForge's schemas and with
no column of ours. Taking the same hours off again is exact: hours are not days, which a session's
time zone could stretch by a change of clocks, and both kinds of timestamp are whole microseconds.

A slot is as wide as the due times that it can hold, so neighbours never overlap:

    original due time     now − 1 year … now + 1 year   (`HELD_PAST`, `HELD_AHEAD`)
    the hold may last     2 years                       (`LONGEST_HOLD`)

Jobs outside of that (due since more than a year, or at -infinity, or NULL) are left as they are.
Times end before the year 9999, the last one that Python, JavaScript and most tools can read.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from psycopg import sql

_YEAR: Final = 8_766  # hours: 365.25 days
BASE: Final = 100 * _YEAR  # hours; no application plans that far ahead
HELD_PAST: Final = _YEAR
HELD_AHEAD: Final = _YEAR
LONGEST_HOLD: Final = 2 * _YEAR
WIDTH: Final = HELD_PAST + HELD_AHEAD + LONGEST_HOLD
# Of two holders on one table, one in 1,700 pairs shares a slot; their jobs would be released
# together, with the due times they had. More slots would pass the year 9000.
SLOTS: Final = 1_700


def slot_of(holder: str) -> int:
    """The slot of a holder, the same in every process and for ever."""
    return int.from_bytes(sha256(holder.encode()).digest()[:8], "big") % SLOTS


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
    # and hours are told apart.
    return sql.SQL(
        "floor((extract(epoch FROM ({due})::timestamptz) - extract(epoch FROM now())"
        " - {first}) / {width})::int"
    ).format(due=due, first=sql.Literal(FIRST * 3600), width=sql.Literal(WIDTH * 3600))


def original(due: sql.Composable) -> sql.Composed:
    """The due time that a held job had before."""
    return sql.SQL("(({due}) - make_interval(hours => {base} + {width} * {slot}))").format(
        due=due, base=sql.Literal(BASE), width=sql.Literal(WIDTH), slot=slot_in_sql(due)
    )
