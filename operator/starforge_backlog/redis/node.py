"""The shared connection to one server: one pipeline at a time, nothing that can hang."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from starforge_backlog.connections import reconnecting
from starforge_backlog.connections.reconnecting import Reconnecting
from starforge_backlog.redis.faults import NoTurn, lost_fault
from starforge_backlog.redis.session import (
    Answer,
    Command,
    Greeting,
    Session,
    Target,
    open_session,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing(reconnecting.Pacing):
    """See the base."""

    connect_within: timedelta = timedelta(seconds=2)
    turn_within: timedelta = timedelta(seconds=2)  # for the pipelines of others before ours
    retry_first: timedelta = timedelta(seconds=2)
    # A server that comes back is connected to in milliseconds. Nobody waits longer for an attempt
    # while it is known what is wrong: a pass that ran out of time would know no fix.
    patience: timedelta = timedelta(milliseconds=100)


class Node:
    """One connection to one server, for all who ask it something.

    While the server cannot be reached, callers get the last fault at once instead of an attempt
    each.
    """

    def __init__(self, target: Target, pacing: Pacing) -> None:
        self._connection: Reconnecting[Target, Session] = Reconnecting(
            target,
            lambda wanted: open_session(wanted, pacing.connect_within),
            pacing,
            no_turn=NoTurn,
            lost=lambda: lost_fault(str(self.target.address)),
        )

    @property
    def target(self) -> Target:
        """Where it leads to."""
        return self._connection.wanted

    def retarget(self, target: Target) -> None:
        """Use other credentials from the next pipeline on; they may be tried at once."""
        self._connection.want(target)

    async def run(self, commands: Sequence[Command], limit: timedelta) -> list[Answer]:
        """See `Session.run`. Raises RedisFault."""
        return await self._connection.run(lambda session: session.run(commands, limit))

    async def greeting(self) -> Greeting:
        """What the server says of itself, after connecting where need be. Raises RedisFault."""
        session = self._connection.current
        if session is not None and (self._connection.busy or not await session.ended()):
            return session.greeting
        return await self._connection.run(_greeting_of)

    async def close(self) -> None:
        """Close the connection. The object can be used again and then connects again."""
        await self._connection.close()

    async def retire(self) -> None:
        """Close it for good, after the pipelines before: it is not the right server any more."""
        await self._connection.retire()


async def _greeting_of(session: Session) -> Greeting:
    return session.greeting
