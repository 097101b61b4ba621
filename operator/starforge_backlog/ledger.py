"""Who holds how many connections on which database, over all policies (P1).

One process leads, so a plain dictionary is the ledger; what is in it can be computed again from
the workloads after a restart. Between a decision and its write nothing awaits, so two policies
can never be promised the same connection.
"""

from __future__ import annotations

from dataclasses import replace

from starforge_backlog.api.policy import Target
from starforge_backlog.decide.budget import potential
from starforge_backlog.snapshot import Claim, Known, Snapshot


class Ledger:
    """Claims per database (`Connections.server`)."""

    def __init__(self) -> None:
        self._claims: dict[str, tuple[str, Claim]] = {}  # policy → (database, claim)
        self._uncounted: set[str] = set()

    def expect(self, policy: str) -> None:
        """A policy exists; until it was counted once, nobody may count on what is left."""
        if policy not in self._claims:
            self._uncounted.add(policy)

    def expect_no_more(self) -> None:
        """What did not come is gone: everybody else must not wait for it for ever."""
        self._uncounted.clear()

    def count(self, policy: str, target: Target, seen: Snapshot) -> Snapshot:
        """Note what a policy's pods can open, and put the others' claims into its snapshot.

        A policy that cannot be read keeps its last claim: its pods are still there (P2).
        """
        self._uncounted.discard(policy)
        database = seen.database
        if database is None or not isinstance(database.connections, Known):
            return replace(seen, claims_complete=not self._uncounted)
        server = database.connections.value.server
        if isinstance(seen.workload, Known) and isinstance(seen.per_replica, Known):
            workload, each = seen.workload.value, seen.per_replica.value
            # Minimums first: a policy is entitled to them while its target runs at less. A target
            # that was scaled to zero by a person wants none.
            replicas = max(workload.replicas, workload.ready + workload.pending)
            if workload.replicas:
                replicas = max(replicas, target.min_replicas)
            opened = potential(replicas, workload, each.connections)
            self._claims[policy] = (server, Claim(policy, each.role, opened))
        return replace(
            seen, claims=self.others(server, policy), claims_complete=not self._uncounted
        )

    def others(self, server: str, policy: str) -> tuple[Claim, ...]:
        """What all other policies hold on that database."""
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
        self._uncounted.discard(policy)
