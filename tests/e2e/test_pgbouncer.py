"""A PgBouncer between the workers and their database, through the whole operator: a real one, whose
console the operator reads and through which the workers' clients come."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

import psycopg
import pytest
from psycopg.rows import TupleRow
from tests.e2e.api import Json
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.trouble import TICK, WORKER_SPEED
from tests.e2e.world import SPEC, TARGET, World

from local.pgbouncer import STATS_USER, NoPgBouncerError, PgBouncer

pytestmark = [pytest.mark.e2e, pytest.mark.pgbouncer, pytest.mark.timeout(1800)]

# Of a server of its own, where a pod of five would find room for four pods at once.
CONNECTIONS: Final = 40
SUPERUSERS: Final = 3  # PostgreSQL's own default of connections kept for them
HEADROOM: Final = 2
WEB: Final = 12  # connections of a web application, past the pooler
POOL: Final = 5  # of one replica

SIZE, RESERVE = 6, 2  # of the pooler's pool
MOST_CLIENTS: Final = 40
VISITORS: Final = 3  # clients of the pooler that are no workers

STORM: Final = 20_000  # jobs; more than the workers of a story can do
CONSOLE: Final = "pgbouncer"  # the Secret
# Rates need five seconds, and a step must be judged by them.
SCALING: Final[Json] = {**SPEC["scaling"], "observeFor": "5s"}

Client = psycopg.Connection[TupleRow]


@contextlib.contextmanager
def pooled(world: World, size: int = SIZE, reserve: int = RESERVE) -> Iterator[PgBouncer]:
    """A pooler before the story's server: its console's URL is in a Secret, and the URL of the
    workers' pods leads through it."""
    pooler = PgBouncer.start(
        world.store.server,
        default_pool_size=size,
        reserve_pool_size=reserve,
        databases={world.store.database: ""},
        settings={"max_client_conn": MOST_CLIENTS},
    )
    with contextlib.closing(pooler):
        world.write_secret({"url": pooler.console_url()}, CONSOLE)
        world.write_secret({"WORKER_URL": workers_url(world, pooler)})
        yield pooler


def behind(secret: str = CONSOLE, **more: object) -> Json:
    """`spec.database` with the pooler of that Secret. Full is no pressure here: clients are."""
    url = {"secretKeyRef": {"name": secret, "key": "url"}}
    return {
        **SPEC["database"],
        "headroom": HEADROOM,
        "pressure": {"utilizationPercent": 100},
        "pgbouncer": {"url": url, **more},
    }


def workers_url(world: World, pooler: PgBouncer) -> str:
    store = world.store
    return pooler.url(store.worker, store.database, store.password)


def client(world: World, pooler: PgBouncer, *, autocommit: bool = True) -> Client:
    """As a worker opens one."""
    return psycopg.connect(
        workers_url(world, pooler),
        autocommit=autocommit,
        prepare_threshold=None,
        connect_timeout=60,
    )


@contextlib.contextmanager
def fleet(world: World, pooler: PgBouncer) -> Iterator[None]:
    """Pods without a process open nothing: this opens each replica's clients, and does its work."""
    world.store.run("GRANT SELECT, UPDATE ON queue_jobs TO PUBLIC")
    over = threading.Event()
    clients: list[Client] = []

    def follow() -> None:
        worked_until = time.monotonic()
        while not over.wait(TICK):
            replicas = world.replicas()
            while len(clients) < replicas * POOL:
                clients.append(client(world, pooler))
            while len(clients) > replicas * POOL:
                clients.pop().close()
            # By the time that has passed: a busy machine is not workers that add nothing.
            now = time.monotonic()
            clients[0].execute(
                "UPDATE queue_jobs SET status = 'done', updated_at = now() WHERE id IN"
                " (SELECT id FROM queue_jobs WHERE status = 'pending' LIMIT %s)",
                (round(replicas * WORKER_SPEED * (now - worked_until)),),
            )
            worked_until = now

    with ThreadPoolExecutor(1) as together:
        following = together.submit(follow)
        try:
            yield
        finally:
            over.set()
            following.result()
            for one in clients:
                one.close()


@contextlib.contextmanager
def neighbours(world: World, pooler: PgBouncer) -> Iterator[None]:
    """Others at the server, and others at the pooler."""
    with contextlib.ExitStack() as stack:
        for _ in range(WEB):
            stack.enter_context(world.store.connect())
        for _ in range(VISITORS):
            visitor = psycopg.connect(pooler.url(database=world.store.database), autocommit=True)
            stack.enter_context(contextlib.closing(visitor))
        yield


@contextlib.contextmanager
def waiting(world: World, pooler: PgBouncer, size: int, number: int) -> Iterator[None]:
    """Transactions hold the whole pool, and so many clients wait for them."""

    def wait() -> None:
        with contextlib.closing(client(world, pooler)) as one:
            one.execute("SELECT 1")

    with ThreadPoolExecutor(number) as together, contextlib.ExitStack() as holders:
        for _ in range(size):
            holder = client(world, pooler, autocommit=False)
            holders.enter_context(contextlib.closing(holder))
            holder.execute("SELECT 1")
        waiters = [together.submit(wait) for _ in range(number)]
        world.until(lambda: clients_of(world, pooler, "cl_waiting") == number, "clients that wait")
        yield
        holders.close()
        for waiter in waiters:
            waiter.result()


def clients_of(world: World, pooler: PgBouncer, *columns: str) -> int:
    """Of the workers' pools in SHOW POOLS."""
    rows = [row for row in pooler.show("POOLS") if row["user"] == world.store.worker]
    return sum(int(row[column]) for row in rows for column in columns)


def other_clients(world: World, pooler: PgBouncer) -> int:
    """Clients that are not the workers', by SHOW POOLS; this connection is one of them itself."""
    rows = [row for row in pooler.show("POOLS") if row["user"] != world.store.worker]
    return sum(int(row["cl_active"]) + int(row["cl_waiting"]) for row in rows) - 1


def consoles(pooler: PgBouncer) -> int:
    """Connections of the operator."""
    return len([row for row in pooler.show("CLIENTS") if row["user"] == STATS_USER])


def budget(world: World) -> Json:
    found: Json = world.status()["budget"]
    return found


def steps(world: World, name: str = TARGET) -> list[int]:
    """Replicas that were asked for, in order."""
    return [write.replicas or 0 for write in world.scale_writes() if write.name == name]


def the_pool_bounds_the_server_and_its_clients_the_pods(world: World) -> None:
    """More pods than the server could bear by their own pools; and never more than the pooler has
    places for. Then a pool that is too large for the server: pods count again."""
    world.deploy(replicas=4, env={"PG_POOL_MAX": f"{POOL}"})
    world.store.enqueue(STORM)
    with pooled(world) as pooler, neighbours(world, pooler), fleet(world, pooler):
        every = 4 * POOL
        world.until(
            lambda: clients_of(world, pooler, "cl_active", "cl_waiting") == every, "clients"
        )
        world.apply(scaling=SCALING, database=behind())
        world.until_ready()
        world.until_condition("Scaling", "BudgetExhausted")
        others = VISITORS + 1  # and the operator's console
        world.until(lambda: other_clients(world, pooler) == others, "no reading of ours before")
        left = MOST_CLIENTS - others
        # A read of ours at the console counts as another client while it lasts.
        found = world.until(
            lambda: b if (b := budget(world))["poolClients"] == left else None, "the sum"
        )

        assert found["role"] == world.store.worker
        assert found["usable"] == CONNECTIONS - SUPERUSERS
        # And the pooler's query for passwords, which has a pool of its own, and our own reads.
        assert WEB <= found["others"] <= WEB + SIZE + RESERVE + 2
        assert found["workerCap"] == found["usable"] - found["others"] - HEADROOM
        assert found["pool"] == SIZE + RESERVE
        assert found["perReplica"] == POOL
        assert found["slots"] == left // POOL
        assert found["seedCap"] == (CONNECTIONS - HEADROOM) // POOL
        assert found["replicas"] == left // POOL - 1, "one for the surge of a rollout"
        assert (
            f" = {found['workerCap']} >= a pool of {SIZE + RESERVE} for all replicas;"
            f" {MOST_CLIENTS} clients of PgBouncer - {others} others = {left} / {POOL} per"
            f" replica = {left // POOL} slots;"
        ) in found["formula"]
        by_pods = found["workerCap"] // POOL - 1
        assert by_pods < 4, "without a pooler there would be too many already"
        assert found["replicas"] == max(steps(world)) == 6
        asked = [4, *steps(world)]
        assert {abs(after - before) for before, after in pairwise(asked)} == {1}, "one at a time"

        most = 6 * POOL
        world.until(lambda: clients_of(world, pooler, "cl_active", "cl_waiting") == most, "all")
        ((held,),) = world.store.rows(
            "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'wrk%'"
        )
        assert 1 <= held <= SIZE + RESERVE

        world.apply(database=behind(replicas=4))
        found = world.until(
            lambda: b if (b := budget(world))["pool"] == 4 * (SIZE + RESERVE) else None, "four"
        )
        by_pods = found["workerCap"] // POOL - 1
        assert found["replicas"] == by_pods
        assert f"< a pool of {4 * (SIZE + RESERVE)}, so by pods:" in found["formula"]
        world.until(lambda: steps(world)[-1] < 6, "given back")


def clients_that_wait_stop_steps_up(world: World) -> None:
    """Work waits, the server has room: more pods would only wait for the pool as well."""
    size = 2
    world.deploy(env={"PG_POOL_MAX": f"{POOL}"})
    world.store.enqueue(STORM)
    with pooled(world, size, reserve=0) as pooler:
        with waiting(world, pooler, size, 3):
            world.apply(scaling=SCALING, database=behind())
            found = world.until_condition("Scaling", "Pressure")
            assert f"clients wait for PgBouncer's {size} connections" in found["message"]
            assert "raise default_pool_size" in found["message"]
            world.until_ready()
            world.until_passes(3)
            world.until_condition("Scaling", "Pressure")
            assert world.condition("BacklogHealthy")["status"] == "False"
            world.until(lambda: world.status()["cause"] == "DatabasePressure", "the cause")
            world.until(lambda: budget(world)["replicas"] > 1, "by its budget it could")
            assert steps(world) == []
        world.until(lambda: steps(world) == [2], "a step, now that nobody waits")


def a_wrong_password_holds_one_policy_and_not_the_other(world: World) -> None:
    world.store.enqueue(STORM)
    with pooled(world) as pooler:
        wrong = pooler.console_url(password="planted-wrong")
        world.write_secret({"url": wrong}, "wrong")
        for name, secret in ((TARGET, CONSOLE), ("other", "wrong")):
            world.deploy(name, env={"PG_POOL_MAX": f"{POOL}"})
            world.apply(name, target={"name": name}, scaling=SCALING, database=behind(secret))
        found = world.until_condition("Ready", "WrongPassword", name="other")
        for words in ("database.pgbouncer", STATS_USER, "put the current password into the Secret"):
            assert words in found["message"]
        world.until_not_known("Scaling", name="other")
        world.until_ready(TARGET)
        world.until(lambda: steps(world), "a step of the one that can read it")
        world.until_passes(3, "other")
        world.until_condition("Ready", "WrongPassword", name="other")
        assert steps(world, "other") == []
        world.until_ready(TARGET)
        assert "planted" not in f"{world.status('other')}{world.events('other')}{world.log()}"

        world.write_secret({"url": pooler.console_url()}, "wrong")
        world.until_ready("other")
        world.until(lambda: steps(world, "other"), "its step")
        world.until(lambda: consoles(pooler) == 1, "one connection for both")
        for name in (TARGET, "other"):
            world.until_passes(2, name)
        assert consoles(pooler) == 1


OWN_SERVER: Final = CONNECTIONS  # max_connections; what a story takes is not another's budget
STORIES: Final[tuple[Story, ...]] = (
    the_pool_bounds_the_server_and_its_clients_the_pods,
    clients_that_wait_stop_steps_up,
    a_wrong_password_holds_one_policy_and_not_the_other,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_pgbouncer(outcomes: Outcomes, story: Story) -> None:
    try:
        outcomes[story].result()
    except NoPgBouncerError as error:
        pytest.skip(str(error))
