"""Who holds how many connections on which server, over all policies (P1).

One process runs, so a plain dictionary is the ledger. After a restart it fills with the first
passes; what cannot be read then is taken from the policy's own status, because its pods are there
whether we can see them or not. Between a decision and its write nothing awaits, so two policies
can never be promised the same connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from starforge_backlog.api.policy import QueueBacklogPolicySpec, Target
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.decide.budget import potential
from starforge_backlog.decide.pooler import held
from starforge_backlog.decide.pools import count_old_pool, remember_pool
from starforge_backlog.snapshot import Claim, Known, PerReplica, Snapshot, Workload

# How long others wait for the first pass of a policy. By then it had one, or it never will (it
# was deleted between our list and the watch's, or its passes fail): then it must not hold them.
EXPECTED_FOR_SECONDS = 120.0


class Ledger:
    """Claims per server (`Connections.server`)."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._claims: dict[str, tuple[str, Claim]] = {}  # policy → (server, claim)
        self._expected: dict[str, float] = {}  # policy → until when others wait for it

    def expect(self, policy: str) -> None:
        """A policy exists; until it was counted, nobody may count on what is left."""
        if policy not in self._claims:
            self._expected.setdefault(policy, self._monotonic() + EXPECTED_FOR_SECONDS)

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
        server = _server(seen)
        if seen.rival is not None:
            # Its pods are the older policy's too, and count there, once.
            self.drop(policy)
            others = () if server is None else self.others(server, policy)
            claims = tuple(claim for claim in others if claim.policy != seen.rival.policy)
            return replace(seen, claims=claims, claims_complete=not self._waiting())
        if spec.database is None:
            self._expected.pop(policy, None)
        elif server is not None and isinstance(seen.workload, Known):
            # A pool that was made smaller is smaller only in pods that have started since.
            memory = remember_pool(before.scaling, seen, seen.taken_at)
            each = count_old_pool(spec.target.connections_per_replica, memory, seen).per_replica
            if isinstance(each, Known):
                guard = before.scaling.guard if spec.target.guard is not None else None
                allowed = (guard.maximum if guard is not None else None) or 0
                claim = _claim(policy, spec.target, seen.workload.value, each.value, allowed)
                self._note(policy, server, claim)
            elif policy not in self._claims:
                self._remember(policy, before)
        elif policy not in self._claims:
            self._remember(policy, before)
        claims = () if server is None else self.others(server, policy)
        return replace(seen, claims=claims, claims_complete=not self._waiting())

    def others(self, server: str, policy: str) -> tuple[Claim, ...]:
        """What all other policies hold on that server."""
        return tuple(
            claim
            for name, (where, claim) in self._claims.items()
            if where == server and name != policy
        )

    def raise_to(self, policy: str, connections: int) -> None:
        """Promise a policy the connections that a write is about to make possible.

        Never lowers: until the next reading the old pods may still be there.
        """
        if policy in self._claims:
            server, claim = self._claims[policy]
            most = max(claim.connections, connections)
            self._claims[policy] = (server, replace(claim, connections=most))

    def drop(self, policy: str) -> None:
        """The policy is gone; its pods are strangers' connections from now on."""
        self._claims.pop(policy, None)
        self._expected.pop(policy, None)

    def _note(self, policy: str, server: str, claim: Claim) -> None:
        self._claims[policy] = (server, claim)
        self._expected.pop(policy, None)

    def _remember(self, policy: str, before: QueueBacklogPolicyStatus) -> None:
        """Unreadable since our start: what its status says of its pods stands for them."""
        budget, replicas = before.budget, before.scaling.replicas
        if budget is None or not budget.server or replicas is None:
            return  # it was never read, so it never scaled; others wait for it no longer than said
        pods = replicas + budget.surge + budget.terminating
        connections = held(pods * budget.per_replica, budget.pool)
        # Without a role: its sessions then count as others' besides, which is too much, not too
        # little.
        self._note(policy, budget.server, Claim(policy, None, connections))

    def _waiting(self) -> bool:
        """Whether somebody is still to be counted."""
        if not self._expected:
            return False
        now = self._monotonic()
        for policy in [p for p, until in self._expected.items() if until <= now]:
            del self._expected[policy]
        return bool(self._expected)


def _server(seen: Snapshot) -> str | None:
    if seen.database is None or not isinstance(seen.database.connections, Known):
        return None
    return seen.database.connections.value.server


def _claim(
    policy: str, target: Target, workload: Workload, each: PerReplica, allowed: int
) -> Claim:
    """Minimums first: a policy is entitled to them while its target runs at less. A target that
    was scaled to zero by a person wants none. A guarded autoscaler may go to `allowed` replicas at
    any moment, without asking; what its owner allows beyond the budget is lowered and not kept."""
    replicas = max(workload.living, allowed)
    if workload.replicas:
        replicas = max(replicas, target.min_replicas)
    connections = held(potential(replicas, workload, each.connections), each.pooled)
    return Claim(policy, each.role, connections)
