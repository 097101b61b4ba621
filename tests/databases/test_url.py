"""What stands in Secrets: URLs for other drivers, slips of the pen, and nothing shown of them."""

from __future__ import annotations

import pytest

from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.url import ServerKey, parse_url
from starforge_backlog.snapshot import Why

SECRET = "pl4nted"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://app:pl4nted@db:5432/starforge",
        "postgres://app:pl4nted@db/starforge",
        "postgresql+asyncpg://app:pl4nted@db/starforge\n",
        "postgres+psycopg2://app:pl4nted@db:5432/starforge",
        "jdbc:postgresql://db:5432/starforge?user=app&password=pl4nted",
        "postgres://app:pl4nted@db/starforge?schema=public&connection_limit=4&pgbouncer=true",
        "host=db user=app password=pl4nted dbname=starforge",
    ],
)
def test_one_server_however_it_is_spelt(text: str) -> None:
    url = parse_url(text)
    assert url.key == ServerKey("db", "5432", "starforge", "app")
    assert url.parameters["password"] == SECRET
    assert SECRET not in repr(url)


def test_options_of_libpq_stay_and_those_of_node_are_translated() -> None:
    url = parse_url("postgres://app:p@db/s?sslmode=no-verify&target_session_attrs=read-write&x=1")
    assert url.parameters["sslmode"] == "require"
    assert url.parameters["target_session_attrs"] == "read-write"
    assert "x" not in url.parameters


def test_a_question_mark_in_the_password_is_no_option() -> None:
    assert parse_url("postgres://app:what?now@db/s").parameters["password"] == "what?now"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pl4nted",
        "https://app:pl4nted@db/starforge",
        "postgresql://app:pl4nted@/starforge",
        "postgresql://db/starforge?password=pl4nted",
        "postgresql://app:x@pl4nted@db/starforge",  # "@" not encoded
        "postgresql://app:x/pl4nted@db/starforge",  # "/" not encoded
        "postgresql://app:1/pl4nted@db/starforge",  # … and a port by accident
        "postgresql://app:%pl4nted@db/starforge",
        "postgresql://app:pl4nted@db:x/starforge",
    ],
)
def test_malformed_is_said_without_the_content(text: str) -> None:
    with pytest.raises(DatabaseFault) as caught:
        parse_url(text)
    fault = caught.value
    assert fault.why is Why.SECRET_MALFORMED
    assert "percent-encode" in fault.message
    assert SECRET not in fault.message
    assert fault.__cause__ is None
    assert fault.__suppress_context__ or fault.__context__ is None
