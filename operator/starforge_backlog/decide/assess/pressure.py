"""Is the database itself in trouble? (runbook, cause 6; `database.pressure`)

Pressure stops up-steps and reverts the last one: more workers on a database that waits for locks,
or whose tables an open transaction keeps from being vacuumed, only make it slower.
"""

from __future__ import annotations

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import Database
from starforge_backlog.decide.budget.pgbouncer import waiting_clients
from starforge_backlog.snapshot import Connections, DatabaseHealth, Pooler


def utilization_percent(database: Database, connections: Connections) -> float:
    """Clients of the server against its limit, or the policy's where that is lower; in percent."""
    maximum = connections.limit(database.max_connections)
    return 100 * connections.clients / maximum


def pressure(
    database: Database,
    connections: Connections,
    health: DatabaseHealth,
    pooler: Pooler | None = None,
) -> tuple[str, ...]:
    """The signs of pressure, each with its numbers; empty when there is none."""
    limits = database.pressure
    used = utilization_percent(database, connections)
    signs = []
    if used >= limits.utilization_percent:
        signs.append(f"connections {used:.0f}% >= {limits.utilization_percent}%")
    if health.lock_waiters is not None and health.lock_waiters >= limits.lock_waiters:
        held_by = f" held by {health.blocker}" if health.blocker else ""
        signs.append(f"{health.lock_waiters} sessions wait for a lock{held_by}")
    if health.longest_transaction >= limits.longest_transaction:
        what = f": {health.longest_is}" if health.longest_is else ""
        lasted = format_duration(health.longest_transaction)
        signs.append(f"a transaction is open for {lasted}{what}")
    if pooler is not None:
        signs += waiting_clients(pooler)
    return tuple(signs)
