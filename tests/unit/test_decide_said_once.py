"""One fault, one sentence."""

from __future__ import annotations

import pytest

from starforge_backlog.decide.said_once import said_once


@pytest.mark.parametrize(
    ("sentences", "said"),
    [
        ([], ""),
        ([("a", "gone")], "a: gone"),
        ([("a", "gone"), ("b", "gone")], "a, b: gone"),
        ([("a", "gone"), ("a", "gone")], "a: gone"),
        ([("a", "gone"), ("b", "full"), ("c", "gone")], "a, c: gone; b: full"),
        ([("a", "gone."), ("b", "gone. (The row x.)")], "a, b: gone."),
        ([("a", "gone"), ("b", "gone and more")], "a: gone; b: gone and more"),
    ],
)
def test_each_sentence_once(sentences: list[tuple[str, str]], said: str) -> None:
    assert said_once(sentences) == said


def test_the_link_between_subjects_and_sentence() -> None:
    assert said_once([("waiting>=5", "gone")], link=" unknown: ") == "waiting>=5 unknown: gone"
