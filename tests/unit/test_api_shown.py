"""Text from outside is cut where it enters: one line, bounded, and still distinct."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starforge_backlog.api.shown import SHOWN_CHARACTERS, shortened


@pytest.mark.parametrize("text", ["", "process_snapshot", "größe", "x" * SHOWN_CHARACTERS])
def test_what_fits_is_not_changed(text: str) -> None:
    assert shortened(text) == text


def test_long_names_that_begin_alike_stay_two_names() -> None:
    names = {shortened("p" * 80_000 + str(n)) for n in range(100)}
    assert len(names) == 100
    assert {len(name) for name in names} == {SHOWN_CHARACTERS}


@given(st.text(st.characters(codec=None)), st.integers(20, 300))
def test_any_text_becomes_one_bounded_line_that_json_can_hold(text: str, most: int) -> None:
    shown = shortened(text, most)
    assert len(shown) <= most
    assert shown.isprintable()
    json.dumps(shown).encode()
    shown.encode()
    assert shortened(text, most) == shown
