"""A PgBouncer between the workers and the database: what a pod costs then (P1).

Without it every pod opens connections of the server. With it pods open connections of the pooler,
and the server sees the pooler's pool: all pods together hold no more than its `capacity`.

| the pool                   | the server bounds                    | the pooler bounds          |
|----------------------------|--------------------------------------|----------------------------|
| fits into the workers' cap | nothing more: it is full at the most | pods x pool <= its clients |
| is larger                  | pods x pool, as without a pooler     | the same                   |

The runbook's formula stays an upper bound in both cases. Below it, waiting clients show when
more pods are of no use: they would only wait as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.snapshot import Connections, Pooler, Reading, Unknown, Why, Workload


@dataclass(frozen=True, slots=True)
class Places:
    """Pods that may live at once, with the sum that led to it."""

    slots: int
    text: str
    clients: int | None = None  # client connections that the pooler leaves for the workers


def places(worker_cap: int, each: int, pooler: Pooler | None) -> Places:
    """`worker_cap`: the server's connections for these workers; `each`: those of one pod's pool."""
    direct = max(0, worker_cap // each)
    by_pods = f" / {each} per replica = {direct}"
    if pooler is None:
        return Places(direct, f"{by_pods} slots")
    clients = max(0, pooler.max_client_connections - pooler.other_clients)
    of_clients = clients // each
    sum_ = (
        f"{pooler.max_client_connections} clients of PgBouncer - {pooler.other_clients} others ="
        f" {clients} / {each} per replica = {of_clients}"
    )
    if pooler.capacity <= worker_cap:
        text = f" >= a pool of {pooler.capacity} for all replicas; {sum_} slots"
        return Places(of_clients, text, clients)
    slots = min(direct, of_clients)
    text = f" < a pool of {pooler.capacity}, so by pods:{by_pods}; {sum_}; {slots} slots"
    return Places(slots, text, clients)


def held(connections: int, pooled: int | None) -> int:
    """Server connections of pods that can open so many: no more than the pooler's pool, if there
    is one (`pooled`)."""
    return connections if pooled is None else min(connections, pooled)


def free_behind(
    connections: Connections, free_now: int, each: int, pooler: Pooler, role: str
) -> int:
    """Replicas that could be served at this moment.

    `free_now`: the server's connections that are free, headroom left alone. A full pool serves
    nobody more; one that can grow to its end within them is no bound, its clients are (`places`).
    """
    if pooler.full:
        return 0
    growth = pooler.capacity - connections.by_role.get(role, 0)
    return max(0, free_now) // each if growth > free_now else pooler.max_client_connections


def waiting_clients(pooler: Pooler) -> tuple[str, ...]:
    """The sign of pressure that more pods would only wait. In two samples in a row: one client that
    waits for a moment is a pool at work. Without numbers that move: it stands in status (P7)."""
    if not pooler.waited_before or not (pooler.clients_waiting or pooler.longest_wait):
        return ()
    said = (
        f"clients wait for PgBouncer's {pooler.capacity} connections: more pods would wait too;"
        " raise default_pool_size if the database has connections left"
    )
    return (said,)


def readable_pooler(reading: Reading[Pooler] | None, workload: Workload) -> Pooler | Unknown | None:
    """The pooler to plan with; None: the policy names none.

    Workers that run and yet have no pool there connect past it, or by another pooler: then its
    capacity bounds nothing.
    """
    if reading is None or isinstance(reading, Unknown):
        return reading
    if not reading.value.known and workload.ready:
        message = (
            "pods are Ready, but PgBouncer has no database for the role of the workers. Do they"
            " connect through another PgBouncer, or directly? Correct database.pgbouncer.url or"
            " workerRole, or remove database.pgbouncer"
        )
        return Unknown(Why.BAD_SHAPE, message, reading.at)
    return reading.value
