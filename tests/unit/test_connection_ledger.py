"""The ledger: pods that cannot be read are there all the same (P1, P2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.simulator.given import NOW, connections, health, spec, unknown, workload
from tests.simulator.given import seen as everything

from starforge_backlog.api.status import (
    GuardStatus,
    QueueBacklogPolicyStatus,
    ScalingStatus,
    Step,
)
from starforge_backlog.coordination.connection_ledger import (
    EXPECTED_FOR_SECONDS,
    SHOWN_WITHIN_SECONDS,
    ConnectionLedger,
)
from starforge_backlog.decide.budget.formula import Beside, budget
from starforge_backlog.decide.budget.pool_resize import count_old_pool
from starforge_backlog.snapshot import (
    Claim,
    DatabaseReading,
    Known,
    PerReplica,
    Rival,
    Snapshot,
)

EACH = PerReplica(10, 10, "env PG_POOL_MAX", "etl")
SPEC = spec()
assert SPEC.database is not None
DATABASE = SPEC.database
NEW = QueueBacklogPolicyStatus()


class Timer:
    """Seconds that pass when asked to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def seen(replicas: int = 4, server: str = "db") -> Snapshot:
    reading = DatabaseReading(Known(connections(server=server), NOW), Known(health(), NOW))
    pods = workload(replicas, max_surge="0")
    return replace(
        everything(), workload=Known(pods, NOW), per_replica=Known(EACH, NOW), database=reading
    )


def unreadable() -> Snapshot:
    return replace(seen(), database=DatabaseReading(unknown(), unknown()))


def remembered(replicas: int = 20) -> QueueBacklogPolicyStatus:
    """The status of a policy that was read before the restart."""
    terms = budget(DATABASE, connections(), workload(replicas, max_surge="0"), EACH)
    return QueueBacklogPolicyStatus(budget=terms, scaling=ScalingStatus(replicas=replicas))


def held(view: Snapshot) -> list[tuple[str, str | None, int]]:
    """Who of the others holds how much."""
    return [(claim.policy, claim.role, claim.connections) for claim in view.claims]


def test_each_sees_what_the_others_can_open() -> None:
    ledger = ConnectionLedger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    assert held(ledger.count("ns/b", SPEC, NEW, seen(3))) == [("ns/a", "etl", 40)]
    assert ledger.count("ns/c", SPEC, NEW, seen(1, server="another")).claims == ()


def test_a_policy_that_cannot_be_read_keeps_its_claim() -> None:
    ledger = ConnectionLedger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.count("ns/a", SPEC, NEW, unreadable())
    assert held(ledger.count("ns/b", SPEC, NEW, seen())) == [("ns/a", "etl", 40)]


def test_after_a_restart_its_status_stands_for_pods_that_cannot_be_read() -> None:
    ledger = ConnectionLedger()
    ledger.expect("ns/a", remembered(20))
    ledger.count("ns/a", SPEC, remembered(20), unreadable())
    view = ledger.count("ns/b", SPEC, NEW, seen())
    assert held(view) == [("ns/a", "etl", 200)]
    assert view.awaited == ()


def test_what_a_status_says_counts_before_the_first_pass_and_its_server_waits_for_that() -> None:
    """More may run by now than its status says."""
    ledger = ConnectionLedger()
    ledger.expect("ns/a", remembered(20))
    view = ledger.count("ns/b", SPEC, NEW, seen())
    assert (held(view), view.awaited) == ([("ns/a", "etl", 200)], ("ns/a",))
    ledger.count("ns/a", SPEC, remembered(20), seen(25))
    view = ledger.count("ns/b", SPEC, NEW, seen())
    assert (held(view), view.awaited) == ([("ns/a", "etl", 250)], ())


def test_nobody_of_another_server_waits() -> None:
    ledger = ConnectionLedger()
    ledger.expect("ns/a", remembered(20))
    view = ledger.count("ns/b", SPEC, NEW, seen(server="another"))
    assert (view.claims, view.awaited) == ((), ())


@pytest.mark.parametrize("status", [NEW, QueueBacklogPolicyStatus(summary="its URL is wrong")])
def test_nobody_waits_for_a_policy_that_never_had_a_budget(
    status: QueueBacklogPolicyStatus,
) -> None:
    """A slip of the pen in one URL must not keep the others from their budgets (P11)."""
    ledger = ConnectionLedger()
    ledger.expect("ns/a", status)
    view = ledger.count("ns/b", SPEC, NEW, seen())
    assert (view.claims, view.awaited) == ((), ())
    ledger.count("ns/a", SPEC, status, unreadable())
    view = ledger.count("ns/b", SPEC, NEW, seen())
    assert (view.claims, view.awaited) == ((), ())


def test_one_that_never_comes_holds_nothing_in_the_end() -> None:
    """It was deleted between our list and the watch's."""
    timer = Timer()
    ledger = ConnectionLedger(timer)
    ledger.expect("ns/a", remembered(20))
    timer.now = EXPECTED_FOR_SECONDS - 1
    assert ledger.count("ns/b", SPEC, NEW, seen()).awaited == ("ns/a",)
    timer.now += 1
    view = ledger.count("ns/b", SPEC, NEW, seen())
    assert (ledger.others("db", "ns/b"), view.awaited) == ((), ())


def test_the_server_is_waited_for_by_the_name_that_it_calls_itself() -> None:
    ledger = ConnectionLedger()
    both = seen(4, server="7312")
    assert both.database is not None
    assert isinstance(both.database.connections, Known)
    named = replace(both.database.connections.value, alias="db")
    both = replace(both, database=replace(both.database, connections=Known(named, NOW)))
    ledger.expect("ns/a", remembered(20))
    assert ledger.count("ns/b", SPEC, NEW, both).awaited == ("ns/a",)
    ledger.expect("ns/c", remembered(10))
    assert ledger.count("ns/b", SPEC, NEW, both).awaited == ("ns/a", "ns/c")


def test_a_guarded_autoscaler_is_remembered_at_what_it_may_go_to() -> None:
    guard = GuardStatus(kind="HorizontalPodAutoscaler", name="hpa", maximum=30)
    status = remembered(20)
    status = status.model_copy(
        update={"scaling": status.scaling.model_copy(update={"guard": guard})}
    )
    ledger = ConnectionLedger()
    ledger.expect("ns/a", status)
    assert [c.connections for c in ledger.others("db", "ns/b")] == [300]


def test_a_promise_is_only_raised() -> None:
    ledger = ConnectionLedger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.raise_to("ns/a", 60)
    ledger.raise_to("ns/a", 50)
    assert ledger.others("db", "ns/b")[0].connections == 60


def test_a_target_below_its_minimum_is_entitled_to_it_unless_scaled_to_zero() -> None:
    ledger = ConnectionLedger()
    five = spec(target={"name": "etl-worker", "minReplicas": 5})
    ledger.count("ns/a", five, NEW, seen(2))
    assert ledger.others("db", "ns/b")[0].connections == 50
    ledger.count("ns/a", five, NEW, seen(0))
    assert ledger.others("db", "ns/b")[0].connections == 0


def test_a_limit_of_the_role_is_given_out_once() -> None:
    limited = connections(
        role_limits={"etl": 50}, by_role={"web": 60, "etl": 3}, own=1, own_role="etl"
    )
    held = (Claim("ns/other", "etl", 20),)
    terms = budget(DATABASE, limited, workload(1, max_surge="0"), EACH, Beside(held))
    assert terms.worker_cap == 50 - 20 - 1


def test_a_pool_made_smaller_is_claimed_as_it_was_until_the_pods_have_it() -> None:
    ledger = ConnectionLedger()
    large = QueueBacklogPolicyStatus(scaling=ScalingStatus(pool=20))
    wanted = SPEC.target.connections_per_replica
    ledger.count("ns/a", SPEC, large, count_old_pool(wanted, large.scaling, seen(4), NOW))
    assert ledger.others("db", "ns/b")[0].connections == 4 * 20


def test_pods_that_two_policies_name_count_once() -> None:
    ledger = ConnectionLedger()
    ledger.count("ns/old", SPEC, NEW, seen(4))
    ledger.count("ns/young", SPEC, NEW, seen(4))
    refused = replace(seen(4), rival=Rival("ns/old", "Deployment etl-worker"))
    assert ledger.count("ns/young", SPEC, NEW, refused).claims == ()
    assert [c.policy for c in ledger.count("ns/b", SPEC, NEW, seen()).claims] == ["ns/old"]


def test_a_guarded_autoscaler_may_go_to_what_it_is_left() -> None:
    guarded = spec(target={"name": "w", "guard": {"horizontalPodAutoscaler": "hpa"}})
    guard = GuardStatus(kind="HorizontalPodAutoscaler", name="hpa", maximum=9)
    before = QueueBacklogPolicyStatus(scaling=ScalingStatus(guard=guard))
    ledger = ConnectionLedger()
    ledger.count("ns/a", guarded, before, seen(4))
    assert [c.connections for c in ledger.count("ns/b", SPEC, NEW, seen()).claims] == [90]
    ledger.count("ns/a", SPEC, before, seen(4))
    assert [c.connections for c in ledger.count("ns/b", SPEC, NEW, seen()).claims] == [40]


# --- what a policy asks of others -----------------------------------------------------------------

ASKS = Claim("ns/a", "etl", 40, wanted=80, cap=117)


def asked(ledger: ConnectionLedger) -> int | None:
    """What policy a asks for, as the others see it."""
    (claim,) = ledger.others("db", "ns/b")
    return claim.wanted


def test_what_a_decision_declared_holds_until_the_next_one() -> None:
    ledger = ConnectionLedger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    assert asked(ledger) is None
    ledger.report("ns/a", ASKS)
    assert asked(ledger) == 80
    ledger.count("ns/a", SPEC, NEW, seen(5))
    assert (asked(ledger), ledger.others("db", "ns/b")[0].connections) == (80, 50)
    ledger.report("ns/a", None)
    assert asked(ledger) is None


def test_what_a_policy_asked_for_is_unknown_when_its_passes_stop() -> None:
    timer = Timer()
    ledger = ConnectionLedger(timer)
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.report("ns/a", ASKS)
    timer.now = 3 * SPEC.interval.total_seconds() - 1
    assert asked(ledger) == 80
    timer.now += 1
    assert asked(ledger) is None
    assert ledger.others("db", "ns/b")[0].connections == 40


def test_a_spec_that_is_not_understood_any_more_keeps_its_pods_and_asks_for_nothing() -> None:
    ledger = ConnectionLedger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.report("ns/a", ASKS)
    ledger.unread("ns/a", NEW)
    assert (asked(ledger), ledger.others("db", "ns/b")[0].connections) == (None, 40)


def test_a_spec_that_was_never_understood_since_our_start_counts_as_its_status_says() -> None:
    ledger = ConnectionLedger()
    ledger.expect("ns/a", remembered(20))
    ledger.unread("ns/a", remembered(20))
    view = ledger.count("ns/b", SPEC, NEW, seen())
    assert (held(view), view.awaited) == ([("ns/a", "etl", 200)], ())


def test_a_deleted_policys_pods_are_other_clients() -> None:
    ledger = ConnectionLedger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.drop("ns/a")
    assert ledger.others("db", "ns/b") == ()


def test_a_step_that_does_not_show_yet_outlives_its_policy() -> None:
    timer = Timer()
    ledger = ConnectionLedger(timer)
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.raise_to("ns/a", 60)
    ledger.drop("ns/a")
    ledger.drop("ns/a")
    assert held(ledger.count("ns/b", SPEC, NEW, seen())) == [("ns/a", None, 60)]
    timer.now = SHOWN_WITHIN_SECONDS
    assert ledger.others("db", "ns/b") == ()


def test_a_policy_made_again_is_counted_once() -> None:
    ledger = ConnectionLedger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.raise_to("ns/a", 60)
    ledger.drop("ns/a")
    ledger.count("ns/a", SPEC, NEW, seen(6))
    assert [claim.connections for claim in ledger.others("db", "ns/b")] == [60]


def test_a_policy_that_names_no_database_any_more_holds_nothing_there() -> None:
    ledger = ConnectionLedger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    alone = spec(database=None, queues=[prometheus()], producers=[], breakers=[])
    ledger.count("ns/a", alone, NEW, replace(seen(4), database=None))
    assert ledger.others("db", "ns/b") == ()


def test_who_is_suspended_or_only_observes_is_entitled_to_no_more_than_it_holds() -> None:
    ledger = ConnectionLedger()
    for parts in ({"suspend": True}, {"mode": "Observe"}):
        quiet = spec(target={"name": "etl-worker", "minReplicas": 5}, **parts)
        ledger.count("ns/a", quiet, NEW, seen(2))
        (claim,) = ledger.others("db", "ns/b")
        assert (claim.connections, claim.minimum) == (20, 0)


def test_a_policy_sees_its_own_claim_on_the_server_it_reads() -> None:
    ledger = ConnectionLedger()
    mine = ledger.count("ns/a", SPEC, NEW, seen(4)).claim
    assert mine is not None
    assert (mine.policy, mine.connections, mine.minimum) == ("ns/a", 40, 10)
    assert ledger.count("ns/a", SPEC, NEW, unreadable()).claim is None


def prometheus() -> dict[str, object]:
    """A queue without a database."""
    return {"name": "jobs", "prometheus": {"url": "http://prometheus:9090"}}


def test_after_a_restart_a_rollout_of_what_runs_is_counted_whatever_the_budget_was() -> None:
    full = connections(by_role={"web": 190}, peak_by_role={"web": 190}, clients=190)
    terms = budget(DATABASE, full, workload(4, max_surge="50%"), EACH)
    assert terms.replicas == 0
    ledger = ConnectionLedger()
    known = QueueBacklogPolicyStatus(budget=terms, scaling=ScalingStatus(replicas=4))
    ledger.count("ns/a", SPEC, known, unreadable())
    assert ledger.others("db", "ns/b")[0].connections == 60


def test_a_step_that_may_have_been_written_is_counted_after_a_kill() -> None:
    terms = budget(DATABASE, connections(), workload(4, max_surge="0"), EACH)
    intent = Step(from_=4, to=6, message="more is needed", at=NOW)
    known = QueueBacklogPolicyStatus(
        budget=terms, scaling=ScalingStatus(replicas=4, last_step=intent)
    )
    ledger = ConnectionLedger()
    ledger.count("ns/a", SPEC, known, unreadable())
    assert ledger.others("db", "ns/b")[0].connections == 60


def test_what_was_asked_a_moment_ago_is_kept_free_and_not_asked_back() -> None:
    timer = Timer()
    ledger = ConnectionLedger(timer)
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.report("ns/a", replace(ASKS, asked=80))
    ledger.report("ns/a", None)
    (claim,) = ledger.others("db", "ns/b")
    assert (claim.wanted, claim.asked) == (None, 80)
    timer.now = 3 * SPEC.interval.total_seconds()
    (claim,) = ledger.others("db", "ns/b")
    assert claim.asked is None


def test_a_step_whose_pods_are_ready_shows() -> None:
    ledger = ConnectionLedger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.raise_to("ns/a", 60)
    ledger.count("ns/a", SPEC, NEW, seen(6))
    ledger.drop("ns/a")
    assert ledger.others("db", "ns/b") == ()


def test_a_server_is_one_whether_it_is_read_by_a_login_or_by_prometheus() -> None:
    """A policy that has both proves it, also for those that were counted before."""
    ledger = ConnectionLedger()
    ledger.count("ns/scraped", SPEC, NEW, seen(3, server="prometheus:main"))
    ledger.count("ns/login", SPEC, NEW, seen(2, server="7312"))
    assert ledger.others("7312", "ns/login") == ()
    both = seen(4, server="7312")
    assert both.database is not None
    assert isinstance(both.database.connections, Known)
    named = replace(both.database.connections.value, alias="prometheus:main")
    both = replace(both, database=replace(both.database, connections=Known(named, NOW)))
    assert [c.policy for c in ledger.count("ns/both", SPEC, NEW, both).claims] == [
        "ns/scraped",
        "ns/login",
    ]
    view = ledger.count("ns/scraped", SPEC, NEW, seen(3, server="prometheus:main"))
    assert {c.policy for c in view.claims} == {"ns/login", "ns/both"}
    assert view.database is not None
    assert isinstance(view.database.connections, Known)
    assert view.database.connections.value.server == "7312"
