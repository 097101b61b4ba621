"""One policy whose server never answers among fifty, at a start: the others decide at once (P11).

Real ledger and real decisions; what is simulated is that the readings of one never come.
"""

from __future__ import annotations

from dataclasses import replace

from tests.simulator.given import connections, fresh_policy, later, queue, seen, unknown

from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.coordination.connection_ledger import ConnectionLedger
from starforge_backlog.decide.again import due_again
from starforge_backlog.decide.plan import Plan
from starforge_backlog.snapshot import Snapshot, Unknown, Why

POLICIES = 50
SERVERS = 5
SILENT = 0  # this policy's server never answers
INTERVAL = 15


class Start:
    """A process that has just started, and the policies that it finds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.policies = [fresh_policy(breakers=[]) for _ in range(POLICIES)]
        self.ledger = ConnectionLedger(lambda: self.now)

    def again(self) -> None:
        """The process is started again, and lists the policies."""
        self.ledger = ConnectionLedger(lambda: self.now)
        for number, policy in enumerate(self.policies):
            self.ledger.expect(f"ns/{number}", policy.status)

    def interval(self, number_of_silent: int | None = SILENT) -> dict[int, str | None]:
        """A pass of each; why it has no budget, or None. The one that hangs comes last."""
        order = sorted(range(POLICIES), key=lambda number: number == number_of_silent)
        found = {n: self._pass(n, silent=n == number_of_silent) for n in order}
        self.now += INTERVAL
        return found

    def decide(self, number: int, *, silent: bool = False) -> Plan:
        policy = self.policies[number]
        snapshot = self._seen(number, silent=silent)
        snapshot = self.ledger.count(f"ns/{number}", policy.spec, policy.status, snapshot)
        return policy.decide(snapshot)

    def _pass(self, number: int, *, silent: bool) -> str | None:
        budget = self.decide(number, silent=silent).assessment.budget
        return budget.message if isinstance(budget, Unknown) else None

    def _seen(self, number: int, *, silent: bool) -> Snapshot:
        moment = later(self.now)
        server = connections(server=f"server-{number % SERVERS}")
        snapshot = seen(at=moment, open_now=server, queues=queue(at=moment))
        if not silent:
            return snapshot
        late = unknown(Why.TIMEOUT)
        assert snapshot.database is not None
        return replace(snapshot, database=replace(snapshot.database, connections=late, health=late))


def unable(found: dict[int, str | None]) -> set[int]:
    """Who has no budget."""
    return {number for number, why in found.items() if why is not None}


def test_one_that_was_never_read_keeps_nobody_waiting() -> None:
    start = Start()
    start.again()
    assert unable(start.interval()) == {SILENT}


def test_one_that_was_read_before_keeps_its_own_server_waiting_for_its_first_pass() -> None:
    start = Start()
    start.interval(None)
    start.again()
    for number, why in start.interval().items():
        assert (
            why is None
            or number == SILENT
            or "of this server had no pass since the operator started" in why
        )
        waits_for_it = why is not None and f"policy ns/{SILENT} " in why
        assert not waits_for_it or number % SERVERS == SILENT % SERVERS
    assert unable(start.interval()) == {SILENT}, "the second interval after the start"


def test_who_waits_for_first_passes_of_others_is_due_again_within_the_interval() -> None:
    """Else the first of a round would decide two intervals after the start, and not one and a
    half; a policy that has its budget is not due any earlier."""
    start = Start()
    start.interval(None)
    start.again()
    first, spec = start.decide(0), start.policies[0].spec
    assert isinstance(first.assessment.budget, Unknown)
    now, nothing = later(start.now), QueueBacklogPolicyStatus()
    assert due_again(spec, first, nothing, now) == now + spec.interval / 2
    start.interval(None)
    after = start.decide(0)
    assert not isinstance(after.assessment.budget, Unknown)
    assert due_again(spec, after, nothing, now) is None
    alone = start.decide(0, silent=True)
    assert isinstance(alone.assessment.budget, Unknown)
    assert due_again(spec, alone, nothing, now) is None, "nobody is waited for"
