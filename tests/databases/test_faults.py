"""Every way a database refuses: its own reason, the fix, and no secret."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from tests.databases.conftest import Open, Role
from tests.patience import PATIENT

from local.pgbouncer import PgBouncer
from local.postgres import PostgresServer
from starforge_backlog.databases.faults import DatabaseFault, connect_fault
from starforge_backlog.snapshot import Why

pytestmark = pytest.mark.postgres


async def fault_of(
    open_database: Open, url: str, query: str = "SELECT 1", limit: timedelta = PATIENT
) -> DatabaseFault:
    """The fault of a read; whatever it is, it shows neither password nor URL."""
    with pytest.raises(DatabaseFault) as caught:
        await open_database(url).fetch(query, timeout=limit)
    assert "planted" not in caught.value.message
    assert "://" not in caught.value.message
    # What a traceback would print: psycopg's own message repeats parts of URL and row.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


async def test_wrong_password(
    open_database: Open, role: Role, postgres_server: PostgresServer
) -> None:
    fault = await fault_of(open_database, postgres_server.url(role.name, "postgres", "planted-no"))
    assert fault.why is Why.WRONG_PASSWORD
    assert role.name in fault.message


async def test_an_unknown_role_is_reported_as_a_wrong_password(
    open_database: Open, postgres_server: PostgresServer
) -> None:
    fault = await fault_of(open_database, postgres_server.url("nobody", "postgres", "planted"))
    assert fault.why is Why.WRONG_PASSWORD


async def test_no_password(open_database: Open, postgres_server: PostgresServer) -> None:
    url = f"postgresql://postgres@127.0.0.1:{postgres_server.port}/postgres"
    assert (await fault_of(open_database, url)).why is Why.WRONG_PASSWORD


async def test_unknown_host(open_database: Open) -> None:
    fault = await fault_of(open_database, "postgresql://app:planted@nowhere.invalid/starforge")
    assert fault.why is Why.HOST_UNKNOWN
    assert "nowhere.invalid" in fault.message


async def test_nobody_listens(open_database: Open) -> None:
    fault = await fault_of(open_database, "postgresql://app:planted@127.0.0.1:1/starforge")
    assert fault.why is Why.UNREACHABLE
    assert "port 1" in fault.message


async def test_no_such_database(open_database: Open, postgres_server: PostgresServer) -> None:
    fault = await fault_of(open_database, postgres_server.url(database="planted"))
    assert fault.why is Why.DATABASE_NOT_FOUND


async def test_no_tls(open_database: Open, postgres_server: PostgresServer) -> None:
    fault = await fault_of(open_database, postgres_server.url() + "?sslmode=require")
    assert fault.why is Why.TLS_FAILED


async def test_no_certificate_to_check_with(
    open_database: Open, postgres_server: PostgresServer
) -> None:
    url = postgres_server.url() + "?sslmode=verify-full&sslrootcert=/nowhere.pem"
    assert (await fault_of(open_database, url)).why is Why.TLS_FAILED


async def test_no_right_to_connect(open_database: Open, role: Role, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'REVOKE CONNECT ON DATABASE "{admin.info.dbname}" FROM public')
    assert (await fault_of(open_database, role.url)).why is Why.NO_PERMISSION


async def test_no_right_to_log_in(open_database: Open, role: Role, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'ALTER ROLE "{role.name}" NOLOGIN')
    assert (await fault_of(open_database, role.url)).why is Why.NO_PERMISSION


async def test_a_role_limit_is_not_a_full_database(
    open_database: Open, role: Role, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'ALTER ROLE "{role.name}" CONNECTION LIMIT 0')
    assert (await fault_of(open_database, role.url)).why is Why.ROLE_LIMIT


@pytest.mark.parametrize(
    ("query", "why", "shown"),
    [
        ("SELECT * FROM nowhere", Why.TABLE_NOT_FOUND, "nowhere"),
        ("SELECT * FROM nowhere.jobs", Why.TABLE_NOT_FOUND, "nowhere.jobs"),
        ("SELECT nothing FROM pg_class", Why.COLUMN_NOT_FOUND, "nothing"),
        ("SELECT * FROM secrets", Why.NO_PERMISSION, "secrets"),
        ("SELECT pg_sleep(60)", Why.TIMEOUT, "time limit"),
        ("CREATE TABLE jobs ()", Why.READ_ONLY, "primary"),
        ("SELECT 'planted'::int", Why.ERROR, "22P02"),
        ("SELECT 'planted' FROM", Why.ERROR, "42601"),
    ],
)
async def test_statements(
    open_database: Open, role: Role, postgres_url: str, query: str, why: Why, shown: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("CREATE TABLE secrets (planted text)")
    limit = timedelta(seconds=0.8) if "pg_sleep" in query else PATIENT
    fault = await fault_of(open_database, role.url, query, limit)
    assert fault.why is why
    assert shown in fault.message


async def test_a_locked_table_is_not_waited_for(open_database: Open, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as migration:
        migration.execute("CREATE TABLE jobs ()")
        migration.commit()
        migration.execute("ALTER TABLE jobs ADD COLUMN id int")
        fault = await fault_of(open_database, postgres_url, "SELECT count(*) FROM jobs")
    assert fault.why is Why.LOCK_BUSY


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("FATAL:  sorry, too many clients already", Why.DATABASE_FULL),
        (
            "FATAL:  remaining connection slots are reserved for roles with privileges",
            Why.DATABASE_FULL,
        ),
        ("FATAL:  no more connections allowed (max_client_conn)", Why.DATABASE_FULL),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", no encryption', Why.NO_PERMISSION),
        ("FATAL:  the database system is starting up", Why.UNREACHABLE),
        ("FATAL:  the database system is shutting down", Why.UNREACHABLE),
        ("FATAL:  the database system is not yet accepting connections", Why.UNREACHABLE),
        ('connection to server at "db", port 5432 failed: session is read-only', Why.READ_ONLY),
        ("SSL error: certificate verify failed", Why.TLS_FAILED),
        ("FATAL:  Passwort-Authentifizierung fehlgeschlagen", Why.UNREACHABLE),
        # Tried with TLS, then without: the second message says more.
        (
            "server does not support SSL\nFATAL:  password authentication failed for user",
            Why.WRONG_PASSWORD,
        ),
    ],
)
def test_words_at_connect(text: str, why: Why) -> None:
    error = psycopg.OperationalError(text)
    assert connect_fault(error, host="db", port="5432", user="app").why is why


@pytest.mark.parametrize(
    "option",
    [
        "target_session_attrs=planted",
        "options=planted",
        "options=-c%20planted%3D1",
        "options=-c%20work_mem%3Dplanted",
        "hostaddr=127.0.0.1,127.0.0.2",
        "keepalives=planted",
        "service=planted",
        "require_auth=none",
        "port=99999",
        "port=1,2",
    ],
)
async def test_an_option_that_is_refused_is_no_outage(
    open_database: Open, postgres_server: PostgresServer, option: str
) -> None:
    """A person who reads "does not answer" checks firewalls."""
    fault = await fault_of(open_database, f"{postgres_server.url()}?{option}")
    assert fault.why is Why.SECRET_MALFORMED
    assert "Secret" in fault.message


@pytest.mark.pgbouncer
async def test_an_option_that_a_pooler_refuses_is_no_outage(
    open_database: Open, postgres_server: PostgresServer, start_pgbouncer: Callable[..., PgBouncer]
) -> None:
    pool = start_pgbouncer()
    url = postgres_server.url().replace(f":{postgres_server.port}", f":{pool.port}")
    fault = await fault_of(open_database, f"{url}?options=-c%20search_path%3Dapp")
    assert fault.why is Why.SECRET_MALFORMED
    assert "ignore_startup_parameters" in fault.message
