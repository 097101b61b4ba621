"""The rules and the table together: a pause of backfills from pass to pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.producers.passes import Loop
from tests.producers.table import Hands, Operators
from tests.producers.test_backfill_jobs import AUDIT, BEFORE, HELD, SCHEMA, STATES, said

from starforge_backlog.api.status import PauseState
from starforge_backlog.decide.plan import Pause, Resume

pytestmark = pytest.mark.postgres


@pytest.fixture
def hands(rows_url: str) -> Iterator[Hands]:
    with Hands.at(rows_url, SCHEMA) as person:
        yield person


def loop(operators: Operators, audit_table: str | None = AUDIT) -> Loop:
    return Loop(operators.backfills(audit_table=audit_table).table, "backfillJobs")


@pytest.mark.parametrize("audit_table", [None, AUDIT])
async def test_paused_quiet_extended_and_resumed(
    hands: Hands, operators: Operators, audit_table: str | None
) -> None:
    policy = loop(operators, audit_table)
    assert await policy.run(wanted=False) == ()
    assert [type(a) for a in await policy.run(wanted=True)] == [Pause]
    assert (policy.state, hands.rows(STATES)) == (PauseState.HELD, HELD)
    held = policy.status
    assert await policy.run(wanted=True) == ()
    assert policy.status == held
    said(hands, "running", "n1")
    await policy.run(wanted=True)
    assert dict(hands.rows(STATES))["n1"] == "paused"
    assert await policy.run(wanted=True) == ()
    said(hands, "running", "r1")  # a person, who is let be
    for _ in range(3):
        await policy.run(wanted=True)
        assert dict(hands.rows(STATES))["r1"] == "running"
    assert [type(a) for a in await policy.run(wanted=False)] == [Resume]
    assert policy.entry is None
    assert dict(hands.rows(STATES)) == dict(BEFORE) | {"n1": "running"}


@pytest.mark.parametrize("killed", ["act", "status"])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("deleted", [True, False])
async def test_killed_in_the_middle(
    hands: Hands, operators: Operators, killed: str, wanted: bool, deleted: bool
) -> None:
    policy = loop(operators)
    await policy.run(wanted=True, killed=killed)
    assert policy.state is PauseState.INTENDED
    await policy.run(wanted=wanted)
    assert hands.rows(STATES) == (HELD if wanted else BEFORE)
    said(hands, "running", "n1")
    await policy.run(wanted=wanted, killed=killed)
    if deleted:
        await policy.delete()
    else:
        await policy.run(wanted=False)
    assert policy.entry is None
    assert dict(hands.rows(STATES)) == dict(BEFORE) | {"n1": "running"}


@pytest.mark.parametrize("wanted", [True, False])
async def test_killed_without_an_audit_table(
    hands: Hands, operators: Operators, wanted: bool
) -> None:
    """They may be a person's pause as well, so they stay paused, and the status says so."""
    policy = loop(operators, None)
    await policy.run(wanted=True, killed="status")
    await policy.run(wanted=wanted)
    await policy.run(wanted=False)
    assert hands.rows(STATES) == HELD
    assert policy.entry is not None
    assert policy.state is PauseState.FOREIGN
    assert "r1, r2" in policy.entry.message
    assert "auditTable" in policy.entry.message
    said(hands, "running", "r1")
    said(hands, "running", "r2")
    await policy.run(wanted=False)
    assert policy.entry is None


async def test_nothing_runs(hands: Hands, operators: Operators) -> None:
    hands.run("DELETE FROM backfill_jobs WHERE status = 'running'")
    policy = loop(operators)
    await policy.run(wanted=True)
    assert policy.state is PauseState.HELD
    assert await policy.run(wanted=True) == ()
    said(hands, "running", "n1")
    await policy.run(wanted=True)
    assert dict(hands.rows(STATES))["n1"] == "paused"
    await policy.delete()
    assert dict(hands.rows(STATES))["n1"] == "running"


async def test_what_a_person_paused_over_ours_waits_for_them(
    hands: Hands, operators: Operators
) -> None:
    policy = loop(operators)
    await policy.run(wanted=True)
    said(hands, "paused", "r1")
    await policy.run(wanted=False)
    assert policy.state is PauseState.CHANGED
    states = dict(hands.rows(STATES))
    assert (states["r1"], states["r2"]) == ("paused", "running")
    assert await policy.run(wanted=False) == ()
    said(hands, "running", "r1")
    await policy.run(wanted=False)
    assert policy.entry is None
