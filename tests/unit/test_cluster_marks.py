"""What stands in an annotation that anybody may have written."""

from __future__ import annotations

import pytest

from starforge_backlog.cluster.marks import ANNOTATION, annotation_with, mark_of

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text",
    [DEEP, "no JSON", "[]", "null", '{"data.a": 1}', '{"data.a": {"token": 1}}'],
    ids=["deep", "none", "list", "null", "number", "token"],
)
def test_what_nobody_of_us_wrote_is_no_mark(text: str) -> None:
    found = {"metadata": {"annotations": {ANNOTATION: text}}}
    assert mark_of(found, "data.a") is None
    annotation_with(found, "data.a", None)


def test_a_value_before_that_is_no_json_is_no_mark() -> None:
    text = f'{{"data.a": {{"token": "t", "previous": "{DEEP}"}}}}'
    assert mark_of({"metadata": {"annotations": {ANNOTATION: text}}}, "data.a") is None
