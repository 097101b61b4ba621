"""What a person sees: plain lines and the live panel."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from demo import synthetic
from demo.display import Plain, clock, numbers
from demo.panel import Panel

MADE = synthetic.recording()


@pytest.mark.parametrize(
    ("t", "text"), [(0, "0:00"), (-0.4, "0:00"), (-3, "-0:03"), (61.9, "1:01")]
)
def test_clock(t: float, text: str) -> None:
    assert clock(t) == text


def test_a_silent_database_is_said_to_be_silent() -> None:
    dark = MADE.samples[40].model_copy(
        update={"jobs": None, "connections": None, "flag_paused": None}
    )
    assert numbers(dark) == "the database does not answer, 6 of 6 replicas (6 ready)"


def test_plain_lines_say_a_sentence_once(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Plain(MADE.about)
    for sample in MADE.samples[:15]:
        plain.show(sample)
    lines = capsys.readouterr().out.splitlines()
    assert sum("operator:" in line for line in lines) == 1
    assert sum("waiting, oldest" in line for line in lines) == 3


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
def test_the_panel_fits(size: tuple[int, int]) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=size[0], height=size[1])
    with Panel(console, MADE.about, 170) as panel:
        for sample in MADE.samples[:70]:
            panel.show(sample)
        panel.show(MADE.samples[70].model_copy(update={"jobs": None, "connections": None}))
    text = out.getvalue()
    for words in ("PAUSED", "waiting", "replicas", "the database does not answer"):
        assert words in text
