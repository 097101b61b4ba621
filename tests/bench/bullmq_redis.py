"""What Redis says that its time was spent on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import redis

# Commands that a script calls are counted a second time under their own names, so a sum over all
# would count them twice: only what a client itself sends is added up.
OURS: Final = ("evalsha", "eval", "client|list", "client", "role")
PEERS: Final = ("lrange", "hmget")
NODE: Final = ("evalsha", "eval", "hgetall", "hmget", "lrange")

_MOST_ENTRIES: Final = 500_000
_SLOWLOG: Final = (Path(__file__).parent / "bullmq_slowlog.lua").read_text("utf-8")


@dataclass(frozen=True)
class Spent:
    """Calls and microseconds so far, by command."""

    calls: dict[str, int]
    microseconds: dict[str, int]

    @classmethod
    def now(cls, client: redis.Redis) -> Self:
        found: dict[str, dict[str, Any]] = client.info("commandstats")
        named = {name.removeprefix("cmdstat_"): stats for name, stats in found.items()}
        return cls(
            {name: int(stats["calls"]) for name, stats in named.items()},
            {name: int(stats["usec"]) for name, stats in named.items()},
        )

    def on(self, commands: tuple[str, ...]) -> tuple[int, int]:
        """Calls and microseconds of these together."""
        return (
            sum(self.calls.get(name, 0) for name in commands),
            sum(self.microseconds.get(name, 0) for name in commands),
        )

    def since(self, before: Spent, commands: tuple[str, ...]) -> tuple[int, int]:
        calls, microseconds = self.on(commands)
        old_calls, old_microseconds = before.on(commands)
        return calls - old_calls, microseconds - old_microseconds


class SlowLog:
    """Commands one by one, each with the client that sent it."""

    def __init__(self, client: redis.Redis, *, from_microseconds: int) -> None:
        self._client = client
        client.config_set("slowlog-log-slower-than", from_microseconds)
        client.config_set("slowlog-max-len", _MOST_ENTRIES)
        client.slowlog_reset()

    def take(self, client_name: str) -> list[int]:
        """Microseconds of each command of such clients since the last time; forgets all others."""
        found: list[int] = self._client.eval(_SLOWLOG, 0, client_name)
        return found


def cpu_milliseconds(client: redis.Redis) -> float:
    """CPU time of the server so far, by the kernel: with reading what is asked and writing the
    answers, without the moments in which the machine did something else."""
    used: dict[str, float] = client.info("cpu")
    return (used["used_cpu_user"] + used["used_cpu_sys"]) * 1000
