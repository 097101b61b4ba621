"""Values by reference: kept for a while, asked for once, never shown."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from starforge_backlog.api.policy import SecretKeyRef
from starforge_backlog.cluster.annotations import abandons_pauses, hold_reason
from starforge_backlog.cluster.client import SECRETS, Json, Resource
from starforge_backlog.cluster.errors import fault_from_status
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.snapshot import Known, Unknown, Why

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLANTED = "hunter2-planted"
REF = SecretKeyRef(name="db", key="url")


class Api:
    """One Secret, or none."""

    def __init__(self, data: dict[str, Any] | None) -> None:
        self.data = data
        self.asked = 0

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        self.asked += 1
        await asyncio.sleep(0)
        if self.data is None:
            raise fault_from_status(resource.asked("get", namespace, name, sub), 404, b"{}")
        return {"data": self.data}


class Turned:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def made(api: Api) -> tuple[SecretReader, KeyValueStore, Turned]:
    clock = Turned()
    store = KeyValueStore(api, lambda: NOW, clock)
    return SecretReader(store), store, clock


@pytest.mark.parametrize(
    ("data", "why", "says"),
    [
        (None, Why.SECRET_NOT_FOUND, "Secret db does not exist in namespace ns; create it"),
        ({}, Why.SECRET_KEY_MISSING, "has no key url; it has no keys"),
        ({"b": "", "a": ""}, Why.SECRET_KEY_MISSING, "it has the keys a, b"),
        ({f"k{n:02}": "" for n in range(12)}, Why.SECRET_KEY_MISSING, "k09 and 2 more"),
        ({"url": "%%%"}, Why.SECRET_MALFORMED, "base64"),
        ({"url": base64.b64encode(b"\xff\xfe").decode()}, Why.SECRET_MALFORMED, "UTF-8"),
        ({"url": encoded(" \n")}, Why.SECRET_MALFORMED, "is empty"),
    ],
)
async def test_faults(data: dict[str, Any] | None, why: Why, says: str) -> None:
    reader, _, _ = made(Api(data))
    found = await reader.read("ns", REF)
    assert isinstance(found, Unknown)
    assert found.why is why
    assert says in found.message


async def test_a_line_break_at_the_end_is_not_part_of_the_value() -> None:
    reader, _, _ = made(Api({"url": encoded("postgres://h/d\n")}))
    assert await reader.read("ns", REF) == Known("postgres://h/d", NOW)


async def test_values_do_not_show() -> None:
    reader, store, _ = made(Api({"url": encoded(PLANTED)}))
    await reader.read("ns", REF)
    assert PLANTED not in repr(await store.read(SECRETS, "ns", "db"))


async def test_askers_share_one_question_for_a_while() -> None:
    api = Api({"url": encoded("one")})
    reader, _, clock = made(api)
    await asyncio.gather(*(reader.read("ns", REF) for _ in range(20)))
    assert api.asked == 1
    api.data = {"url": encoded("two")}
    assert await reader.read("ns", REF) == Known("one", NOW)
    clock.now = 31
    assert await reader.read("ns", REF) == Known("two", NOW)


async def test_forgetting_reads_again() -> None:
    api = Api({"url": encoded("old")})
    reader, _, _ = made(api)
    await reader.read("ns", REF)
    api.data = {"url": encoded("rotated")}
    reader.forget("ns", "db")
    assert await reader.read("ns", REF) == Known("rotated", NOW)


async def test_a_fault_is_believed_for_less_than_a_pass() -> None:
    api = Api(None)
    reader, _, clock = made(api)
    assert isinstance(await reader.read("ns", REF), Unknown)
    api.data = {"url": encoded("fixed")}
    clock.now = 3
    assert isinstance(await reader.read("ns", REF), Known)


async def test_an_asker_that_gives_up_does_not_spoil_the_answer_for_others() -> None:
    api = Api({"url": encoded("one")})
    reader, _, _ = made(api)
    first = asyncio.create_task(reader.read("ns", REF))
    second = asyncio.create_task(reader.read("ns", REF))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == Known("one", NOW)


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({}, None),
        ({"backlog.starforge.dev/hold": "false"}, None),
        ({"backlog.starforge.dev/hold": ""}, "no reason given"),
        ({"backlog.starforge.dev/hold": "true"}, "true"),
        ({"backlog.starforge.dev/hold": "migration\n by  ann"}, "migration by ann"),
    ],
)
def test_hold(annotations: dict[str, str], reason: str | None) -> None:
    assert hold_reason(annotations) == reason


def test_only_one_word_lets_go() -> None:
    assert abandons_pauses({"backlog.starforge.dev/release": "Abandon"})
    assert not abandons_pauses({"backlog.starforge.dev/release": "false"})
    assert not abandons_pauses({})


async def test_a_release_falls_back_on_what_was_read_last() -> None:
    api = Api({"url": encoded("one")})
    reader, _, clock = made(api)
    await reader.read("ns", REF)
    api.data, clock.now = None, 31
    gone = await reader.read("ns", REF)
    assert isinstance(gone, Unknown)
    assert await reader.for_release().read("ns", REF) == Known("one", NOW)
    never_read = await reader.for_release().read("another", REF)
    assert isinstance(never_read, Unknown)
    assert never_read.why is Why.SECRET_NOT_FOUND
    api.data, clock.now = {"url": encoded("two")}, 62
    assert await reader.for_release().read("ns", REF) == Known("two", NOW)
