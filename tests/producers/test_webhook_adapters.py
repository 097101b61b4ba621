"""One reading of an API for all policies that name it with one login, and none across logins."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.producers.objects import AT
from tests.producers.webhook_api import FakeApi, answers, hangs, served

from starforge_backlog.api.policy import Producer
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.errors import Asked, fault_from_status
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.decide.results import Paused
from starforge_backlog.http.caller import HttpCaller
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.producers.outside import OutsideAdapters
from starforge_backlog.producers.protocol import Holder, Pausable
from starforge_backlog.snapshot import Known, Unknown, Why


class Secrets:
    """Of one namespace; counts how often it is asked."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, str]] = {"partner": {"key": "one"}}
        self.asked = 0

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        self.asked += 1
        if name not in self.values:
            asked = Asked("get", "secrets", "", namespace, name)
            raise fault_from_status(asked, 404, b"{}")
        data = {k: base64.b64encode(v.encode()).decode() for k, v in self.values[name].items()}
        return {"data": data}


class Place:
    """The adapters of one process, and policies that ask in them."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.secrets = Secrets()
        self.caller = HttpCaller()
        self._reader = SecretReader(KeyValueStore(self.secrets))
        # No object of the cluster is asked for here, so there is no client.
        self._adapters = OutsideAdapters(None, self.caller, utc_now)  # type: ignore[arg-type]  # see above

    async def find(self, policy: str = "ns/etl", **webhook: Any) -> Pausable | Unknown:
        spec = {
            "url": self.api.url,
            "secret": {"secretKeyRef": {"name": "partner", "key": "key"}},
            **webhook,
        }
        producer = Producer.model_validate({"name": "partner", "webhook": spec})
        access = PolicyAccess(
            policy=policy,
            namespace="ns",
            database=None,
            secrets=self._reader,
            databases=DatabaseHub(),
            deadline=Deadline(asyncio.get_running_loop().time() + 60),
            late=Unknown(Why.TIMEOUT, "", AT),
        )
        return await self._adapters.find(producer, access, Holder(policy, "partner"))

    async def reader(self, policy: str = "ns/etl", **webhook: Any) -> Pausable:
        found = await self.find(policy, **webhook)
        assert not isinstance(found, Unknown), found
        return found


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with served(FakeApi()) as api:
        place = Place(api)
        yield place
        await place.caller.close()


async def test_a_hundred_policies_cost_one_call(place: Place) -> None:
    readers = [await place.reader(f"ns/etl-{n}") for n in range(100)]
    readings = await asyncio.gather(*(reader.read() for reader in readers))
    assert all(isinstance(reading, Known) for reading in readings)
    assert (place.api.methods, place.secrets.asked) == (["GET"], 1)


async def test_a_write_of_one_policy_is_seen_by_all_at_once(place: Place) -> None:
    one, other = await place.reader("ns/one"), await place.reader("ns/other")
    await other.read()
    await one.pause(owner="ns/one", token="uid/partner/1", at=AT)
    seen = await other.read()
    assert isinstance(seen, Known)
    assert seen.value.token == "uid/partner/1"
    assert place.api.posts[0]["policy"] == "ns/one"


async def test_another_login_is_another_api(place: Place) -> None:
    """Who knows the address alone must not read, or pause, with the secret of another client."""
    place.secrets.values["other"] = {"key": "two"}
    theirs = {"secretKeyRef": {"name": "other", "key": "key"}}
    await (await place.reader("ns/one")).read()
    await (await place.reader("ns/other", secret=theirs)).read()
    signatures = {headers["X-StarForge-Signature"] for _, headers, _ in place.api.got}
    assert (len(place.api.got), len(signatures)) == (2, 2)


@pytest.mark.parametrize(
    ("reference", "why", "says"),
    [
        (
            {"name": "partner", "key": "nope"},
            Why.SECRET_KEY_MISSING,
            "no key nope; it has the keys",
        ),
        ({"name": "nope", "key": "key"}, Why.SECRET_NOT_FOUND, "Secret nope does not exist"),
    ],
)
@pytest.mark.parametrize("field", ["secret", "bearerToken", "tls"])
async def test_a_secret_that_is_not_there(
    place: Place, reference: dict[str, str], why: Why, says: str, field: str
) -> None:
    value: dict[str, Any] = {"secretKeyRef": reference}
    webhook: dict[str, Any] = {field: {"ca": value} if field == "tls" else value}
    got = await place.find("ns/etl", **webhook)
    assert isinstance(got, Unknown)
    assert (got.why, says in got.message) == (why, True), got.message
    assert place.api.got == []


async def test_a_refused_signature_has_the_secret_read_again(place: Place) -> None:
    place.api.faults.append(answers(401))
    got = await (await place.reader()).read()
    assert isinstance(got, Unknown)
    place.secrets.values["partner"]["key"] = "rotated"
    first = place.api.got[0][1]["X-StarForge-Signature"]
    held = await (await place.reader()).pause(owner="ns/etl", token="t", at=AT)
    assert isinstance(held, Paused)
    assert place.secrets.asked == 2
    assert first.partition(",")[2] != place.api.got[1][1]["X-StarForge-Signature"].partition(",")[2]


async def test_a_time_limit_of_the_policy_counts(place: Place) -> None:
    place.api.faults.append(hangs)
    hasty = await (await place.reader(timeout=timedelta(seconds=1))).read()
    assert isinstance(hasty, Unknown)
    assert "within 1 s" in hasty.message

    async def slow(request: Any) -> Any:
        await asyncio.sleep(1.3)
        return await answers(200, '{"paused": false}')(request)

    place.api.faults.append(slow)
    assert isinstance(await (await place.reader(timeout=timedelta(seconds=4))).read(), Known)
