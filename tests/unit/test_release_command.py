"""The release command's arguments: what makes no sense is refused before anything is stopped."""

from __future__ import annotations

import argparse
import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from starforge_backlog import release_command
from starforge_backlog.cluster.served import Served
from starforge_backlog.cluster.stopping import Stopped
from starforge_backlog.release_command import TIMEOUT_SECONDS, Asked


def asked(*arguments: str) -> Asked:
    parser = argparse.ArgumentParser()
    release_command.add_to(parser.add_subparsers(dest="command"))
    given = parser.parse_args([release_command.NAME, *arguments])
    return release_command.asked_of(given, parser)


def test_everything() -> None:
    assert asked("--all") == Asked((), frozenset(), None, TIMEOUT_SECONDS, False, False)


def test_each_flag() -> None:
    given = asked(
        *("-n", "a", "--namespace", "b", "-n", "a", "--name", "etl", "--stop", "ops/starforge"),
        *("--timeout", "7.5", "--abandon", "--dry-run"),
    )
    assert given == Asked(("a", "b"), frozenset({"etl"}), ("ops", "starforge"), 7.5, True, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "either --all or --namespace"),
        (("--all", "-n", "a"), "either --all or --namespace"),
        (("--name", "etl"), "either --all or --namespace"),
        (("--all", "--stop", "starforge"), "is not NAMESPACE/DEPLOYMENT"),
        (("--all", "--stop", "a/b/c"), "is not NAMESPACE/DEPLOYMENT"),
        (("--all", "--timeout", "0"), "no number of seconds"),
        (("--all", "--timeout", "nan"), "no number of seconds"),
        (("--all", "--timeout", "soon"), "no number of seconds"),
    ],
)
def test_what_makes_no_sense(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        asked(*arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


STOPPED = Stopped("ops", "starforge", 1, "app=starforge")


async def cut_short(
    monkeypatch: pytest.MonkeyPatch, *, bug: bool
) -> tuple[asyncio.Task[int], list[Stopped]]:
    """A release that has stopped the operator, and ends before it is done."""
    began, started = asyncio.Event(), list[Stopped]()

    async def is_served(_client: object) -> Served:
        return Served.YES

    async def stop(*_: object) -> Stopped:
        return STOPPED

    async def until_ended(*_: object) -> None:
        began.set()
        if bug:
            raise KeyError
        await asyncio.Event().wait()

    async def start_again(_client: object, one: Stopped) -> None:
        started.append(one)

    monkeypatch.setattr(release_command, "served", is_served)
    monkeypatch.setattr(release_command, "stop", stop)
    monkeypatch.setattr(release_command, "until_ended", until_ended)
    monkeypatch.setattr(release_command, "start_again", start_again)
    services: Any = SimpleNamespace(client=None)
    given = asked("--all", "--stop", "ops/starforge")
    run = asyncio.create_task(release_command._Release(services, given, ()).run())
    await began.wait()
    return run, started


async def test_asked_to_end_it_starts_the_operator_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Job's time is over, or its node is drained: nobody else would start it again (P4)."""
    run, started = await cut_short(monkeypatch, bug=False)
    run.cancel()
    assert (await run, started) == (release_command.EX_LEFT, [STOPPED])


async def test_a_bug_leaves_no_operator_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    run, started = await cut_short(monkeypatch, bug=True)
    with pytest.raises(KeyError):
        await run
    assert started == [STOPPED]
