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
        "postgres://app:pl4nted@db/starforge?connection_limit=4&pgbouncer=true",
        "host=db user=app password=pl4nted dbname=starforge",
    ],
)
def test_one_server_however_it_is_spelt(text: str) -> None:
    url = parse_url(text)
    assert url.key == ServerKey("db", "5432", "starforge", "app")
    assert url.parameters["password"] == SECRET
    assert SECRET not in repr(url)


def test_options_of_libpq_stay_and_those_of_node_are_translated() -> None:
    url = parse_url("postgres://app:p@db/s?sslmode=no-verify&target_session_attrs=read-write")
    assert url.parameters["sslmode"] == "require"
    assert url.parameters["target_session_attrs"] == "read-write"


@pytest.mark.parametrize(
    ("options", "schemas"),
    [
        ("schema=app", ("app",)),  # Prisma
        ("connection_limit=4&schema=my%20app&sslmode=require", ("my app",)),
        ("currentSchema=app,public", ("app", "public")),  # JDBC
        ('search_path="App", public', ("App", "public")),  # Go
        ("sslmode=require", ()),
    ],
)
def test_the_schema_of_a_url_is_kept(options: str, schemas: tuple[str, ...]) -> None:
    assert parse_url(f"postgres://app:p@db/s?{options}").key.schemas == schemas


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ("ssl=true", "sslmode", "require"),
        ("ssl=0", "sslmode", "disable"),
        ("ssl=verify-full", "sslmode", "verify-full"),
        ("targetServerType=primary", "target_session_attrs", "read-write"),
        ("options=-csearch_path%3Dapp", "options", "-csearch_path=app"),
        ("channel_binding=require", "channel_binding", "require"),
        # Drivers let sslmode win; libpq would take the last one.
        ("sslmode=verify-full&ssl=true", "sslmode", "verify-full"),
        ("ssl=true&sslmode=verify-full", "sslmode", "verify-full"),
    ],
)
def test_an_option_that_libpq_knows_under_another_name(options: str, name: str, value: str) -> None:
    assert parse_url(f"postgres://app:p@db/s?{options}").parameters[name] == value


@pytest.mark.parametrize(
    "options",
    [
        "schema=public&connection_limit=5&pgbouncer=true",  # Prisma
        "ssl=true&pool_size=10",  # Ecto
        "pool=5&timeout=5000&reconnect=true",  # Rails
        "pool_size=5&max_overflow=10&pool_pre_ping=true&pool_recycle=300",  # SQLAlchemy
        "prepare=false&max_lifetime=300&keepAlive=true",  # postgres.js, node-postgres
        "currentSchema=app&stringtype=unspecified&readOnly=true",  # JDBC
        "statement-cache-capacity=0",  # sqlx
    ],
)
def test_an_application_s_own_pool_is_not_ours_to_refuse(options: str) -> None:
    parameters = parse_url(f"postgres://app:p@db/s?{options}").parameters
    assert parameters.keys() <= {"host", "dbname", "user", "password", "sslmode"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("application=etl", "option application,"),
        ("sslmode=require&sslfactory=org.x", "option sslfactory,"),
        ("sslaccept=strict", "sslmode=verify-full"),
        ("ssl=maybe", "sslmode=require"),
        ("targetServerType=fastest", "target_session_attrs"),
        ("schema=", "name a schema"),
        ("pl4n%74ed=1", "an option"),  # no name: it could be anything
    ],
)
def test_no_option_is_dropped_in_silence(options: str, said: str) -> None:
    """A typo in `sslmode` must not end in a connection without TLS, nor one in `schema` in another
    table."""
    with pytest.raises(DatabaseFault) as caught:
        parse_url(f"postgres://app:pl4nted@db/s?{options}")
    assert caught.value.why is Why.SECRET_MALFORMED
    assert said in caught.value.message
    assert "Secret" in caught.value.message
    for secret in (SECRET, "etl", "org.x", "maybe", "fastest", "74ed"):
        assert secret not in caught.value.message


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
