"""The picture is drawn for every kind of run; its layout is for people to judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import synthetic
from demo.recording import Recording
from demo.timeline import draw

MADE = synthetic.recording()


def test_both_formats(tmp_path: Path) -> None:
    png, svg = tmp_path / "timeline.png", tmp_path / "timeline.svg"
    draw(MADE, png, svg, subtitle="a subtitle")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize("missing", ["jobs", "connections", "workload", "operator", "clients"])
def test_gaps_are_drawn_as_gaps(tmp_path: Path, missing: str) -> None:
    samples = tuple(
        s.model_copy(update={missing: None}) if 30 <= s.t <= 50 else s for s in MADE.samples
    )
    about = MADE.about.model_copy(
        update={"disturbance": "silence", "relief": "over", "disturbed": ((30.0, 50.0),)}
    )
    draw(Recording(about=about, samples=samples), tmp_path / "timeline.svg")


def test_a_run_cut_short_is_drawn_as_well(tmp_path: Path) -> None:
    short = Recording(about=MADE.about, samples=MADE.samples[:5])
    draw(short, tmp_path / "timeline.svg")
