"""Connections and health of a database from Prometheus, for an operator without a login.

What it cannot know: limits of roles and of the database, whose session is ours, a standby. Samples
are as far apart as scrapes, so a rush of connections between two of them is not seen: the peak of
15 minutes is of samples.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from starforge_backlog.api.prometheus import PrometheusDatabase
from starforge_backlog.api.shown import shortened
from starforge_backlog.connections.kept import Kept
from starforge_backlog.databases.peaks import Peaks
from starforge_backlog.prometheus.hub import Prometheus
from starforge_backlog.prometheus.judgement import Series
from starforge_backlog.prometheus.numbers import age, rate
from starforge_backlog.prometheus.question import Question
from starforge_backlog.snapshot import (
    Connections,
    DatabaseHealth,
    DatabaseReading,
    Known,
    Reading,
    Unknown,
    Why,
)

AT: Final = "database.prometheus"
"""Where the expressions are in a spec."""
# Nobody scrapes more often; what is nearer in time is the same sample, read twice.
LEAST_APART = timedelta(milliseconds=900)


class ScrapedDatabases:
    """The readers of one Prometheus: one per database, so that its peaks are remembered."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self._kept = Kept()

    def reader(self, spec: PrometheusDatabase) -> ScrapedDatabase:
        """The reader of a database; policies that ask differently remember different peaks."""
        key = spec.server, spec.connections_by_role
        return self._kept.get(key, lambda: ScrapedDatabase(self._prometheus))


class ScrapedDatabase:
    """Reads connections and health of one database server from its series."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self._peaks = Peaks()
        self._last: tuple[datetime, Mapping[str, int], timedelta] | None = None

    async def read(self, spec: PrometheusDatabase, window: timedelta) -> DatabaseReading:
        """The newest samples. `window` stands for $window. Expected faults are `Unknown`."""

        def ask(name: str, expression: str) -> Question:
            return Question(f"{AT}.{name}", expression, window, spec.stale_after)

        number = self._prometheus.number

        async def lock_waiters() -> Reading[float] | None:
            given = spec.lock_waiters
            return None if given is None else await number(ask("lockWaiters", given))

        by_role, limit, reserved, waiters, longest = await asyncio.gather(
            self._prometheus.series(ask("connectionsByRole", spec.connections_by_role)),
            number(ask("maxConnections", spec.max_connections)),
            number(ask("reservedConnections", spec.reserved_connections)),
            lock_waiters(),
            number(ask("longestTransactionSeconds", spec.longest_transaction_seconds)),
        )
        return DatabaseReading(
            self._connections(spec.server, by_role, limit, reserved), _health(waiters, longest)
        )

    def _connections(
        self,
        server: str,
        series: Reading[tuple[Series, ...]],
        limit: Reading[float],
        reserved: Reading[float],
    ) -> Reading[Connections]:
        for part in (series, limit, reserved):
            if isinstance(part, Unknown):
                return part
        assert isinstance(series, Known)
        assert isinstance(limit, Known)
        assert isinstance(reserved, Known)
        by_role = _by_role(series.value)
        at = min(series.at, limit.at, reserved.at)
        if isinstance(by_role, str):
            return Unknown(Why.BAD_SHAPE, f"{AT}.connectionsByRole: {by_role}", at)
        if limit.value < 1 or reserved.value < 0:
            message = f"{AT}: maxConnections is below 1, or reservedConnections below 0; correct it"
            return Unknown(Why.NOT_A_NUMBER, message, at)
        peaks, covered = self._lately(server, by_role, series.at)
        found = Connections(
            # No server names itself so: a policy with a login has a number there.
            server=f"prometheus:{server}",
            max_connections=math.floor(limit.value),
            superuser_reserved=math.ceil(reserved.value),
            reserved=0,
            provider_reserved=0,
            database_limit=None,
            role_limits={},
            clients=sum(by_role.values()),
            by_role=by_role,
            peak_by_role=peaks,
            peak_until=self._peaks.until,
            window=covered,
            own=0,
            own_role="",
        )
        return Known(found, at, series.lasts)

    def _lately(
        self, server: str, by_role: Mapping[str, int], at: datetime
    ) -> tuple[Mapping[str, int], timedelta]:
        """The peaks; a sample that several policies read at the same moment is one."""
        if self._last is None or abs(at - self._last[0]) >= LEAST_APART:
            self._last = at, *self._peaks.add(server, by_role, at)
        return self._last[1:]


def _by_role(series: tuple[Series, ...]) -> Mapping[str, int] | str:
    """Connections per role, or what is wrong with the series.

    A series without a label is of background workers, which have no role.
    """
    if not series:
        return "no series; a server without any connection does not exist, correct the expression"
    names = {name for one in series for name in one.labels}
    if len(names) > 1:
        shown = ", ".join(sorted(names))
        return f"series have the labels {shown}; one must be the role: sum by (usename) (…)"
    found: dict[str, int] = {}
    for one in series:
        role = next(iter(one.labels.values()), "")
        if one.value < 0:
            return f"role {shortened(role) or '(none)'} has {one.value:g} connections; correct it"
        found[role] = found.get(role, 0) + math.ceil(one.value)
    return found


def _health(waiters: Reading[float] | None, longest: Reading[float]) -> Reading[DatabaseHealth]:
    open_for = age(longest, f"{AT}.longestTransactionSeconds")
    if isinstance(open_for, Unknown):
        return open_for
    if waiters is None:
        return Known(DatabaseHealth(None, open_for.value), open_for.at, open_for.lasts)
    wait = rate(waiters, f"{AT}.lockWaiters")
    if isinstance(wait, Unknown):
        return wait
    health = DatabaseHealth(math.ceil(wait.value), open_for.value)
    return Known(health, min(open_for.at, wait.at), open_for.lasts)
