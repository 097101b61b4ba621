"""Who holds how many connections on which server, over all policies (P1).

One process runs, so a plain dictionary is the ledger. After a restart it fills with the first
passes; what cannot be read then is taken from the policy's own status, because its pods are there
whether we can see them or not. Between a decision and its write nothing awaits, so two policies
can never be promised the same connection.

What becomes of a policy, and what the others see of it from their next pass on:

| the policy                                 | holds                  | asks others for more     |
|--------------------------------------------|------------------------|--------------------------|
| is read                                    | what its pods can open | what its decision said   |
| is suspended, held, in `Observe`           | the same               | no                       |
| cannot be read, or its spec not understood | what it held last      | no                       |
| has not been read since our start          | what its status says   | no; others of the server |
|                                            | of which server        | wait for its first pass  |
| is new: never had a budget                 | nothing: its pods are  | no; nobody waits for it  |
|                                            | other clients'         |                          |
| is deleted, or names no database any more  | the same               | no                       |

A new policy never scaled anything. Which server it is of is not known: to wait for it would let
one URL with a typing error keep every policy of every server from its budget (P11).

A deleted policy's pods count by what they have open, with their recent peak, as any other client's.
Pods of a step that was just taken have not opened theirs yet: that promise outlives the policy
until they had time to start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import QueueBacklogPolicyStatus, StepVerdict
from starforge_backlog.decide.budget.formula import surge
from starforge_backlog.decide.budget.pgbouncer import held
from starforge_backlog.decide.claims import claim_of
from starforge_backlog.snapshot import Claim, Known, Snapshot

# How long others of its server wait for the first pass of a policy. By then it had one, or it never
# will: it was deleted between our list and the watch's. Then it must not hold them, nor anything.
EXPECTED_FOR_SECONDS = 120.0
# Pods that a step asked for are started and have opened connections by then, or are late for other
# reasons; the same time in which a policy is expected to have its first pass.
SHOWN_WITHIN_SECONDS = 120.0
# What a policy asks for is a reading, and late ones are unknown (P2): passes that hang or fail must
# not make others give connections up. Three intervals, as for every reading, and never less than
# this.
ASKING_INTERVALS = 3
LEAST_ASKING_SECONDS = 15.0


class ConnectionLedger:
    """Claims per server (`Connections.server`)."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._claims: dict[str, tuple[str, Claim]] = {}  # policy → (server, claim)
        # Policy → until when others of its server wait for it. Each has a claim, from its status.
        self._expected: dict[str, float] = {}
        self._asked: dict[str, float] = {}  # policy → until when what it asks for counts
        self._valid_for: dict[str, float] = {}  # policy → seconds for which that counts
        self._names: dict[str, str] = {}  # a server's name in policies → what it calls itself
        self._promised: dict[str, float] = {}  # policy → until when its last step may not show
        self._left: dict[str, tuple[str, Claim, float]] = {}  # deleted → server, claim, until when

    def expect(self, policy: str, status: QueueBacklogPolicyStatus) -> None:
        """A policy exists. What its status says that it holds counts at once; since more may run by
        now, nobody on that server may count on what is left until it had a pass."""
        if policy not in self._claims:
            self._remember(policy, status)
            if policy in self._claims:
                self._expected[policy] = self._monotonic() + EXPECTED_FOR_SECONDS

    def count(
        self,
        policy: str,
        spec: QueueBacklogPolicySpec,
        before: QueueBacklogPolicyStatus,
        seen: Snapshot,
    ) -> Snapshot:
        """Note what a policy's pods can open, and put the others' claims into its snapshot.

        A policy that cannot be read keeps its last claim: its pods are still there (P2).
        """
        seen = self._by_its_own_name(seen)
        server = _server(seen)
        if seen.rival is not None:
            # Its pods are the older policy's too, and count there, once.
            self.drop(policy)
            others = () if server is None else self.others(server, policy)
            claims = tuple(claim for claim in others if claim.policy != seen.rival.policy)
            return replace(seen, claims=claims, awaited=self._awaited(server))
        if spec.database is None:
            self.drop(policy)
        elif server is not None and isinstance(seen.workload, Known):
            if isinstance(seen.per_replica, Known):
                guard = before.scaling.guard if spec.target.guard is not None else None
                allowed = (guard.maximum if guard is not None else None) or 0
                each = seen.per_replica.value
                claim = claim_of(policy, spec, seen.workload.value, each, allowed)
                self._note(policy, server, self._still_asking(claim))
                intervals = ASKING_INTERVALS * spec.interval.total_seconds()
                self._valid_for[policy] = max(intervals, LEAST_ASKING_SECONDS)
                # The pods of the last step are there, and what they have open can be seen.
                if seen.workload.value.all_ready:
                    self._promised.pop(policy, None)
            else:
                self._unreadable(policy, before)
        else:
            self._unreadable(policy, before)
        return replace(
            seen,
            claims=() if server is None else self.others(server, policy),
            claim=None if server is None else self._own(server, policy),
            awaited=self._awaited(server),
        )

    def others(self, server: str, policy: str) -> tuple[Claim, ...]:
        """What all other policies hold on that server, and what they ask for."""
        now = self._monotonic()
        self._left = {name: left for name, left in self._left.items() if left[2] > now}
        living = (
            claim if self._asked.get(name, now) > now else _silent(claim)
            for name, (where, claim) in self._claims.items()
            if where == server and name != policy
        )
        left = (
            claim
            for name, (where, claim, _) in self._left.items()
            if where == server and name != policy and name not in self._claims
        )
        return (*living, *left)

    def report(self, policy: str, claim: Claim | None) -> None:
        """What a decision reports to the others; None: not known, so it asks for nothing
        and gives nothing back."""
        if policy in self._claims:
            server, kept = self._claims[policy]
            wanted, cap = (claim.wanted, claim.cap) if claim is not None else (None, None)
            asked = claim.asked if claim is not None else kept.asked
            declared = replace(kept, wanted=wanted, cap=cap, asked=asked)
            self._claims[policy] = (server, declared)
            if wanted is not None:
                self._asked[policy] = self._monotonic() + self._valid_for.get(policy, 0.0)

    def unread(self, policy: str, before: QueueBacklogPolicyStatus) -> None:
        """Its spec is not understood: its pods are there all the same."""
        self._unreadable(policy, before)
        if policy in self._claims:
            server, claim = self._claims[policy]
            self._claims[policy] = (server, _silent(claim))

    def raise_to(self, policy: str, connections: int) -> None:
        """Promise a policy the connections that a write is about to make possible.

        Never lowers: until the next reading the old pods may still be there.
        """
        if policy in self._claims:
            server, claim = self._claims[policy]
            most = max(claim.connections, connections)
            self._claims[policy] = (server, replace(claim, connections=most))
            if connections:
                self._promised[policy] = self._monotonic() + SHOWN_WITHIN_SECONDS

    def drop(self, policy: str) -> None:
        """The policy is gone; its pods' connections are other clients' from now on."""
        self._expected.pop(policy, None)
        self._asked.pop(policy, None)
        self._valid_for.pop(policy, None)
        until = self._promised.pop(policy, 0.0)
        server, claim = self._claims.pop(policy, ("", None))
        if claim is not None and until > self._monotonic():
            # Without a role: what they have open by now counts as others' besides, which is too
            # much, and for a short time.
            left = replace(_silent(claim), role=None, minimum=0)
            self._left[policy] = (server, left, until)

    def _by_its_own_name(self, seen: Snapshot) -> Snapshot:
        """The same server by one name, whether it is read by a login or by Prometheus. Only a
        policy with both can know; what was counted under the other name moves."""
        database = seen.database
        if database is None or not isinstance(database.connections, Known):
            return seen
        connections = database.connections.value
        if connections.alias and self._names.get(connections.alias) != connections.server:
            self._names[connections.alias] = connections.server
            for policy, (where, claim) in self._claims.items():
                if where == connections.alias:
                    self._claims[policy] = (connections.server, claim)
        own = self._names.get(connections.server)
        if own is None:
            return seen
        known = replace(database.connections, value=replace(connections, server=own))
        return replace(seen, database=replace(database, connections=known))

    def _own(self, server: str, policy: str) -> Claim | None:
        where, claim = self._claims.get(policy, ("", None))
        return claim if where == server else None

    def _still_asking(self, claim: Claim) -> Claim:
        """With what its last decision declared, until the next one."""
        _, before = self._claims.get(claim.policy, ("", None))
        if before is None:
            return claim
        return replace(claim, wanted=before.wanted, asked=before.asked, cap=before.cap)

    def _note(self, policy: str, server: str, claim: Claim) -> None:
        self._claims[policy] = (server, claim)
        self._expected.pop(policy, None)

    def _unreadable(self, policy: str, before: QueueBacklogPolicyStatus) -> None:
        """It had its pass; what could not be read stands as its last reading or its status says."""
        if policy not in self._claims or policy in self._expected:
            self._remember(policy, before)
        self._expected.pop(policy, None)

    def _remember(self, policy: str, before: QueueBacklogPolicyStatus) -> None:
        """Not read since our start: what its status says of its pods stands for them."""
        budget, replicas = before.budget, before.scaling.replicas
        if budget is None or not budget.server or replicas is None:
            return  # it was never read, so it never scaled
        if before.scaling.guard is not None:
            # The autoscaler goes there by itself, whether we run or not.
            replicas = max(replicas, before.scaling.guard.maximum or 0)
        step = before.scaling.last_step
        if step is not None and step.verdict is StepVerdict.OBSERVING:
            replicas = max(replicas, step.to)  # killed in between, the write may have happened
        added = surge(replicas, budget.max_surge) if budget.max_surge else budget.surge
        pods = replicas + added + budget.terminating
        connections = held(pods * budget.per_replica, budget.pool)
        claim = Claim(
            policy, budget.role or None, connections, per_replica=max(1, budget.per_replica)
        )
        self._note(policy, self._names.get(budget.server, budget.server), claim)

    def _awaited(self, server: str | None) -> tuple[str, ...]:
        """Policies of that server that had no pass yet since our start."""
        now = self._monotonic()
        for policy in [p for p, until in self._expected.items() if until <= now]:
            self.drop(policy)
        return tuple(sorted(p for p in self._expected if self._claims[p][0] == server))


def _server(seen: Snapshot) -> str | None:
    if seen.database is None or not isinstance(seen.database.connections, Known):
        return None
    return seen.database.connections.value.server


def _silent(claim: Claim) -> Claim:
    """It keeps what it holds, and asks for nothing."""
    return replace(claim, wanted=None, asked=None)
