"""The panels of the picture: clients, queue, background queue, replicas, connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from demo.actions import stops
from demo.recording import Recording
from demo.summary import rates

INK, MUTED, PAPER, GRID = "#1d2733", "#66727f", "#ffffff", "#e6eaee"
ACCEPTED, TURNED_AWAY = "#3f9b6c", "#e0a030"
QUEUE, AGE = "#6a4fb5", "#b5698f"
BACKGROUND = "#7a8a3c"
REPLICAS, BUDGET = "#2f6fde", "#d64545"
WEB, WORKERS, STRANGER, REST = "#9fb3c8", "#2f6fde", "#d64545", "#c9d3dd"

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#b8c1cb",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    # Letters as outlines: a reader of the SVG may not have the font, and labels would collide.
    "svg.fonttype": "path",
    "svg.hashsalt": "starforge",
    "hatch.linewidth": 0.7,
}
NAN = float("nan")
FAR_AWAY = 2.0
"""A limit above this many times the peak played no part, and would flatten the curve."""


def _title(axis: Any, text: str, unit: str) -> None:
    axis.set_title(text, loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=5)
    axis.set_ylabel(unit, color=MUTED, fontsize=8.5, labelpad=5)


def _label(axis: Any, y: float, text: str, colour: str, *, at: float = 1.008) -> None:
    """A name at the right edge, where the curve ends: no legend is needed."""
    axis.annotate(
        text,
        xy=(at, y),
        xycoords=axis.get_yaxis_transform(),
        fontsize=8.5,
        color=colour,
        fontweight="bold",
        va="center",
        annotation_clip=False,
    )


def _spread(axis: Any, labels: Sequence[tuple[float, str, str]], gap: float = 0.115) -> None:
    """Labels at the right edge, pushed apart so that none covers another."""
    low, high = axis.get_ylim()
    distance = (high - low) * gap
    floor = low - distance
    for y, text, colour in sorted(labels):
        floor = max(y, floor + distance)
        _label(axis, floor, text, colour)


def draw_clients(axis: Any, recording: Recording) -> None:
    """What the clients asked for, and what they were answered."""
    points = rates(recording.samples)
    ts = [p[0] for p in points]
    accepted = [p[1] for p in points]
    turned = [p[2] for p in points]
    axis.stackplot(
        ts, accepted, turned, colors=[ACCEPTED, TURNED_AWAY], alpha=0.85, linewidth=0, zorder=2
    )
    top = max((a + b for a, b in zip(accepted, turned, strict=True)), default=1)
    axis.set_ylim(0, top * 1.3)
    axis.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    _title(axis, "Clients", "requests / s")
    answers = [(0.25, "202 accepted", ACCEPTED)]
    if any(value > 1 for value in turned):
        answers.append((0.75, "503, come later", "#b97a10"))
    _spread(axis, [(top * at, text, colour) for at, text, colour in answers], 0.2)


def draw_queue(axis: Any, recording: Recording) -> None:
    """Jobs waiting against the breaker's limit; the oldest job's age beside it."""
    ts = [s.t for s in recording.samples]
    waiting = [s.jobs.waiting if s.jobs else NAN for s in recording.samples]
    axis.fill_between(ts, waiting, color=QUEUE, alpha=0.22, linewidth=0, zorder=2)
    axis.plot(ts, waiting, color=QUEUE, linewidth=2, zorder=3, solid_joinstyle="round")
    limit = recording.about.trip_waiting
    top = max([w for w in waiting if w == w], default=1)  # noqa: PLR0124 - not NaN
    near = limit < top * FAR_AWAY
    axis.set_ylim(0, max(limit if near else top, top, 1) * 1.16)
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _title(axis, "Queue", "jobs waiting")
    if near:
        axis.axhline(limit, color="#c27c00", linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
        _label(axis, limit, "breaker trips", "#c27c00")
    peak = max((w, t) for w, t in zip(waiting, ts, strict=True) if w == w)  # noqa: PLR0124 - not NaN
    axis.annotate(
        f"{peak[0]:,} waiting",
        xy=(peak[1], peak[0]),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        fontweight="bold",
        color=QUEUE,
        zorder=6,
        bbox={"boxstyle": "round,pad=0.1", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.6},
    )
    _draw_age(axis, recording, ts)


def _draw_age(axis: Any, recording: Recording, ts: list[float]) -> None:
    age = [s.jobs.oldest_seconds if s.jobs else NAN for s in recording.samples]
    right = axis.twinx()
    right.plot(ts, age, color=AGE, linewidth=1.2, linestyle=(0, (1.5, 1.5)), zorder=3)
    oldest = max([a for a in age if a == a], default=1)  # noqa: PLR0124 - not NaN
    right.set_ylim(0, max(10.0, oldest) * 1.45)
    right.grid(visible=False)
    right.spines["right"].set_visible(False)
    right.set_yticks([])
    peak = max((a, t) for a, t in zip(age, ts, strict=True) if a == a)  # noqa: PLR0124 - not NaN
    right.annotate(
        f"oldest job {peak[0]:.0f} s",
        xy=(peak[1], peak[0]),
        xytext=(10, -6),
        textcoords="offset points",
        fontsize=8.5,
        color=AGE,
        zorder=6,
    )


def draw_backfill(axis: Any, recording: Recording) -> None:
    """How fast the background queue is worked on, and when it is stopped."""
    points = _speed(recording)
    axis.fill_between(
        [t for t, _ in points],
        [speed for _, speed in points],
        color=BACKGROUND,
        alpha=0.35,
        linewidth=0,
        zorder=2,
    )
    axis.plot(
        [t for t, _ in points], [speed for _, speed in points], color=BACKGROUND, linewidth=1.6
    )
    top = max((speed for _, speed in points), default=1.0)
    axis.set_ylim(0, max(top, 1.0) * 1.45)
    axis.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    _title(axis, "Backfill", "jobs / s")
    for start, end in stops(recording.samples):
        axis.text(
            (start + end) / 2,
            0.5,
            f"stopped, {end - start:.0f} s",
            transform=axis.get_xaxis_transform(),
            ha="center",
            va="center",
            fontsize=8.5,
            fontweight="bold",
            color="#8a5a00",
        )
    _label(axis, top / 2, "done", BACKGROUND)


def _speed(recording: Recording, window: float = 2.5) -> list[tuple[float, float]]:
    """(t, jobs of the background queue done per second), smoothed over a short window."""
    counted = [(s.t, s.backfill.done) for s in recording.samples if s.backfill is not None]
    found: list[tuple[float, float]] = []
    start = 0
    for t, done in counted:
        while t - counted[start][0] > window:
            start += 1
        then, before = counted[start]
        if t > then:
            found.append((t, (done - before) / (t - then)))
    return found


def draw_replicas(axis: Any, recording: Recording) -> None:
    """Replicas as steps below the budget as steps."""
    samples = recording.samples
    ts = [s.t for s in samples]
    replicas = [s.workload.replicas if s.workload else NAN for s in samples]
    ready = [s.workload.ready if s.workload else NAN for s in samples]
    budget = [
        s.operator.budget if s.operator and s.operator.budget is not None else NAN for s in samples
    ]
    axis.fill_between(ts, ready, step="post", color=REPLICAS, alpha=0.2, linewidth=0, zorder=2)
    axis.step(ts, replicas, where="post", color=REPLICAS, linewidth=2.2, zorder=4)
    axis.step(
        ts, budget, where="post", color=BUDGET, linewidth=1.5, linestyle=(0, (4, 2)), zorder=3
    )
    known = [b for b in (*budget, *replicas) if b == b]  # noqa: PLR0124 - not NaN
    axis.set_ylim(0, max(known, default=1) * 1.22)
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _title(axis, "Workers", "replicas")
    last_budget = next((b for b in reversed(budget) if b == b), None)  # noqa: PLR0124 - not NaN
    labels = [(replicas[-1], "replicas", REPLICAS)]
    if last_budget is not None:
        labels.append((last_budget, "budget", BUDGET))
    _spread(axis, labels)


def draw_connections(axis: Any, recording: Recording) -> None:
    """Who holds the database's connections, below the limit and its headroom."""
    samples = recording.samples
    ts = [s.t for s in samples]
    counts = [s.connections for s in samples]
    parts = [
        ("web app and API", WEB, [c.web if c else NAN for c in counts]),
        ("others", REST, [c.operator + c.rest if c else NAN for c in counts]),
        ("another client", STRANGER, [c.strangers if c else NAN for c in counts]),
        ("workers", WORKERS, [c.workers if c else NAN for c in counts]),
    ]
    shown = [p for p in parts if any(v > 0 for v in p[2])]
    axis.stackplot(
        ts,
        *[p[2] for p in shown],
        colors=[p[1] for p in shown],
        alpha=0.85,
        linewidth=0,
        step="post",
        zorder=2,
    )
    known = [c for c in counts if c is not None]
    if not known:
        return
    limit, usable = known[-1].max_connections, known[-1].usable
    free_from = usable - recording.about.headroom
    axis.set_ylim(0, limit * 1.1)
    axis.axhspan(free_from, usable, color="#2b8a57", alpha=0.1, linewidth=0, zorder=1)
    axis.axhline(free_from, color="#2b8a57", linewidth=1, linestyle=(0, (4, 2)), zorder=3)
    axis.axhline(limit, color=INK, linewidth=1.3, zorder=3)
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _title(axis, "Database connections", "connections")
    labels = [
        (limit, f"limit {limit}", INK),
        ((free_from + usable) / 2, f"headroom {recording.about.headroom}", "#2b8a57"),
    ]
    _spread(axis, [*labels, *_middles(shown)], 0.095)


def _middles(
    shown: Sequence[tuple[str, str, list[float]]],
) -> list[tuple[float, str, str]]:
    """Where each part of the stack is at the right edge, for its label."""
    found: list[tuple[float, str, str]] = []
    below = 0.0
    darker = {WEB: "#6b839c", REST: "#8a97a5"}
    for name, colour, values in shown:
        last = next((v for v in reversed(values) if v == v), 0.0)  # noqa: PLR0124 - not NaN
        if last > 0:
            found.append((below + last / 2, name, darker.get(colour, colour)))
        below += last
    return found
