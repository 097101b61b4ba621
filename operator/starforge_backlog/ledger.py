"""Who holds how many connections on which database, over all policies (P1).

One process leads, so a plain dictionary is the ledger; what is in it can be computed again from
the workloads after a restart. Between a decision and its write nothing awaits, so two policies
can never be promised the same connection.
"""

from __future__ import annotations

from dataclasses import replace

from starforge_backlog.snapshot import Claim


class Ledger:
    """Claims per database (`Connections.server`)."""

    def __init__(self) -> None:
        self._claims: dict[str, tuple[str, Claim]] = {}  # policy → (database, claim)

    def others(self, server: str, policy: str) -> tuple[Claim, ...]:
        """What all other policies hold on that database."""
        return tuple(
            claim
            for name, (where, claim) in self._claims.items()
            if where == server and name != policy
        )

    def hold(self, server: str, claim: Claim) -> None:
        """Note what a policy's pods can open now, or are about to."""
        self._claims[claim.policy] = (server, claim)

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
