"""Which places may be the same server."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.thorough import THOROUGH

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.decide.pauses.server_identity import (
    elsewhere,
    postgres,
    redis,
    same_server,
    stored,
    surely_same_server,
)

DB = "db.example:5432"
SYSTEM = postgres("7291", "starforge", [DB])
UNNAMED = postgres("", "starforge", [DB])
SENTINEL = redis("etl", 0, ["a:26379", "b:26379", "c:26379"])
REDIS = redis("", 0, ["r:6379"])


@pytest.mark.parametrize(
    ("made_at", "now", "same"),
    [
        (SYSTEM, SYSTEM, True),
        (SYSTEM, postgres("7291", "starforge", ["standby.example:5432"]), True),  # a failover
        (SYSTEM, postgres("7291", "staging", [DB]), False),
        (SYSTEM, postgres("7291", "starforge", [DB], ["app"]), False),
        (SYSTEM, postgres("9000", "starforge", [DB]), False),
        (SYSTEM, UNNAMED, True),  # cannot be compared
        (UNNAMED, UNNAMED, True),
        (UNNAMED, postgres("", "starforge", ["other.example:5432"]), False),
        (UNNAMED, postgres("", "staging", [DB]), False),
        (SENTINEL, redis("etl", 0, ["c:26379", "d:26379"]), True),  # Sentinels come and go
        (SENTINEL, redis("etl", 0, ["x:26379"]), False),
        (SENTINEL, redis("other", 0, ["a:26379"]), False),
        (REDIS, redis("", 1, ["r:6379"]), False),
        (REDIS, redis("", 0, ["s:6379"]), False),
        (REDIS, None, True),
        (None, REDIS, True),
    ],
)
def test_same_server(made_at: ServerPlace | None, now: ServerPlace | None, same: bool) -> None:
    known = ServerPlace.parse(stored(made_at))  # as the next pass finds it in status
    assert known == made_at
    assert same_server(known, now) is same
    assert same_server(now, known) is same


def test_only_two_known_places_that_can_be_compared_are_surely_the_same() -> None:
    assert surely_same_server(SYSTEM, SYSTEM)
    assert not surely_same_server(SYSTEM, UNNAMED)
    assert not surely_same_server(SYSTEM, None)
    assert not surely_same_server(None, SYSTEM)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (SYSTEM, "system 7291/starforge at db.example:5432"),
        (UNNAMED, "database starforge at db.example:5432"),
        (
            postgres("", "starforge", [DB], ["app", "public"]),
            "database starforge schema app,public at db.example:5432",
        ),
        (REDIS, "Redis db 0 at r:6379"),
        (SENTINEL, "Redis master etl, db 0 at a:26379,b:26379,c:26379"),
    ],
)
def test_status_holds_the_line_that_it_always_held(place: ServerPlace, line: str) -> None:
    """A pause that an earlier version made is compared with what this one sees."""
    assert stored(place) == line
    assert ServerPlace.parse(line) == place


@pytest.mark.parametrize(("hosts", "same"), [("ab", True), ("cb", True), ("cd", False)])
def test_an_entry_of_before_of_a_list_of_hosts(hosts: str, same: bool) -> None:
    """It held the hosts before the ports, and two lists were one by a port that both have."""
    before = ServerPlace.parse("database starforge at a,b:5432,5432")
    assert same_server(before, postgres("", "starforge", [f"{h}:5432" for h in hosts])) is same


HOSTS = st.from_regex(r"[a-z0-9.-]{1,30}:[0-9]{1,5}", fullmatch=True)
NAMES = st.text(max_size=80) | st.sampled_from([" at ", "system 1/a at b:5", "a schema b", ","])


@settings(max_examples=1000 if THOROUGH else 30)  # 0.1 s each
@given(system=NAMES, database=NAMES, schemas=st.lists(NAMES, max_size=3), hosts=st.sets(HOSTS))
def test_whatever_a_name_holds_a_place_is_read_as_it_was_written(
    system: str, database: str, schemas: list[str], hosts: set[str]
) -> None:
    place = postgres(system, database, hosts or {DB}, schemas)
    assert ServerPlace.parse(stored(place)) == place
    other = postgres(system, database + "x", hosts or {DB}, schemas)
    assert not same_server(place, other)


def test_a_line_that_was_cut_is_the_same_as_itself_alone() -> None:
    cut, other = (ServerPlace.parse(f"database {'x' * 50}…#{end}") for end in ("0a", "0b"))
    assert same_server(cut, cut)
    assert not same_server(cut, other)


def test_the_sentence_names_both_and_the_fix() -> None:
    said = elsewhere(SYSTEM, REDIS)
    assert str(SYSTEM) in said
    assert str(REDIS) in said
    assert "backlog.starforge.dev/release=abandon" in said
