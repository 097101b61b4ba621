"""What is wrong with a Secret is searched for again with the next pass, and not a minute later."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.context import Services
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.databases.pgbouncer import ConsoleHub
from starforge_backlog.observe import _console
from starforge_backlog.policy import Policy
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.snapshot import Known, Unknown, Why

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REFERENCE = {"secretKeyRef": {"name": "db", "key": "url"}}
VALUE = SecretValue.model_validate(REFERENCE)


class Api:
    """One Secret that a person fixes."""

    def __init__(self, **values: str) -> None:
        self.values = values

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        return {"data": {k: base64.b64encode(v.encode()).decode() for k, v in self.values.items()}}


def access(reader: SecretReader) -> PolicyAccess:
    """Of one pass."""
    return PolicyAccess(
        policy="ns/etl",
        namespace="ns",
        database=None,
        secrets=reader,
        databases=DatabaseHub(),
        deadline=Deadline(asyncio.get_running_loop().time() + 5),
        late=Unknown(Why.TIMEOUT, "late", NOW),
    )


def reader_of(api: Api) -> SecretReader:
    """With a clock that stands: nothing is read again for its age."""
    return SecretReader(KeyValueStore(api, lambda: NOW, lambda: 0.0))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"other": "x"}, Why.SECRET_KEY_MISSING), ({"url": " "}, Why.SECRET_MALFORMED)],
)
async def test_a_key_that_was_fixed_counts_with_the_next_pass(
    wrong: dict[str, str], why: Why
) -> None:
    api = Api(**wrong)
    reader = reader_of(api)
    found = await access(reader).secret(VALUE)
    assert isinstance(found, Unknown)
    assert found.why is why
    api.values = {"url": "fixed"}
    assert await access(reader).secret(VALUE) == Known("fixed", NOW)


async def test_a_poolers_url_that_was_fixed_counts_with_the_next_pass() -> None:
    api = Api(url="mysql://pooler/pgbouncer")
    reader = reader_of(api)
    spec = QueueBacklogPolicySpec.model_validate(
        {
            "target": {"name": "w"},
            "database": {"url": REFERENCE, "pgbouncer": {"url": REFERENCE}},
            "queues": [{"name": "jobs", "postgres": {}}],
        }
    )
    policy = cast(Policy, SimpleNamespace(spec=spec, key="ns/etl"))
    services = cast(Services, SimpleNamespace(poolers=ConsoleHub()))
    found = await _console(services, policy, access(reader))
    assert isinstance(found, Unknown)
    assert found.why is Why.SECRET_MALFORMED
    assert "mysql" not in found.message
    api.values = {"url": "fixed"}
    assert await access(reader).secret(VALUE) == Known("fixed", NOW)
