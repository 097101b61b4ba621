"""Which texts of a server may mean the same one."""

from __future__ import annotations

import pytest

from starforge_backlog.decide.whereabouts import elsewhere, postgres, redis, same_server

SYSTEM = postgres("7291", "starforge", "db.example:5432")
UNTOLD = postgres("", "starforge", "db.example:5432")
SENTINEL = redis("etl", 0, ["a:26379", "b:26379", "c:26379"])
REDIS = redis("", 0, ["r:6379"])


@pytest.mark.parametrize(
    ("made_at", "now", "same"),
    [
        (SYSTEM, SYSTEM, True),
        (SYSTEM, postgres("7291", "starforge", "standby.example:5432"), True),  # a failover
        (SYSTEM, postgres("7291", "staging", "db.example:5432"), False),
        (SYSTEM, postgres("7291", "starforge", "db.example:5432", ["app"]), False),
        (SYSTEM, postgres("9000", "starforge", "db.example:5432"), False),
        (SYSTEM, UNTOLD, True),  # cannot be compared
        (UNTOLD, UNTOLD, True),
        (UNTOLD, postgres("", "starforge", "other.example:5432"), False),
        (UNTOLD, postgres("", "staging", "db.example:5432"), False),
        (SENTINEL, redis("etl", 0, ["c:26379", "d:26379"]), True),  # Sentinels come and go
        (SENTINEL, redis("etl", 0, ["x:26379"]), False),
        (SENTINEL, redis("other", 0, ["a:26379"]), False),
        (REDIS, redis("", 1, ["r:6379"]), False),
        (REDIS, redis("", 0, ["s:6379"]), False),
        (REDIS, "", True),
        ("", REDIS, True),
    ],
)
def test_same_server(made_at: str, now: str, same: bool) -> None:
    assert same_server(made_at, now) is same
    assert same_server(now, made_at) is same


def test_the_sentence_names_both_and_the_mend() -> None:
    said = elsewhere(SYSTEM, REDIS)
    assert SYSTEM in said
    assert REDIS in said
    assert "backlog.starforge.dev/release=abandon" in said
