"""A PgBouncer between the workers and the database: what a pod costs then (P1).

Without it every pod opens connections of the server. With it pods open connections of the pooler,
and the server sees the pooler's pool: all pods together hold no more than its `capacity`.

| the pool                   | the server bounds                    | the pooler bounds          |
|----------------------------|--------------------------------------|----------------------------|
| fits into the workers' cap | nothing more: it is full at the most | pods x pool <= its clients |
| is larger                  | pods x pool, as without a pooler     | the same                   |

The runbook's formula stays an upper bound in both cases. Below it, clients that wait tell when
more pods are of no use: they only wait as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.snapshot import Connections, Pooler


@dataclass(frozen=True, slots=True)
class Places:
    """Pods that may live at once behind a pooler, with the sum that led to it."""

    slots: int
    clients: int  # client connections that are left for the workers
    text: str


def held(connections: int, pooled: int | None) -> int:
    """Server connections of pods that can open so many. `pooled` is the pool's capacity; None:
    they connect directly."""
    return connections if pooled is None else min(connections, pooled)


def places(worker_cap: int, each: int, pooler: Pooler) -> Places:
    """`worker_cap` as for pods that connect directly, `each` as the pool of one of them."""
    clients = max(0, pooler.max_client_connections - pooler.other_clients)
    of_clients = clients // each
    sum_ = (
        f"{pooler.max_client_connections} clients of the pooler - {pooler.other_clients} others"
        f" = {clients} / {each} per replica = {of_clients}"
    )
    if pooler.capacity <= worker_cap:
        pool = f"a pool of {pooler.capacity} <= {worker_cap} for all replicas"
        return Places(of_clients, clients, f"{pool}; {sum_} slots")
    direct = max(0, worker_cap) // each
    pool = (
        f"a pool of {pooler.capacity} > {worker_cap}, so by pods: / {each} per replica = {direct}"
    )
    slots = min(direct, of_clients)
    return Places(slots, clients, f"{pool}; {sum_}; {slots} slots")


def signs(pooler: Pooler) -> tuple[str, ...]:
    """Signs that more pods would only wait. In two looks in a row: one client that waits for a
    moment is a pool at work. Without numbers that move: these are texts of status (P7)."""
    if not pooler.waited_before or not (pooler.clients_waiting or pooler.longest_wait):
        return ()
    said = (
        f"clients wait for the pooler's {pooler.capacity} connections: more pods would only wait"
        " as well; raise default_pool_size, if the database bears it"
    )
    return (said,)


def free(connections: Connections, free_now: int, each: int, pooler: Pooler, role: str) -> int:
    """Replicas that could be served at this moment.

    `free_now`: the server's connections that are free, headroom left alone. A full pool serves
    nobody more; one that can grow to its end within them is no bound, its clients are (`places`).
    """
    if pooler.full:
        return 0
    growth = pooler.capacity - connections.by_role.get(role, 0)
    return max(0, free_now) // each if growth > free_now else pooler.max_client_connections
