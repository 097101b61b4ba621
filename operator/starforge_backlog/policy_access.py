"""What a policy gives its sources: its secrets and its database, each under the pass' deadline.

Sources differ in what they need: a table the policy's database, a BullMQ queue a secret of its own,
a ConfigMap neither. They ask here, so that one missing part concerns only those who need it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from starforge_backlog.api.database_tls import DatabaseTls
from starforge_backlog.api.prometheus import Tls
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.api.target import Target
from starforge_backlog.cluster.secrets import SecretReader
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.faults import Fault
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Known, Reading, Unknown, Why

T = TypeVar("T")

# What a new value of the Secret fixes: it is read again for the next pass, so that a rotated
# password or a corrected URL counts at once. Not an outage: a server that is down has all its
# policies ask, and their Secrets are as good as before.
FIXED_BY_SECRET = frozenset(
    {
        Why.SECRET_KEY_MISSING,
        Why.SECRET_MALFORMED,
        Why.WRONG_PASSWORD,
        Why.HOST_UNKNOWN,
        Why.DATABASE_NOT_FOUND,
        Why.TLS_FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class Deadline:
    """One moment (loop time) for all readings of a pass."""

    at: float

    async def keep(self, reading: Awaitable[T], late: T) -> T:
        """The reading, or `late` when it did not come in time."""
        try:
            async with asyncio.timeout_at(self.at):
                return await reading
        except TimeoutError:
            return late


class PolicyAccess:
    """One policy's secrets and database, for one pass."""

    def __init__(
        self,
        *,
        policy: str,
        namespace: str,
        database: SecretValue | None,
        secrets: SecretReader,
        databases: DatabaseHub,
        deadline: Deadline,
        late: Unknown,
        target: Target | None = None,
        types: frozenset[str] = frozenset(),
        tls: DatabaseTls | None = None,
    ) -> None:
        """`types`: job types that the policy reads one by one, besides those of its queues.
        `tls`: whom the database's connection trusts. So many, and all by name, because each kind of
        source needs a few others of them."""
        self.types = types
        self.policy = policy
        self.namespace = namespace
        self.deadline = deadline
        self.late = late
        self.target = target  # what the policy scales: no producer of its own
        self._reference = database
        self._tls = tls  # of the database
        self._secrets = secrets
        self._databases = databases
        self._opened = SharedAnswer(self._open, timedelta.max)  # as long as a pass lasts

    def at(self, database: SecretValue | None, tls: DatabaseTls | None) -> PolicyAccess:
        """The same for the database behind another reference, until the same moment."""
        if database is None or (database, tls) == (self._reference, self._tls):
            return self
        other = copy(self)
        other._reference, other._tls = database, tls
        other._opened = SharedAnswer(other._open, timedelta.max)
        return other

    async def secret(self, value: SecretValue) -> Reading[str]:
        """The value behind a reference in the policy's namespace."""
        reading = self._secrets.read(self.namespace, value.secret_key_ref)
        found = await self.deadline.keep(reading, self.late)
        self.invalidate(
            value, found
        )  # a key that is missing or malformed is searched for next time
        return found

    async def redis(
        self, hub: RedisHub, url: SecretValue, tls: Tls | None = None
    ) -> RedisServer | Unknown:
        """The shared connection for a URL behind a reference; nothing is opened yet."""
        text = await self.secret(url)
        if isinstance(text, Unknown):
            return text
        ca: Known[str] | None = None
        if tls is not None and tls.ca is not None:
            found = await self.secret(tls.ca)
            if isinstance(found, Unknown):
                return found
            ca = found
        name = None if tls is None else tls.server_name
        try:
            return hub.get(
                text.value,
                owner=self.policy,
                ca=None if ca is None else ca.value,
                server_name=name,
            )
        except RedisFault as fault:
            return self._of_secret(url, fault, text.at)

    async def authorities(self, tls: DatabaseTls | None) -> Reading[str]:
        """The certificates behind `tls.ca`; empty where none are given."""
        return Known("", self.late.at) if tls is None else await self.secret(tls.ca)

    async def database(self) -> tuple[str, Database] | Unknown:
        """URL and shared connection of `spec.database.url`; nothing is opened yet."""
        return await self._opened.get()

    def invalidate(self, value: SecretValue, reading: Reading[object]) -> None:
        """After a fault that the Secret may be to blame for: read it again next time."""
        if isinstance(reading, Unknown) and reading.why in FIXED_BY_SECRET:
            self._secrets.forget(self.namespace, value.secret_key_ref.name)

    async def _open(self) -> tuple[str, Database] | Unknown:
        if self._reference is None:
            message = "the policy names no database; set spec.database.url"
            return Unknown(Why.NOT_CONFIGURED, message, self.late.at)
        url = await self.secret(self._reference)
        if isinstance(url, Unknown):
            return url
        ca = await self.authorities(self._tls)
        if isinstance(ca, Unknown):
            return ca
        try:
            return url.value, self._databases.get(url.value, owner=self.policy, ca=ca.value)
        except DatabaseFault as fault:
            return self._of_secret(self._reference, fault, url.at)

    def _of_secret(self, value: SecretValue, fault: Fault, at: datetime) -> Unknown:
        reference = value.secret_key_ref
        where = f"Secret {reference.name}, key {reference.key}"
        wrong = Unknown(fault.why, f"{where}: {fault.message}", at, names_secret=True)
        self.invalidate(value, wrong)
        return wrong
