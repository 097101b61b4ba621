"""The release command's arguments: what makes no sense is refused before anything is stopped."""

from __future__ import annotations

import argparse

import pytest

from starforge_backlog import release_command
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
