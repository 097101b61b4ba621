"""A server and what is used of it, as status keeps it with a pause.

Status holds one line, which people read as well:

    system 7291837465/starforge at db.example:5432        PostgreSQL that reports its identifier
    database starforge at db.example:5432                 PostgreSQL that does not
    database starforge schema app at db.example:5432      where the URL names one (Prisma)
    Redis db 0 at redis.example:6379
    Redis master etl, db 0 at a.example:26379,b.example:26379

Entries outlive the version of the operator that wrote them, so the lines above stay readable: a
pause whose place is not known again is not released by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from starforge_backlog.api.bounds import MOST_WHERE_CHARACTERS
from starforge_backlog.api.shown import shortened

_SYSTEM: Final = "system "
_AT: Final = " at "  # no address holds it, whatever the names before it do
_BETWEEN: Final = ","
# The rest is for addresses. What is cut ends in a digest, so that two of them stay two.
_MOST_IDENTITY: Final = MOST_WHERE_CHARACTERS // 2


class KnownBy(Enum):
    """What distinguishes two servers."""

    IDENTIFIER = "identifier"  # the server's own, the same at any address
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """Which server, and which part of it. It has no login in it."""

    known_by: KnownBy
    identity: str  # all but the addresses
    addresses: tuple[str, ...]  # host:port

    def __str__(self) -> str:
        if not self.addresses:
            return self.identity
        return f"{self.identity}{_AT}{_BETWEEN.join(self.addresses)}"

    @classmethod
    def of_system(cls, system: str, part: str, addresses: Iterable[str]) -> ServerPlace:
        """Of a server that reports its identifier."""
        return _bounded(KnownBy.IDENTIFIER, f"{_SYSTEM}{system}/{part}", addresses)

    @classmethod
    def of_addresses(cls, what: str, addresses: Iterable[str]) -> ServerPlace:
        """Of a server of which no more is known than what it is used for, and where it is."""
        return _bounded(KnownBy.ADDRESS, what, addresses)

    @classmethod
    def parse(cls, stored: str) -> ServerPlace | None:
        """The place that status holds; None: it holds none."""
        if not stored:
            return None
        identity, at, addresses = stored.rpartition(_AT)
        if not at:  # cut before its end by an earlier version
            identity, addresses = stored, ""
        known_by = KnownBy.IDENTIFIER if identity.startswith(_SYSTEM) else KnownBy.ADDRESS
        return cls(known_by, identity, tuple(addresses.split(_BETWEEN)) if addresses else ())


def _bounded(known_by: KnownBy, identity: str, addresses: Iterable[str]) -> ServerPlace:
    identity = shortened(identity, _MOST_IDENTITY)
    left = MOST_WHERE_CHARACTERS - len(identity) - len(_AT)
    first: list[str] = []
    for address in sorted(addresses):
        shown = address if first else shortened(address, left)
        left -= len(shown) + len(_BETWEEN)
        if first and left < 0:
            break  # the same ones each time: one address in common is enough
        first.append(shown)
    return ServerPlace(known_by, identity, tuple(first))
