"""Is it bad? Each queue against what its policy calls healthy (runbook, *Key signals*)."""

from __future__ import annotations

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import Queue
from starforge_backlog.decide.need import told
from starforge_backlog.snapshot import Known, QueueReading

# Below this many ended jobs a ratio is noise: one failure of three is not 33 % (Trip.minSamples).
MIN_SAMPLES = 20


def missed(queue: Queue, reading: QueueReading) -> tuple[str, ...]:
    """The objectives that are missed at this moment, each with its numbers.

    Unknown readings miss nothing and meet nothing (P2); `readable` says whether there are any.
    What a pause of ours holds back is not done: it misses them like what waits.
    """
    found = []
    held = reading.held
    also = f" and {held.count} held back" if held is not None else ""
    match reading.waiting:
        case Known(count) if count.value + _held(reading) > queue.objectives.waiting:
            found.append(f"waiting {count}{also} > {queue.objectives.waiting}")
        case _:
            pass
    match reading.oldest_due_age:
        case Known(age) if age > queue.oldest_age:
            found.append(f"oldest {format_duration(age)} > {format_duration(queue.oldest_age)}")
        case _:
            pass
    if held is not None and held.oldest is not None and held.oldest > queue.oldest_age:
        waited, most = format_duration(held.oldest), format_duration(queue.oldest_age)
        found.append(f"oldest held back {waited} > {most}")
    match reading.outcomes:
        case Known(outcomes) if (
            outcomes.samples >= MIN_SAMPLES
            and outcomes.failed_percent > queue.objectives.failed_percent
        ):
            found.append(
                f"failed {outcomes.failed_percent:.1f}% > {queue.objectives.failed_percent}%"
            )
        case _:
            pass
    return tuple(found)


def _held(reading: QueueReading) -> int:
    return 0 if reading.held is None else reading.held.count.value


def readable(reading: QueueReading) -> bool:
    """Whether backlog and age are known: without them nothing can be called healthy. An age that
    the policy names no source for is none to wait for."""
    aged = isinstance(reading.oldest_due_age, Known) or not told(reading.oldest_due_age)
    return isinstance(reading.waiting, Known) and aged
