"""What is made once per key, and forgotten when nobody asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.connections.kept import CHECKED_EVERY, FORGET_AFTER, Kept


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_is_made_once_per_key() -> None:
    kept = Kept(Clock())
    one = kept.get("one", object)
    assert kept.get("one", object) is one
    assert kept.get("two", object) is not one


def test_what_nobody_asks_for_is_forgotten_and_the_others_are_not() -> None:
    clock = Clock()
    kept = Kept(clock)
    forgotten, used = kept.get("forgotten", object), kept.get("used", object)
    while clock.now <= FORGET_AFTER.total_seconds():
        clock.now += CHECKED_EVERY.total_seconds() + 1
        assert kept.get("used", object) is used
    assert kept.get("forgotten", object) is not forgotten
    assert kept.get("used", object) is used
