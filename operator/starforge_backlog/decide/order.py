"""The order of what is done, and one thing per window (runbook, *Immediate mitigations*)."""

from __future__ import annotations

from datetime import datetime, timedelta

from starforge_backlog.api.breaker_status import FORMER
from starforge_backlog.api.status import PauseProgress, QueueBacklogPolicyStatus
from starforge_backlog.decide.pauses.moved import is_former
from starforge_backlog.decide.pauses.pausing import Producers
from starforge_backlog.decide.pauses.ways import failed_before
from starforge_backlog.decide.plan import Action, Pause, Resume, ScaleTo, SetMaximum


def one_release_per_window(
    pauses: Producers, before: QueueBacklogPolicyStatus, window: timedelta, now: datetime
) -> Producers:
    """Recovery runs backwards, one thing per observation window: keep at most one release, and
    none while a step or another release is newer than a window. A release that is under way, of
    a producer that is resumed in bounded batches, goes on: it is the same thing."""
    step = before.scaling.last_step
    done = [m for m in (before.released_at, step.at if step else None) if m is not None]
    kept: list[Pause | Resume] = [a for a in pauses.actions if isinstance(a, Pause)]
    releases = [a for a in pauses.actions if isinstance(a, Resume)]
    # A pause at a former place is no recovery either: its producer moved.
    under_way = [
        r for r in releases if r.held.progress is PauseProgress.RESUMING or is_former(r.held)
    ]
    if all(now - moment >= window for moment in done):
        # One that could not be carried out must not keep the others waiting.
        others = [release for release in releases if release not in under_way]
        kept += sorted(others, key=lambda release: failed_before(release.held))[:1]
    kept += under_way
    return Producers(tuple(kept), pauses.entries)


def in_order(pauses: Producers, step: ScaleTo | SetMaximum | None) -> tuple[Action, ...]:
    """Mitigation before recovery:

    1. pauses  2. a step down  3. releases  4. a step up  5. pauses that could not be done before,
    and releases at former places that could not

    Pauses are in the order of mitigation, releases in its reverse (see `pauses/ways.py`). After an
    action that failed only what makes things safer goes on (see `act/`). What failed in the last
    pass is therefore tried at the very end: a flag whose row is missing must not keep the workers
    from being scaled for as long as it is missing.
    """
    failed = {entry.producer for entry in pauses.entries if failed_before(entry)}
    paused = [action for action in pauses.actions if isinstance(action, Pause)]
    stuck = {name for name in failed if FORMER in name}
    resumed = [action for action in pauses.actions if isinstance(action, Resume)]
    down = [step] if step is not None and step.to < step.from_ else []
    up = [step] if step is not None and step.to >= step.from_ else []
    return (
        *(action for action in paused if action.producer not in failed),
        *down,
        *(action for action in resumed if action.held.producer not in stuck),
        *up,
        *(action for action in paused if action.producer in failed),
        *(action for action in resumed if action.held.producer in stuck),
    )
