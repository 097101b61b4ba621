"""The live panel: numbers with their history on the left, the operator's words on the right."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel as Box
from rich.table import Table
from rich.text import Text

from demo.recording import About, Connections, Sample
from demo.summary import rates

HISTORY = 40
"""Seconds of history in a sparkline."""

WORDS = 60
"""Sentences that are kept; how many fit is the terminal's business."""

LITTLE = 50
"""A queue this short is drawn small, however long it was before."""

BARS = " ▁▂▃▄▅▆▇█"
CELLS = 40
"""Width of the connections' bar; 100 connections then are 2.5 to a cell."""


class Panel:
    """A `Display` for terminals."""

    def __init__(self, console: Console, about: About, seconds: float) -> None:
        self._console = console
        self._about = about
        self._seconds = seconds
        self._words: deque[tuple[float, str]] = deque(maxlen=WORDS)
        self._samples: deque[Sample] = deque(maxlen=HISTORY)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def say(self, text: str) -> None:
        """Above the panel, so that it stays in the scroll-back."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def show(self, sample: Sample) -> None:
        """Draw again."""
        if not self._started:
            self._live.start()
            self._started = True
        self._samples.append(sample)
        said = sample.operator.summary if sample.operator else ""
        if said and (not self._words or self._words[-1][1] != said):
            self._words.append((sample.t, said))
        self._live.update(self._draw(sample), refresh=True)

    def _end(self) -> None:
        if self._started:
            self._live.stop()
            self._started = False

    def _draw(self, sample: Sample) -> RenderableType:
        height = min(26, max(14, self._console.height - 4))
        layout = Layout(size=height)
        layout.split_row(
            Layout(self._numbers(sample), ratio=5, minimum_size=56),
            Layout(self._sentences(height - 2), ratio=6),
        )
        t = max(0.0, sample.t)
        title = Text.assemble(
            (f" {self._about.title} ", "bold white on blue"),
            f"  {int(t) // 60}:{int(t) % 60:02d} of about "
            f"{int(self._seconds) // 60}:{int(self._seconds) % 60:02d}  ",
        )
        return Group(title, Limited(layout, height))

    def _sentences(self, lines: int) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(ratio=1)
        newest = list(self._words)[-max(3, lines // 2) :]
        for index, (t, sentence) in enumerate(reversed(newest)):
            style = "bold" if index == 0 else "dim" if index > 3 else ""
            table.add_row(
                f"{int(max(0, t)) // 60}:{int(max(0, t)) % 60:02d}", Text(sentence, style)
            )
        return Box(table, title="what the operator says, newest first", border_style="blue")

    def _numbers(self, sample: Sample) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True, ratio=1)
        for name, value in (
            ("waiting", self._waiting(sample)),
            ("oldest", self._oldest(sample)),
            ("done", self._done(sample)),
            ("", Text("")),
            ("ingestion", _ingestion(sample)),
            ("clients", self._clients(sample)),
            ("", Text("")),
            ("replicas", _replicas(sample)),
            ("connections", _connections(sample)),
            ("", self._bar(sample)),
            ("", Text("")),
            ("cause", Text((sample.operator.cause if sample.operator else "") or "–")),
            ("breaker", _breaker(sample)),
            ("last step", _step(sample)),
        ):
            table.add_row(name, value)
        return Box(table, title="now", border_style="blue")

    def _waiting(self, sample: Sample) -> RenderableType:
        if sample.jobs is None:
            return _silent()
        history = [s.jobs.waiting if s.jobs else 0 for s in self._samples]
        style = "bold red" if sample.jobs.waiting >= self._about.trip_waiting else "bold"
        return Text.assemble((f"{sample.jobs.waiting:>7,} ", style), (_spark(history), "magenta"))

    def _oldest(self, sample: Sample) -> RenderableType:
        if sample.jobs is None:
            return _silent()
        return Text(f"{sample.jobs.oldest_seconds:>7.0f} s")

    def _done(self, sample: Sample) -> RenderableType:
        if sample.jobs is None:
            return _silent()
        known = [s for s in self._samples if s.jobs is not None and s.t >= sample.t - 5]
        first = known[0]
        speed = 0.0
        if first.jobs is not None and sample.t > first.t:
            speed = (sample.jobs.done - first.jobs.done) / (sample.t - first.t)
        return Text(f"{sample.jobs.done:>7,}   {speed:.0f}/s")

    def _clients(self, sample: Sample) -> RenderableType:
        if sample.clients is None:
            return Text("not started", style="dim")
        points = rates(self._samples)
        accepted, turned = points[-1][1:] if points else (0.0, 0.0)
        text = Text.assemble((f"{accepted:>5.0f}/s accepted", "green"))
        if turned > 0.5:
            text.append(f"  {turned:.0f}/s refused with 503", style="yellow")
        return text

    def _bar(self, sample: Sample) -> RenderableType:
        if sample.connections is None:
            return Text("")
        return _stacked(sample.connections, self._about.headroom)


class Limited:
    """A layout of a fixed height inside a group."""

    def __init__(self, layout: Layout, height: int) -> None:
        self._layout = layout
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw within the height."""
        yield from console.render(self._layout, options.update_height(self._height))


def _silent() -> Text:
    return Text("      ? the database does not answer", style="bold red")


def _spark(values: list[int]) -> str:
    top = max([*values, LITTLE])
    return "".join(BARS[min(8, -(-8 * value // top))] for value in values)


def _ingestion(sample: Sample) -> Text:
    if sample.flag_paused is None:
        return _silent()
    if not sample.flag_paused:
        return Text("running", style="green")
    by = "by the operator" if sample.operator and sample.operator.held else ""
    return Text(f"PAUSED {by}", style="bold black on yellow")


def _replicas(sample: Sample) -> RenderableType:
    if sample.workload is None:
        return Text("?")
    w = sample.workload
    budget = sample.operator.budget if sample.operator else None
    text = Text.assemble((f"{w.replicas:>2}", "bold"), f" ({w.ready} ready")
    text.append(f", {w.terminating} stopping)" if w.terminating else ")")
    if budget is not None:
        text.append(f" of {budget}  ", style="dim")
        text.append("■" * w.ready, style="blue")
        text.append("▣" * max(0, w.replicas - w.ready), style="cyan")
        text.append("□" * max(0, budget - w.replicas), style="dim")
    return text


def _connections(sample: Sample) -> Text:
    c = sample.connections
    if c is None:
        return _silent()
    return Text.assemble(
        (f"{c.total:>2}", "bold"),
        f" of {c.max_connections}: ",
        (f"{c.workers} workers", "blue"),
        f", {c.web} web",
        (f", {c.strangers} other clients", "red") if c.strangers else "",
        f", {c.operator} operator",
    )


def _stacked(c: Connections, headroom: int) -> Text:
    def cells(count: int) -> int:
        return round(count * CELLS / c.max_connections)

    text = Text()
    for count, style in (
        (c.web + c.rest + c.operator, "bright_black"),
        (c.strangers, "red"),
        (c.workers, "blue"),
    ):
        text.append("█" * cells(count), style=style)
    free_to = cells(c.usable - headroom)
    text.append("·" * max(0, free_to - len(text)), style="dim")
    text.append("░" * max(0, CELLS - len(text)), style="green")
    return text


def _breaker(sample: Sample) -> Text:
    state = (sample.operator.breaker if sample.operator else "") or "–"
    style = {"Open": "bold yellow", "HalfOpen": "yellow", "Closed": "green"}.get(state, "dim")
    return Text(state, style=style)


def _step(sample: Sample) -> Text:
    if sample.operator is None or not sample.operator.step:
        return Text("–", style="dim")
    return Text(f"{sample.operator.step} {sample.operator.verdict}")
