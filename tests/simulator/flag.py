"""The producers' flag: a row that anybody may write, paused by compare-and-set (P4)."""

from __future__ import annotations

from datetime import datetime

from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown, Why


class Flag:
    """Behaves like `producers/feature_flag_*.sql`; `by` is the truth that only the model knows."""

    def __init__(self, write_owner: bool) -> None:
        self.paused = False
        self.by = ""  # "us" or "person": who wants it paused
        self.stolen = 0  # how often another client's pause was resumed by us: must stay 0
        self.pauses = 0
        self.missing = False
        self._write_owner = write_owner
        self._token: str | None = None
        self._marked_version = 0
        self._version = 1

    def read(self, at: datetime) -> Reading[ProducerReading]:
        """As the operator sees it."""
        if self.missing:
            return Unknown(Why.ROW_MISSING, "there is no such row", at)
        value = FlagValue.PAUSED if self.paused else FlagValue.RUNNING
        return Known(ProducerReading(value, self._token, str(self._version)), at)

    def pause(self, token: str) -> Paused:
        """The operator pauses."""
        if self.missing:
            return Paused(PauseOutcome.ROW_MISSING, message="there is no such row")
        if self.paused:
            if self._token == token:
                return Paused(PauseOutcome.ALREADY_OURS, str(self._marked_version))
            return Paused(PauseOutcome.ALREADY_PAUSED)
        self._write(paused=True, by="us")
        self.pauses += 1
        if self._write_owner:
            self._token, self._marked_version = token, self._version
        return Paused(PauseOutcome.PAUSED, str(self._version))

    def resume(self, token: str, version: str) -> Resumed:
        """The operator resumes what it paused."""
        if self.missing:
            return Resumed(ResumeOutcome.ROW_MISSING, "there is no such row")
        if not self.paused:
            return Resumed(ResumeOutcome.NOT_PAUSED)
        now = str(self._version)
        ours = self._token == token
        if ours and self._marked_version == self._version and version in {"", now}:
            return self._resumed()
        if ours:
            return Resumed(ResumeOutcome.CHANGED_SINCE)
        if self._token is not None or not version:
            return Resumed(ResumeOutcome.NOT_OURS)
        if not self._write_owner and version == now:
            return self._resumed()
        return Resumed(ResumeOutcome.CHANGED_SINCE)

    def person_pauses(self) -> None:
        """The runbook's UPDATE: it leaves our mark in place, only the version differs."""
        self._write(paused=True, by="person")

    def person_resumes(self) -> None:
        """A person sets the row back, mark and all."""
        self._write(paused=False, by="")
        self._token = None

    def runbook_resumes(self) -> None:
        """The runbook's UPDATE again: the mark stays."""
        self._write(paused=False, by="")

    def deleted(self) -> None:
        """A person deletes the row; it comes back as it was made first."""
        self.person_resumes()

    def _resumed(self) -> Resumed:
        if self.by != "us":
            self.stolen += 1
        self._write(paused=False, by="")
        self._token = None
        return Resumed(ResumeOutcome.RESUMED)

    def _write(self, *, paused: bool, by: str) -> None:
        self.paused, self.by = paused, by
        self._version += 1
