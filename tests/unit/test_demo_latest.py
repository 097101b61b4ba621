"""Answers have an age, and a source that hangs holds nobody up."""

from __future__ import annotations

import threading
import time

import pytest

from demo import latest
from demo.latest import Latest


def wait_for(source: Latest[int], value: int | None) -> None:
    deadline = time.monotonic() + 60
    while source.value != value:
        assert time.monotonic() < deadline, source.value
        time.sleep(0.01)


def test_an_old_answer_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latest, "STOP_SECONDS", 0.1)
    hang = threading.Event()
    answers = iter((7,))

    def read() -> int:
        for answer in answers:
            return answer
        hang.wait(60)
        return 8

    source = Latest("source", read, expected=(), every=0.01, fresh=3)
    source.start()
    wait_for(source, 7)
    wait_for(source, None)
    before = time.monotonic()
    source.stop()
    assert time.monotonic() - before < 30
    hang.set()


def test_an_expected_error_is_a_gap_with_a_reason() -> None:
    def read() -> int:
        raise OSError("refused\nwith details")

    source = Latest("source", read, expected=(OSError,), every=0.01)
    source.start()
    deadline = time.monotonic() + 60
    while not source.problem and time.monotonic() < deadline:
        time.sleep(0.01)
    source.stop()
    assert source.value is None
    assert "refused" in source.problem
    assert "details" not in source.problem


def test_closes_what_it_used_when_it_stops() -> None:
    closed = threading.Event()
    source = Latest("source", lambda: 1, expected=(), close=closed.set, every=0.01)
    source.start()
    wait_for(source, 1)
    source.stop()
    assert closed.is_set()
