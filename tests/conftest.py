"""Fixtures that more than one folder of tests needs. A server is started once per run."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from tests.e2e.api import Api
from tests.node.bull import Bull, BullError
from tests.node.shared import BullProcesses
from tests.patience import be_patient, limits
from tests.thorough import THOROUGH
from xdist.scheduler import LoadScopeScheduling

from local.cluster import LocalCluster
from local.errors import LocalError
from local.pgbouncer import NoPgBouncerError, PgBouncer
from local.postgres import PostgresServer
from local.prometheus import PrometheusServer
from local.redis import DATABASES, RedisServer
from local.redis_programs import find_redis, find_valkey

REDIS, VALKEY = "redis", "valkey"
STORIES = "tests/e2e/"

# No verdict depends on how fast the machine is (hypothesis would fail an example after 200 ms), or
# on which examples were drawn this time; `STARFORGE_TESTS=thorough` draws others each time.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=not THOROUGH,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("project")
be_patient()


@pytest.fixture
def production_limits() -> Iterator[None]:
    """For a test that is about how long the operator waits for an answer."""
    with limits():
        yield


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A real PostgreSQL, for tests marked `postgres`."""
    run_dir: Path = tmp_path_factory.mktemp("postgres")
    try:
        server = PostgresServer.start(run_dir)
    except LocalError as error:
        pytest.fail(f"PostgreSQL did not start: {error}", pytrace=False)
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The superuser's URL of a database that this test has for itself."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server.url(), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    yield postgres_server.url(database=name)
    with psycopg.connect(postgres_server.url(), autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def start_pgbouncer(postgres_server: PostgresServer) -> Iterator[Callable[..., PgBouncer]]:
    """`PgBouncer.start` before `postgres_server`, for tests marked `pgbouncer`."""
    with ExitStack() as stack:

        def start(**options: Any) -> PgBouncer:
            try:
                pool = PgBouncer.start(postgres_server, **options)
            except NoPgBouncerError as error:
                pytest.skip(str(error))
            except LocalError as error:
                pytest.fail(f"PgBouncer did not start: {error}", pytrace=False)
            stack.callback(pool.close)
            return pool

        yield start


class SideBySide(LoadScopeScheduling):  # type: ignore[misc] # the library has no types
    """What never runs side by side (`-n 2`): the tests of a file, which share servers, and all
    stories with a whole operator. Two of these at once want more than two cores, and what is timed
    fails for want of one.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return STORIES if file.startswith(STORIES) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> SideBySide:
    return SideBySide(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The stories are the longest part, so they begin first; those that run side by side before
    those that end the operator. Serial groups are asked last: they run meanwhile."""

    def place(item: pytest.Item) -> tuple[bool, bool, bool]:
        together = "outcomes" in getattr(item, "fixturenames", ())
        in_group = hasattr(getattr(item, "module", None), "SERIAL_GROUP")
        return not item.nodeid.startswith(STORIES), in_group, not together

    items.sort(key=place)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `valkey` run on both servers."""
    both = metafunc.definition.get_closest_marker("valkey") is not None
    if both and "redis_server" in metafunc.fixturenames:
        metafunc.parametrize("redis_server", [REDIS, VALKEY], indirect=True, scope="session")


@pytest.fixture(scope="session")
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A real Redis, for tests marked `redis`. Those that stop or freeze one start their own.

    With STARFORGE_REDIS=valkey in the environment a Valkey, for all of them.
    """
    which = getattr(request, "param", os.environ.get("STARFORGE_REDIS", REDIS))
    try:
        program = find_valkey() if which == VALKEY else find_redis()
        server = RedisServer.start(tmp_path_factory.mktemp("redis"), program=program)
    except LocalError as error:
        pytest.fail(f"Redis did not start: {error}", pytrace=False)
    yield server
    server.close()


@pytest.fixture(scope="session")
def free_redis_databases() -> deque[int]:
    return deque(range(DATABASES))


@pytest.fixture
def redis_url(redis_server: RedisServer, free_redis_databases: deque[int]) -> Iterator[str]:
    """The URL of a database, empty, that this test has for itself."""
    database = free_redis_databases.popleft()
    with redis_server.client(database) as client:
        # A worker of the test before may have written once more while it was being closed.
        client.flushdb()
    yield redis_server.url(database)
    with redis_server.client(database) as client:
        client.flushdb()
    free_redis_databases.append(database)


@pytest.fixture
def start_prometheus(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., PrometheusServer]]:
    """`PrometheusServer.start` without its folder. One takes 0.2 s, so each test has its own."""
    with ExitStack() as stack:

        def start(**options: Any) -> PrometheusServer:
            try:
                server = PrometheusServer.start(tmp_path_factory.mktemp("prometheus"), **options)
            except LocalError as error:
                pytest.fail(f"Prometheus did not start: {error}", pytrace=False)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="session")
def bull_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BullProcesses]:
    processes = BullProcesses(tmp_path_factory.mktemp("bull"))
    yield processes
    processes.close()


@pytest.fixture
def bull(bull_processes: BullProcesses) -> Iterator[Bull]:
    """The real BullMQ of Node.js, for tests marked `node`. What a test opens, this closes.

    Tests that kill or freeze it start their own: `Bull.start(tmp_path)`.
    """
    try:
        process = bull_processes.get()
    except LocalError as error:
        pytest.fail(f"Node.js with BullMQ did not start: {error}", pytrace=False)
    yield process
    try:
        process.close_all()
    except BullError:
        # It waits for a Redis that is gone; the next test gets another.
        process.kill()


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """A real API server, controllers, scheduler and node, for tests marked `cluster`."""
    local = LocalCluster("test")
    try:
        local.start()
    except LocalError as error:
        pytest.fail(f"the local cluster did not start: {error}", pytrace=False)
    yield local
    local.stop()


@pytest.fixture(scope="session")
def api(cluster: LocalCluster) -> Iterator[Api]:
    """The API server of `cluster`, without a process of kubectl for each request."""
    assert cluster.control_plane is not None
    with closing(Api.admin(cluster.control_plane)) as api:
        yield api


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """That this test has for itself."""
    name = f"test-{secrets.token_hex(4)}"
    api.create_namespace(name)
    yield name
    api.leave_namespace(name)
