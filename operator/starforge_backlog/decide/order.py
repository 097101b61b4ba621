"""The order of what is done, and one thing per window (runbook, *Immediate mitigations*)."""

from __future__ import annotations

from datetime import datetime, timedelta

from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.decide.plan import Action, Pause, Resume, ScaleTo
from starforge_backlog.decide.producers import Producers


def one_release_per_window(
    pauses: Producers, before: QueueBacklogPolicyStatus, window: timedelta, now: datetime
) -> Producers:
    """Recovery runs backwards, one thing per observation window: keep at most one release, and
    none while a step or another release is younger than a window."""
    step = before.scaling.last_step
    done = [m for m in (before.released_at, step.at if step else None) if m is not None]
    kept: list[Pause | Resume] = [a for a in pauses.actions if isinstance(a, Pause)]
    if all(now - moment >= window for moment in done):
        releases = [a for a in pauses.actions if isinstance(a, Resume)]
        kept += sorted(releases, key=_failed_before)[:1]
    return Producers(tuple(kept), pauses.entries)


def in_order(pauses: Producers, step: ScaleTo | None) -> tuple[Action, ...]:
    """Mitigation before recovery:

    1. pauses  2. a step down  3. releases  4. a step up  5. pauses that could not be done before

    The first action that fails ends the pass. What failed in the last one is therefore tried at
    the very end: a flag whose row is missing must not keep the database from being spared, nor
    the workers from being scaled, for as long as it is missing.
    """
    failed = {entry.producer for entry in pauses.entries if entry.message}
    paused = [action for action in pauses.actions if isinstance(action, Pause)]
    resumed = [action for action in pauses.actions if isinstance(action, Resume)]
    down = [step] if step is not None and step.to < step.from_ else []
    up = [step] if step is not None and step.to >= step.from_ else []
    return (
        *(action for action in paused if action.producer not in failed),
        *down,
        *resumed,
        *up,
        *(action for action in paused if action.producer in failed),
    )


def _failed_before(release: Resume) -> bool:
    """Whether it could not be carried out before: then the others are not kept waiting for it."""
    return bool(release.held.message)
