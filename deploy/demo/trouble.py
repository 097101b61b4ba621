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
"""After the step was written and before its verdict."""


class Trouble:
    """Begins a moment after the operator has stepped up, and ends after `trouble_seconds`."""

    def __init__(self, scenario: Scenario, place: Place, say: Callable[[str], None]) -> None:
        self._scenario = scenario
        self._place = place
        self._say = say
        self._step_at: float | None = None
        self.began_at: float | None = None
        self.ended_at: float | None = None

    def step(self, now: Sample, before: Sequence[Sample]) -> None:
        """Begin or end it if the moment has come."""
        if self._scenario.trouble is Kinds.NONE or self.ended_at is not None:
            return
        if self.began_at is not None:
            if now.t >= self.began_at + self._scenario.trouble_seconds:
                self._end(now.t)
        elif self._step_at is None:
            ups = [act for act in steps(before) if act.kind is Kind.UP]
            if len(ups) >= self._scenario.steps_before_trouble:
                self._step_at = now.t
        elif now.t >= self._step_at + MOMENT_SECONDS:
            self._begin(now.t)

    def end(self) -> None:
        """Whatever happens: a frozen server cannot be cleaned up."""
        if self.began_at is not None and self.ended_at is None:
            self._end(self.began_at + self._scenario.trouble_seconds)

    def describe(self, about: About) -> About:
        """What the recording should know of it."""
        return about.model_copy(
            update={
                "disturbance": self._words(),
                "disturbed_from": self.began_at,
                "disturbed_until": self.ended_at,
            }
        )

    def _words(self) -> str:
        if self._scenario.trouble is Kinds.FREEZE:
            return "PostgreSQL does not answer"
        return f"a stranger takes {self._scenario.stranger_connections} connections"

    def _begin(self, t: float) -> None:
        self.began_at = t
        self._say(f"Trouble: {self._words()} for {self._scenario.trouble_seconds:.0f} s.")
        if self._scenario.trouble is Kinds.FREEZE:
            self._place.freeze_postgres()
        else:
            connections = self._scenario.stranger_connections
            text = manifest("stranger", IMAGE=IMAGE, STRANGER_CONNECTIONS=connections)
            install.apply(self._place, text)

    def _end(self, t: float) -> None:
        self.ended_at = t
        if self._scenario.trouble is Kinds.FREEZE:
            self._place.thaw_postgres()
        else:
            self._place.kubectl("delete", "pod", "stranger", "-n", NAMESPACE, "--wait=false")
        self._say("The trouble is over.")
