"""Bad input at run time (one policy for each kind): its own reason, the fix in the
message, no step, no traceback, the others go on; and once fixed, it recovers without a restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import KEY, SECRET, TARGET, TRIPS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

# Jobs that make a healthy policy of these tests step up.
BACKLOG: Final = 30


def nothing(_world: World) -> None:
    """Needs no preparation."""


@dataclass(frozen=True)
class Fault:
    """What is wrong, how it shows, and how a person fixes it."""

    name: str
    reason: str
    says: tuple[str, ...]  # words of the message: what is wrong and what to do
    fix: Callable[[World], None]
    spoil: Callable[[World], None] = nothing  # before the policy
    deploys: Callable[[World], None] = World.deploy
    applies: Callable[[World], None] = World.apply
    backlog: int = BACKLOG
    condition: str = "Ready"

    def __str__(self) -> str:
        return self.name


def secret(**values: str) -> Callable[[World], None]:
    return lambda world: world.write_secret(values)


def fixed_secret(world: World) -> None:
    world.write_secret({KEY: world.store.url()})


def other_url(old: str, new: str) -> Callable[[World], None]:
    """The secret's URL with one part replaced; `{…}` in `old` are fields of the store."""

    def spoil(world: World) -> None:
        store = world.store
        part = old.format(database=store.database, password=store.password)
        url = store.url()
        assert part in url
        world.write_secret({KEY: url.replace(part, new)})

    return spoil


def as_admin(*statements: str) -> Callable[[World], None]:
    """Statements with `{operator}` and `{database}` in them."""

    def run(world: World) -> None:
        store = world.store
        with store.connect() as connection:
            for statement in statements:
                text = statement.format(operator=store.operator, database=store.database)
                connection.execute(text.encode())

    return run


def from_the_message(begin: str) -> Callable[[World], None]:
    """Runs the statement that the condition names for an administrator."""

    def run(world: World) -> None:
        message = str(world.condition("Ready")["message"])
        assert begin in message, message
        statement = message[message.index(begin) :].partition(";")[0].rstrip(".")
        with world.store.connect() as connection:
            connection.execute(statement.encode())

    return run


def without_secret(world: World) -> None:
    path = f"/api/v1/namespaces/{world.namespace}/secrets/{SECRET}"
    world.api.delete(path)


def secret_again(world: World) -> None:
    world.write_secret({KEY: world.store.url(), "WORKER_URL": world.store.url(world.store.worker)})


def deployed(**env: str) -> Callable[[World], None]:
    return lambda world: world.deploy(env=env)


def set_pool(world: World) -> None:
    world.place.cluster.kubectl(
        *("set", "env", f"deployment/{TARGET}", "PG_POOL_MAX=4", "-n", world.namespace)
    )


def at_zero(world: World) -> None:
    world.deploy()
    world.scale(0)


def rollout(verb: str) -> Callable[[World], None]:
    def run(world: World) -> None:
        kubectl = world.place.cluster.kubectl
        kubectl("rollout", verb, f"deployment/{TARGET}", "-n", world.namespace)

    return run


def paused_rollout(world: World) -> None:
    world.deploy()
    rollout("pause")(world)


def with_column(name: str) -> Callable[[World], None]:
    queue = {
        "name": "jobs",
        "postgres": {"columns": {"status": name}},
        "objectives": {"waiting": 10, "oldestAge": "1h", "for": "1s"},
    }
    return lambda world: world.apply(queues=[queue])


FAULTS: Final = (
    Fault(
        "wrong password",
        "WrongPassword",
        ("refused the password of role ops_", "into the Secret"),
        fixed_secret,
        spoil=other_url("{password}", "not-the-password"),
    ),
    Fault(
        "host unknown",
        "HostUnknown",
        ("nowhere.invalid", "correct the host"),
        fixed_secret,
        spoil=other_url("127.0.0.1", "nowhere.invalid"),
    ),
    Fault(
        "database unknown",
        "DatabaseNotFound",
        ("has no database", "correct the URL in the Secret"),
        fixed_secret,
        spoil=other_url("{database}", "db_of_nobody"),
    ),
    Fault(
        "secret missing",
        "SecretNotFound",
        (f"Secret {SECRET}", "create"),
        secret_again,
        spoil=without_secret,
    ),
    Fault(
        "key missing",
        "SecretKeyMissing",
        ("PRIMARY_URL", SECRET),
        lambda world: world.write_secret({"PRIMARY_URL": world.store.url()}),
        applies=lambda world: world.apply(
            database={"url": {"secretKeyRef": {"name": SECRET, "key": "PRIMARY_URL"}}}
        ),
    ),
    Fault(
        "secret malformed",
        "SecretMalformed",
        (f"Secret {SECRET}, key {KEY}", "postgresql://"),
        fixed_secret,
        spoil=secret(DATABASE_URL="planted-malformed"),
    ),
    Fault(
        "may not log in",
        "NoPermission",
        ("GRANT CONNECT",),
        as_admin("ALTER ROLE {operator} LOGIN"),
        spoil=as_admin("ALTER ROLE {operator} NOLOGIN"),
    ),
    Fault(
        "may not read jobs",
        "NoPermission",
        ("queue_jobs", "GRANT SELECT"),
        from_the_message("GRANT "),
        spoil=as_admin("REVOKE SELECT ON queue_jobs FROM {operator}"),
    ),
    Fault(
        "role missing",
        "MissingRole",
        ("cannot see the state of other sessions", "GRANT pg_read_all_stats TO ops_"),
        from_the_message("GRANT "),
        spoil=as_admin("REVOKE pg_monitor FROM {operator}"),
    ),
    Fault(
        "table missing",
        "TableNotFound",
        ("queue_jobs",),
        as_admin("ALTER TABLE elsewhere RENAME TO queue_jobs"),
        spoil=as_admin("ALTER TABLE queue_jobs RENAME TO elsewhere"),
    ),
    Fault(
        "column missing",
        "ColumnNotFound",
        ("state", "columns"),
        as_admin("ALTER TABLE queue_jobs RENAME COLUMN status TO state"),
        applies=with_column("state"),
    ),
    Fault(
        "flag row missing",
        "RowMissing",
        ("ingest_control", "INSERT INTO"),
        from_the_message("INSERT INTO"),
        spoil=as_admin("DELETE FROM feature_flags"),
        applies=World.apply_breaker,
        backlog=0,
    ),
    Fault(
        "flag of a bad shape",
        "BadShape",
        ("ingest_control", "array"),
        as_admin("UPDATE feature_flags SET data = '{{}}'"),
        spoil=as_admin("UPDATE feature_flags SET data = '[]'"),
        applies=World.apply_breaker,
        backlog=0,
    ),
    Fault(
        "database read-only",
        "ReadOnly",
        ("accepts no writes", "at the primary"),
        as_admin(
            "ALTER ROLE {operator} RESET default_transaction_read_only",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{operator}'",
        ),
        spoil=as_admin("ALTER ROLE {operator} SET default_transaction_read_only = on"),
        applies=lambda world: world.apply_breaker(target={"name": TARGET, "maxReplicas": 1}),
        backlog=TRIPS,
    ),
    Fault(
        "target missing",
        "TargetNotFound",
        (f"Deployment {TARGET}",),
        World.deploy,
        deploys=nothing,
    ),
    Fault(
        "pool size missing",
        "EnvNotFound",
        ("PG_POOL_MAX", "connectionsPerReplica"),
        set_pool,
        deploys=deployed(OTHER="1"),
    ),
    Fault(
        "pool size not a number",
        "EnvNotANumber",
        ("PG_POOL_MAX",),
        set_pool,
        deploys=deployed(PG_POOL_MAX="four"),
    ),
    Fault(
        "scaled to zero by a person",
        "ScaledToZero",
        # By whom is not known: the API server keeps no owner of a 0.
        ("scaled to 0 by", "hand it back"),
        lambda world: world.scale(1),
        deploys=at_zero,
        condition="Scaling",
    ),
    Fault(
        "paused rollout",
        "RolloutPaused",
        ("kubectl rollout resume",),
        rollout("resume"),
        deploys=paused_rollout,
        condition="Scaling",
    ),
)


def reported_held_and_recovered(world: World, fault: Fault) -> None:
    """In force it is reported and nothing is scaled; fixed it recovers and steps."""
    fault.deploys(world)
    world.store.enqueue(fault.backlog)
    fault.spoil(world)
    fault.applies(world)
    world.until_condition(fault.condition, fault.reason)
    world.until_passes(2)
    reported = world.until_condition(fault.condition, fault.reason)
    assert reported["status"] == "False"
    for words in fault.says:
        assert words in reported["message"]
    assert world.scale_writes() == []
    assert "planted" not in str(world.status())

    fault.fix(world)
    world.until_ready()
    if fault.backlog == BACKLOG:
        world.until(world.scale_writes, "a step, now that it is fixed")


def story_of(fault: Fault) -> Story:
    def story(world: World) -> None:
        reported_held_and_recovered(world, fault)

    story.__name__ = fault.name
    return story


STORIES: Final[tuple[Story, ...]] = tuple(map(story_of, FAULTS))


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_reported_held_and_recovered(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
