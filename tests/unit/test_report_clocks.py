"""Clocks that start again are said: a queue under another name seems calm for its first minutes."""

from __future__ import annotations

from datetime import UTC, datetime

from starforge_backlog.api.status import QueueBacklogPolicyStatus, QueueStatus
from starforge_backlog.report.transitions import Note, transitions

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def notes(before: tuple[QueueStatus, ...], after: tuple[QueueStatus, ...]) -> list[Note]:
    old, new = (QueueBacklogPolicyStatus(queues=queues) for queues in (before, after))
    return [note for note in transitions(old, new, ()) if note.reason == "ClocksRestarted"]


JOBS, WORK = QueueStatus(name="jobs"), QueueStatus(name="work")
LATE = QueueStatus(name="jobs", missed_since=NOW, missed=("waiting 9000 > 500",))


def test_a_queue_that_was_renamed() -> None:
    (note,) = notes((JOBS,), (WORK,))
    assert not note.warning
    assert "queues jobs were removed and work were added" in note.text


def test_in_the_middle_of_a_miss_it_is_a_warning() -> None:
    (note,) = notes((LATE, WORK), (QueueStatus(name="other"), WORK))
    assert note.warning
    assert note.text.endswith("jobs missed its objectives at that moment")


def test_nothing_is_said_of_queues_that_only_come_or_only_go() -> None:
    assert notes((), (JOBS,)) == []
    assert notes((JOBS,), (JOBS, WORK)) == []
    assert notes((JOBS, WORK), (JOBS,)) == []
