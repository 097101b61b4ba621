"""The picture of a run: `python -m demo.timeline RECORDING OUT.png OUT.svg`.

Four panels over one time axis (five where there is a background queue), the pause as a band through
all of them, and the operator's actions as numbers on top with a legend below: labels beside the
curves collide, numbers do not.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from demo.actions import Act, Kind, acts, grouped, pauses
from demo.recording import Recording
from demo.summary import headline, summarize
from demo.timeline_panels import (
    INK,
    MUTED,
    PAPER,
    STYLE,
    draw_backfill,
    draw_clients,
    draw_connections,
    draw_queue,
    draw_replicas,
)

PAUSE = "#f6c445"
TROUBLE = "#d64545"
COLOURS = {
    Kind.UP: "#2f6fde",
    Kind.DOWN: "#5b7083",
    Kind.REVERT: TROUBLE,
    Kind.TRIP: "#c27c00",
    Kind.PAUSE: "#c27c00",
    Kind.RESUME: "#2b8a57",
    Kind.STOP: "#c27c00",
    Kind.RELEASE: "#2b8a57",
    Kind.PROBE: "#2b8a57",
    Kind.CLOSE: "#2b8a57",
    Kind.DISTURBANCE: TROUBLE,
    Kind.CALM: TROUBLE,
}
PANELS: Sequence[tuple[float, Callable[[Any, Recording], None]]] = (
    (1.0, draw_clients),
    (1.7, draw_queue),
    (1.15, draw_replicas),
    (1.5, draw_connections),
)
"""Share of the height, and who fills it."""
WIDTH_INCHES, PANEL_INCHES = 12.0, 8.2
MARKER_SHARE = 0.018
"""Width of a number's circle as a share of the time axis."""
LINE_INCHES = 0.235
"""Height of one line of the legend."""


def draw(recording: Recording, *paths: Path, subtitle: str = "") -> None:
    """Draw the run into every path given; the suffix decides the format."""
    happened = grouped(acts(recording.about, recording.samples))
    rows = (len(happened) + 1) // 2
    legend = 0.35 + LINE_INCHES * rows
    head = 1.3
    panels = list(PANELS)
    if recording.about.backfill_jobs:
        panels.insert(2, (0.8, draw_backfill))
    ratios = [share for share, _ in panels]
    inches = PANEL_INCHES * sum(ratios) / sum(share for share, _ in PANELS)
    height = head + inches + legend
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(panels),
            1,
            figsize=(WIDTH_INCHES, height),
            sharex=True,
            gridspec_kw={"height_ratios": ratios, "hspace": 0.2},
        )
        figure.subplots_adjust(
            left=0.075, right=0.865, top=1 - head / height, bottom=(legend + 0.45) / height
        )
        for axis, (_, fill) in zip(axes, panels, strict=True):
            fill(axis, recording)
        _time_axis(axes, recording)
        _bands(axes, recording)
        samples = recording.samples
        _markers(axes, happened, samples[-1].t - samples[0].t)
        _head(figure, recording, subtitle, height)
        _legend(figure, happened, legend / height, height)
        for path in paths:
            figure.savefig(path, dpi=150, facecolor=PAPER)
        plt.close(figure)


def _time_axis(axes: Sequence[Any], recording: Recording) -> None:
    start, end = recording.samples[0].t, recording.samples[-1].t
    step = 15 if end - start <= 240 else 30
    ticks = [t for t in range(0, int(end) + 1, step) if t >= start]
    axes[-1].set_xlim(start, end)
    axes[-1].set_xticks(ticks, [f"{t // 60}:{t % 60:02d}" for t in ticks])
    axes[-1].set_xlabel("minutes since the clients started", color=MUTED, labelpad=6)


def _bands(axes: Sequence[Any], recording: Recording) -> None:
    for start, end in pauses(recording.samples):
        for axis in axes:
            axis.axvspan(start, end, color=PAUSE, alpha=0.2, linewidth=0, zorder=0)
        _name_band(axes[0], start, end, f"ingestion paused, {end - start:.0f} s", "#8a5a00", 0.93)
    for start, end in recording.about.disturbed:
        for axis in axes:
            axis.axvspan(
                start,
                end,
                facecolor="none",
                edgecolor=TROUBLE,
                alpha=0.28,
                hatch="///",
                linewidth=0,
                zorder=0,
            )
        # In another panel than the pause's name: both bands may cover the same time.
        words = textwrap.fill(recording.about.disturbance, 18)
        _name_band(axes[1], start, end, words, TROUBLE, 0.7)


def _name_band(axis: Any, start: float, end: float, text: str, colour: str, y: float) -> None:
    axis.text(
        (start + end) / 2,
        y,
        text,
        transform=axis.get_xaxis_transform(),
        ha="center",
        va="top",
        fontsize=8.5,
        fontweight="bold",
        color=colour,
        zorder=6,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.75},
    )


def _markers(axes: Sequence[Any], happened: Sequence[Act], seconds: float) -> None:
    apart = seconds * MARKER_SHARE
    free_from = float("-inf")
    for number, act in enumerate(happened, start=1):
        t, colour = act.t, COLOURS[act.kind]
        for axis in axes:
            axis.axvline(t, color=colour, linewidth=0.9, linestyle=(0, (3, 2.5)), zorder=1.5)
        # Beside its line where another number is in the way; a slanted stroke leads to the line.
        at = max(t, free_from)
        free_from = at + apart
        across = axes[0].get_xaxis_transform()
        axes[0].annotate(
            "",
            xy=(t, 1.0),
            xycoords=across,
            xytext=(at, 1.24),
            textcoords=across,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.9, "shrinkA": 0},
            annotation_clip=False,
        )
        axes[0].annotate(
            str(number),
            xy=(at, 1.28),
            xycoords=across,
            ha="center",
            va="center",
            fontsize=8 if number < 10 else 6.5,
            fontweight="bold",
            color="white",
            bbox={"boxstyle": "circle,pad=0.28", "facecolor": colour, "edgecolor": "none"},
            annotation_clip=False,
        )


def _head(figure: Any, recording: Recording, subtitle: str, height: float) -> None:
    figure.text(
        0.028,
        1 - 0.36 / height,
        recording.about.title,
        fontsize=16,
        fontweight="bold",
        color=INK,
        va="center",
    )
    figure.text(0.028, 1 - 0.64 / height, subtitle, fontsize=10, color=MUTED, va="center")


def _legend(figure: Any, happened: Sequence[Act], top: float, height: float) -> None:
    rows = (len(happened) + 1) // 2
    for index, act in enumerate(happened):
        column, row = divmod(index, rows)
        x = 0.038 + column * 0.485
        y = top - (0.12 + LINE_INCHES * row) / height
        colour = COLOURS[act.kind]
        figure.text(
            x,
            y,
            str(index + 1),
            fontsize=7.5 if index < 9 else 6,
            fontweight="bold",
            color="white",
            ha="center",
            va="center",
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": colour, "edgecolor": "none"},
        )
        seconds = int(act.t)
        figure.text(
            x + 0.014,
            y,
            f"{seconds // 60}:{seconds % 60:02d}",
            fontsize=9,
            color=MUTED,
            va="center",
        )
        figure.text(
            x + 0.043,
            y,
            _shortened(f"{act.text}: {act.why}" if act.why else act.text),
            fontsize=9,
            color=INK,
            va="center",
        )


def _shortened(text: str, most: int = 76) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def main() -> int:
    """Draw again what was recorded."""
    if len(sys.argv) < 3:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    recording = Recording.read(Path(sys.argv[1]))
    draw(recording, *map(Path, sys.argv[2:]), subtitle=headline(summarize(recording)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
