"""A recording survives a kill, and what was unknown stays unknown."""

from __future__ import annotations

from pathlib import Path

from demo import synthetic
from demo.recording import Recording, write


def test_reads_what_was_written(tmp_path: Path) -> None:
    made = synthetic.recording(20)
    path = tmp_path / "recording.jsonl"
    write(path, made.about, made.samples)
    assert Recording.read(path) == made


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    made = synthetic.recording(20)
    path = tmp_path / "recording.jsonl"
    write(path, made.about, made.samples)
    path.write_bytes(path.read_bytes()[:-30])
    assert Recording.read(path).samples == made.samples[:-1]


def test_the_last_description_is_the_right_one(tmp_path: Path) -> None:
    made = synthetic.recording(5)
    later = made.about.model_copy(update={"disturbed": ((3.0, 9.0),)})
    path = tmp_path / "recording.jsonl"
    write(path, made.about, made.samples)
    with path.open("a") as out:
        out.write(later.model_dump_json() + "\n")
    assert Recording.read(path).about == later


def test_a_silent_database_is_not_an_empty_one(tmp_path: Path) -> None:
    made = synthetic.recording(3)
    dark = made.samples[1].model_copy(update={"jobs": None, "connections": None})
    path = tmp_path / "recording.jsonl"
    write(path, made.about, (made.samples[0], dark))
    assert Recording.read(path).samples[1].jobs is None
