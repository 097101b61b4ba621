"""What goes wrong in the middle of a story: it comes at the worst moment and goes after a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from demo import install
from demo.actions import Kind, steps
from demo.manifests import NAMESPACE, manifest
from demo.place import IMAGE, Place
from demo.recording import About, Sample
from demo.scenario import Scenario
from demo.scenario import Trouble as Kinds

MOMENT_SECONDS = 2.0
"""After the write was seen: then its effect is being observed."""


class Trouble:
    """Begins a moment after the operator has acted, and ends after `trouble_seconds`.

    The first time it waits for an up-step; a freeze comes a second time, after a pause.
    """

    def __init__(self, scenario: Scenario, place: Place, say: Callable[[str], None]) -> None:
        self._scenario = scenario
        self._place = place
        self._say = say
        self._due: float | None = None
        self._since: float | None = None
        self.spans: tuple[tuple[float, float], ...] = ()

    def step(self, now: Sample, before: Sequence[Sample]) -> None:
        """Begin or end it if the moment has come."""
        if self._since is not None:
            if now.t >= self._since + self._scenario.trouble_seconds:
                self._end(now.t)
        elif self._due is not None:
            if now.t >= self._due:
                self._begin(now.t)
        elif self._tempting(now, before):
            self._due = now.t + MOMENT_SECONDS

    def _tempting(self, now: Sample, before: Sequence[Sample]) -> bool:
        kind, times = self._scenario.trouble, len(self.spans)
        if times == 0 and kind is not Kinds.NONE:
            return any(act.kind is Kind.UP for act in steps(before))
        return times == 1 and kind is Kinds.FREEZE and now.flag_paused is True

    def end(self) -> None:
        """Whatever happens: a frozen server cannot be cleaned up."""
        if self._since is not None:
            self._end(self._since + self._scenario.trouble_seconds)

    def describe(self, about: About) -> About:
        """What the recording should know of it."""
        return about.model_copy(
            update={
                "disturbance": self._words(),
                "relief": self._relief(),
                "disturbed": self.spans,
            }
        )

    def _words(self) -> str:
        if self._scenario.trouble is Kinds.FREEZE:
            return "PostgreSQL is silent"
        return f"another client takes {self._scenario.stranger_connections} connections"

    def _relief(self) -> str:
        silent = self._scenario.trouble is Kinds.FREEZE
        return "PostgreSQL answers again" if silent else "the other client leaves"

    def _begin(self, t: float) -> None:
        self._since, self._due = t, None
        self._say(f"Trouble: {self._words()} for {self._scenario.trouble_seconds:.0f} s.")
        if self._scenario.trouble is Kinds.FREEZE:
            self._place.freeze_postgres()
        else:
            connections = self._scenario.stranger_connections
            text = manifest("stranger", IMAGE=IMAGE, STRANGER_CONNECTIONS=connections)
            install.apply(self._place, text)

    def _end(self, t: float) -> None:
        assert self._since is not None
        self.spans = (*self.spans, (self._since, t))
        self._since = None
        if self._scenario.trouble is Kinds.FREEZE:
            self._place.thaw_postgres()
        else:
            self._place.kubectl("delete", "pod", "stranger", "-n", NAMESPACE, "--wait=false")
        self._say(f"Trouble over: {self._relief()}.")
