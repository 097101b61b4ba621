"""Passes of the loop over one producer: the real rules decide, the real producer acts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tests.producers.table import held_by, read_again

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.clock import utc_now
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.pauses.outcome import ended
from starforge_backlog.decide.pauses.pausing import Pausing, decide_producers, release_all
from starforge_backlog.decide.plan import Action, Pause, Resume
from starforge_backlog.decide.results import Failed, Result, Resumed
from starforge_backlog.producers.backfill_jobs_table import BackfillJobsTable
from starforge_backlog.producers.job_types_table import JobTypesTable
from starforge_backlog.producers.protocol import Holder
from starforge_backlog.snapshot import Unknown

OWNER = "uid-1"
NAME = "background"


@dataclass
class Loop:
    """One policy with one producer and one breaker, and its status between two passes."""

    table: BackfillJobsTable | JobTypesTable
    way: str
    status: QueueBacklogPolicyStatus = field(default_factory=QueueBacklogPolicyStatus)
    outcomes: list[Resumed] = field(default_factory=list)  # of all releases

    @property
    def entry(self) -> PauseStatus | None:
        return self.status.paused[0] if self.status.paused else None

    @property
    def state(self) -> PauseState | None:
        return None if self.entry is None else self.entry.state

    def spec(self) -> QueueBacklogPolicySpec:
        place = self.table.spec.model_dump(mode="json", by_alias=True)
        return QueueBacklogPolicySpec.model_validate(
            {
                "target": {"name": "etl-worker"},
                "queues": [{"name": "jobs", "postgres": {}}],
                "producers": [{"name": NAME, self.way: place}],
                "breakers": [{"name": "b", "trip": [{"waiting": 5}], "pause": [NAME]}],
            }
        )

    async def run(self, *, wanted: bool, killed: str = "") -> tuple[Action, ...]:
        """One pass. `killed` between the intent and the "act", or between the act and its
        "status"."""
        read_again(self.table)
        held = held_by(self.table, Holder(OWNER, NAME, self.entry))
        reading = await held.read()
        breaker = BreakerState.OPEN if wanted else BreakerState.CLOSED
        decided = decide_producers(
            self.spec(),
            (BreakerStatus(name="b", state=breaker, message="900 waiting"),),
            self.status.paused,
            {NAME: reading},
            Pausing(OWNER, None, self.status.released_at, utc_now()),
        )
        self.status = self.status.model_copy(update={"paused": decided.entries})
        if killed == "act":
            return decided.actions
        results = [await self._act(action) for action in decided.actions]
        if killed != "status":
            self.status = merge(self.status, tuple(results), utc_now())
        return decided.actions

    async def delete(self) -> None:
        """The policy is deleted: whatever is ours is released, without a reading."""
        for _ in range(100):
            actions = release_all(self.status.paused, "deleted").actions
            if not actions:
                return
            results = [await self._act(action) for action in actions]
            self.status = merge(self.status, tuple(results), utc_now())
        raise AssertionError("the release does not end")

    async def _act(self, action: Action) -> Result:
        held = held_by(self.table, Holder(OWNER, NAME, self.entry))
        at: datetime = utc_now()
        match action:
            case Pause():
                done = await held.pause(
                    owner="ns/etl", token=action.token, at=at, why=action.why, plan=action.plan
                )
            case Resume(entry):
                left = await held.resume(
                    token=entry.token, version=entry.version, previous=entry.previous
                )
                if isinstance(left, Unknown):
                    return Result(action, Failed(left.why, left.message))
                self.outcomes.append(ended(entry, left))
                return Result(action, self.outcomes[-1])
            case _:
                raise AssertionError(action)
        return Result(action, Failed(done.why, done.message) if isinstance(done, Unknown) else done)
