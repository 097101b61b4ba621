"""How many database connections one replica can open, and as whom."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from starforge_backlog.api.policy import ConnectionsPerReplica
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.client import Json
from starforge_backlog.cluster.environment import Environment, EnvValue, Origin
from starforge_backlog.cluster.secrets import KeyValueStore
from starforge_backlog.connections.ttl_cache import MonotonicClock, TtlCache
from starforge_backlog.snapshot import Known, PerReplica, PoolFrom, Reading, Unknown, Why

# A ConfigMap can change under the same pod template, and the next pod starts with the new number:
# as long as this the budget may be off by it.
KEEP_SECONDS = 30.0
# A fault is believed for less than a pass.
KEEP_FAULT_SECONDS = 2.0
# A pool larger than any server's max_connections is a slip of the pen or another number.
LARGEST_POOL = 10_000
# Values that are quoted in a message: short, and never from a Secret.
QUOTED_CHARACTERS = 16
FIX = "or set spec.target.connectionsPerReplica.value"

_Key = tuple[str, int, ConnectionsPerReplica]


class PerReplicaReader:
    """Reads `spec.target.connectionsPerReplica` out of a pod template."""

    def __init__(
        self,
        store: KeyValueStore,
        clock: Clock = utc_now,
        monotonic: MonotonicClock = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._cache: TtlCache[_Key, Reading[PerReplica]] = TtlCache(monotonic)

    async def read(
        self,
        namespace: str,
        wanted: ConnectionsPerReplica,
        containers: Sequence[Json],
        *,
        uid: str,
        generation: int,
    ) -> Reading[PerReplica]:
        """The connections of one replica, kept for one workload at one generation."""

        async def ask() -> Reading[PerReplica]:
            return await self._ask(Environment(self._store, namespace, containers), wanted)

        return await self._cache.get((uid, generation, wanted), ask, _lasts)

    async def _ask(
        self, environment: Environment, wanted: ConnectionsPerReplica
    ) -> Reading[PerReplica]:
        at = self._clock()
        names = environment.containers
        if wanted.value is not None:
            role = await environment.database_role(names[0] if names else "")
            source = "spec.target.connectionsPerReplica.value"
            return Known(_total(wanted, wanted.value, source, role, PoolFrom.POLICY), at)
        name = wanted.variable
        if not names:
            message = f"no pod template shows the variable {name}: start a replica, {FIX}"
            return Unknown(Why.ENV_NOT_FOUND, message, at)
        found = await environment.find_all(name)
        if not found:
            message = (
                f"no container ({', '.join(names)}) has the environment variable {name}; set it "
                f"in the pod template, {FIX}"
            )
            return Unknown(Why.ENV_NOT_FOUND, message, at)
        pools: dict[str, int] = {}
        in_template = True
        for reading in found:
            if isinstance(reading, Unknown):
                return Unknown(reading.why, f"{name} cannot be read: {reading.message}", at)
            pool = _positive(reading.value.value)
            if pool is None:
                return Unknown(Why.ENV_NOT_A_NUMBER, _not_a_number(reading.value), at)
            pools[reading.value.container] = pool
            in_template = in_template and reading.value.origin is Origin.PLAIN
        role = await environment.database_role(next(iter(pools)))
        pool_from = PoolFrom.TEMPLATE if in_template else PoolFrom.REFERENCE
        each = _total(wanted, sum(pools.values()), _source(name, pools), role, pool_from)
        return Known(replace(each, added_up=_added_up(pools)), at)


def _source(name: str, pools: Mapping[str, int]) -> str:
    """Where the number comes from."""
    return f"env {name} of container {' and '.join(pools)}"


def _added_up(pools: Mapping[str, int]) -> str:
    """The sum over several containers, in words; empty for one."""
    if len(pools) == 1:
        return ""
    return " + ".join(f"{pool} ({container})" for container, pool in pools.items())


def _total(
    wanted: ConnectionsPerReplica, pool: int, source: str, role: str | None, pool_from: PoolFrom
) -> PerReplica:
    return PerReplica(
        connections=pool * wanted.processes + wanted.extra,
        pool=pool,
        source=source,
        role=role,
        pool_from=pool_from,
    )


def _positive(text: str) -> int | None:
    text = text.strip()
    # `isdecimal` alone lets digits of other scripts through, which no worker would parse.
    if not (text.isascii() and text.isdecimal()):
        return None
    return number if 1 <= (number := int(text[:12])) <= LARGEST_POOL else None


def _not_a_number(found: EnvValue) -> str:
    short = len(found.value) <= QUOTED_CHARACTERS and "://" not in found.value
    quotable = short and found.origin in {Origin.PLAIN, Origin.CONFIG_MAP}
    shown = f" ({found.value!r})" if quotable else ""
    return (
        f"{found.name} of container {found.container}{shown}, from its {found.origin}, is not a"
        f" number from 1 to {LARGEST_POOL}; fix it, {FIX}"
    )


def _lasts(reading: Reading[PerReplica]) -> float:
    return KEEP_SECONDS if isinstance(reading, Known) else KEEP_FAULT_SECONDS
