"""Status words without a known meaning, in a table that is too big to be read in full.

| the table has                                  | then                                            |
|------------------------------------------------|-------------------------------------------------|
| an index that starts with the status, all rows | each reading jumps from word to word: none of   |
|                                                | them is missed, jobs are exact up to a cap      |
| none                                           | each read of the catalog (5 min) reads 1,000    |
|                                                | blocks, and the statistics of the last ANALYZE  |

What the second way cannot notice is a word of few jobs that came after the last ANALYZE.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from starforge_backlog.api.shown import shortened
from starforge_backlog.decide.numbers import digits
from starforge_backlog.queues.postgres import statements
from starforge_backlog.queues.postgres.catalog import JobTable
from starforge_backlog.queues.postgres.depth import Strange, add, sampled_depth
from starforge_backlog.queues.postgres.fetches import Fetches
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.queues.postgres.words import NO_WORD, Group
from starforge_backlog.snapshot import Confidence, Count

# Words that one message names.
_MOST_SHOWN = 5


async def by_index(
    database: Fetches, table: JobTable, settings: ObserverSettings
) -> tuple[Strange, ...]:
    """All of them, of any type. Raises DatabaseFault."""
    limit = settings.least_counted
    rows = await database.fetch(statements.words_by_index(table, limit), by_index=True)
    return tuple(
        Strange(
            row["word"] or NO_WORD,
            Count(
                row["jobs"],
                Confidence.EXACT if row["jobs"] < limit else Confidence.AT_LEAST,
            ),
        )
        for row in rows
        if row["jobs"] and table.words.group_of(row["word"]) is Group.OTHER
    )


async def by_sample(
    database: Fetches, table: JobTable, pages: int, rows: int, settings: ObserverSettings
) -> tuple[Strange, ...]:
    """Those that a sample of blocks shows, and those that the statistics know; `pages` and `rows`
    are those of the table. Raises DatabaseFault."""
    percent = min(100.0, 100.0 * settings.word_pages / max(pages, 1))
    sampled = sampled_depth(
        await database.fetch(statements.sample(table, percent)),
        table.words,
        100.0 / percent,
        most_groups=statements.MOST_GROUPS,
    )
    seen = {part.word for part in sampled.strange}
    known = (part for part in by_statistics(table, rows) if part.word not in seen)
    return (*sampled.strange, *known)


def by_statistics(table: JobTable, rows: int) -> tuple[Strange, ...]:
    """Those that the last ANALYZE knew, of a table with so many rows. Reads nothing."""
    known = (
        Strange(word, Count(round(share * rows), Confidence.ESTIMATED))
        for word, share in table.common.items()
        if table.words.group_of(word) is Group.OTHER
    )
    return tuple(part for part in known if part.jobs.value)


def strange_words_text(found: Iterable[Strange], queue: str) -> str:
    """The words with their jobs and the fix, as a sentence. Numbers are rounded: a text that
    changes with every job would be a write with every pass (P7)."""
    jobs: dict[str, list[Count]] = {}
    for part in found:
        jobs.setdefault(part.word, []).append(part.jobs)
    sums = sorted(
        ((add(*counts), word) for word, counts in jobs.items()), key=lambda s: -s[0].value
    )
    shown = ", ".join(
        f"{shortened(word)} ({replace(count, value=int(digits(count.value, 2)))} jobs)"
        for count, word in sums[:_MOST_SHOWN]
    )
    more = f" and {len(sums) - _MOST_SHOWN} more" if len(sums) > _MOST_SHOWN else ""
    return (
        f"Status words that are neither known nor mapped: {shown}{more}; such jobs may be waiting."
        f" Map them in spec.queues[{queue}].postgres.statuses, or list them in statuses.ignored."
    )
