"""Carrying a plan out: a pause that fails or hangs keeps no other waiting; nothing rests on it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.simulator.given import NOW, spec

from starforge_backlog import act as acting
from starforge_backlog.act import act
from starforge_backlog.api.policy import Producer
from starforge_backlog.api.status import PausedBy, PauseState, PauseStatus
from starforge_backlog.cluster.scale import Scaled
from starforge_backlog.context import Services
from starforge_backlog.decide.plan import Action, Pause, Resume, ScaleTo, StepKind
from starforge_backlog.decide.results import (
    Failed,
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.isolation import FaultIsolation
from starforge_backlog.policy import Policy
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.producers.protocol import Holder
from starforge_backlog.snapshot import Unknown, Why

NAMES = ("a", "b", "c")
REFUSED = Unknown(Why.NO_PERMISSION, "may not", NOW)


class Producers:
    """Notes who was asked; `hangs` never answer, `refused` fail at once."""

    def __init__(
        self,
        *,
        hangs: tuple[str, ...] = (),
        refused: tuple[str, ...] = (),
        broken: tuple[str, ...] = (),
    ) -> None:
        self.began: list[str] = []
        self._hangs = hangs
        self._refused = refused
        self.broken = broken

    async def find(self, producer: Producer, _access: PolicyAccess, _holder: Holder) -> One:
        return One(self, producer.name)

    async def ask(self, name: str) -> bool:
        self.began.append(name)
        if name in self._hangs:
            await asyncio.Event().wait()
        if name in self.broken:
            raise KeyError(name)
        return name not in self._refused


class One:
    def __init__(self, all_: Producers, name: str) -> None:
        self._all = all_
        self._name = name

    async def where(self) -> None:
        return None

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str, plan: str | None
    ) -> Paused | Unknown:
        return Paused(PauseOutcome.PAUSED, "1") if await self._all.ask(self._name) else REFUSED

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        done = await self._all.ask(self._name)
        return Resumed(ResumeOutcome.RESUMED) if done else REFUSED


class Replicas:
    def __init__(self, began: list[str]) -> None:
        self._began = began

    async def write(self, *_: Any, replicas: int, **__: Any) -> Scaled:
        self._began.append(f"scale to {replicas}")
        return Scaled(replicas, "2")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "ACT_LIMIT", timedelta(seconds=0.2))


async def carry_out(producers: Producers, *actions: Action) -> list[str]:
    """What became of each action; the others were not tried."""
    policy = spec(producers=[{"name": n, "featureFlag": {"name": n}} for n in NAMES], breakers=[])
    services = SimpleNamespace(
        clock=lambda: NOW,
        producers=producers,
        replicas=Replicas(producers.began),
        secrets=None,
        databases=None,
        redis=None,
        prometheus=None,
        isolation=FaultIsolation(lambda: NOW, lambda source, reason: None),
    )
    one = SimpleNamespace(
        key="ns/etl", namespace="ns", name="etl", uid="uid-1", spec=policy, body={}
    )
    results = await act(cast(Services, services), cast(Policy, one), actions, ())
    return ["failed" if isinstance(result.got, Failed) else "done" for result in results]


def pause(name: str) -> Pause:
    return Pause(name, "b", f"uid-1/{name}/1", "5200 waiting")


def resume(name: str) -> Resume:
    held = PauseStatus(producer=name, by=PausedBy.US, state=PauseState.HELD, since=NOW, token=name)
    return Resume(held, "recovered")


def scale(to: int) -> ScaleTo:
    return ScaleTo(StepKind.UP if to > 4 else StepKind.SAFE, 4, to, "1", 1, 0, "why")


PAUSES = tuple(pause(name) for name in NAMES)


async def test_pauses_begin_in_order_and_do_not_wait_for_one_that_hangs() -> None:
    producers = Producers(hangs=("a",))
    assert await carry_out(producers, *PAUSES) == ["failed", "done", "done"]
    assert producers.began == ["a", "b", "c"]


async def test_a_bug_in_one_pause_is_a_failure_of_that_pause() -> None:
    producers = Producers(broken=("a",))
    assert await carry_out(producers, *PAUSES, scale(2)) == ["failed", "done", "done", "done"]


async def test_a_pause_that_fails_lets_the_others_and_a_step_down_go_on() -> None:
    producers = Producers(refused=("a",))
    assert await carry_out(producers, *PAUSES, scale(2)) == ["failed", "done", "done", "done"]


@pytest.mark.parametrize("rests_on_it", [scale(6), resume("c")])
async def test_nothing_rests_on_a_pause_that_failed(rests_on_it: Action) -> None:
    producers = Producers(refused=("a",))
    assert await carry_out(producers, pause("a"), rests_on_it, pause("b")) == ["failed", "done"]
    assert producers.began == ["a", "b"]


async def test_a_release_that_fails_keeps_no_other_waiting_but_a_step_up() -> None:
    producers = Producers(refused=("a",))
    assert await carry_out(producers, resume("a"), resume("b"), scale(6)) == ["failed", "done"]


async def test_one_thing_after_another_where_all_goes_well() -> None:
    producers = Producers()
    assert await carry_out(producers, pause("a"), scale(2), resume("b"), pause("c")) == ["done"] * 4
    assert producers.began == ["a", "scale to 2", "b", "c"]
