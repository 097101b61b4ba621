"""The ledger: pods that cannot be read are there all the same (P1, P2)."""

from __future__ import annotations

from dataclasses import replace

from tests.simulator.given import NOW, connections, health, spec, unknown, workload
from tests.simulator.given import seen as everything

from starforge_backlog.api.status import GuardStatus, QueueBacklogPolicyStatus, ScalingStatus
from starforge_backlog.decide.budget import budget
from starforge_backlog.ledger import EXPECTED_FOR_SECONDS, Ledger
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
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def seen(replicas: int = 4, server: str = "db") -> Snapshot:
    reading = DatabaseReading(Known(connections(server=server), NOW), Known(health(), NOW))
    pods = workload(replicas, max_surge="0")
    return replace(
        everything(), workload=Known(pods, NOW), per_replica=Known(EACH, NOW), database=reading
    )


def blind() -> Snapshot:
    return replace(seen(), database=DatabaseReading(unknown(), unknown()))


def remembered(replicas: int = 20) -> QueueBacklogPolicyStatus:
    """The status of a policy that was read before the restart."""
    terms = budget(DATABASE, connections(), workload(replicas, max_surge="0"), EACH, ())
    return QueueBacklogPolicyStatus(budget=terms, scaling=ScalingStatus(replicas=replicas))


def test_each_sees_what_the_others_can_open() -> None:
    ledger = Ledger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    assert ledger.count("ns/b", SPEC, NEW, seen(3)).claims == (Claim("ns/a", "etl", 40),)
    assert ledger.count("ns/c", SPEC, NEW, seen(1, server="another")).claims == ()


def test_a_policy_that_cannot_be_read_keeps_its_claim() -> None:
    ledger = Ledger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.count("ns/a", SPEC, NEW, blind())
    assert ledger.count("ns/b", SPEC, NEW, seen()).claims == (Claim("ns/a", "etl", 40),)


def test_after_a_restart_its_status_stands_for_pods_that_cannot_be_read() -> None:
    ledger = Ledger()
    ledger.expect("ns/a")
    ledger.count("ns/a", SPEC, remembered(20), blind())
    view = ledger.count("ns/b", SPEC, NEW, seen())
    assert view.claims == (Claim("ns/a", None, 200),)
    assert view.claims_complete


def test_who_was_never_read_is_waited_for_and_not_for_ever() -> None:
    timer = Timer()
    ledger = Ledger(timer)
    ledger.expect("ns/a")
    ledger.count("ns/a", SPEC, NEW, blind())
    assert not ledger.count("ns/b", SPEC, NEW, seen()).claims_complete
    timer.now = EXPECTED_FOR_SECONDS
    assert ledger.count("ns/b", SPEC, NEW, seen()).claims_complete


def test_who_came_late_has_a_time_of_its_own() -> None:
    timer = Timer()
    ledger = Ledger(timer)
    timer.now = 10 * EXPECTED_FOR_SECONDS
    ledger.expect("ns/late")
    assert not ledger.count("ns/b", SPEC, NEW, seen()).claims_complete


def test_a_promise_is_only_raised_and_ends_with_the_policy() -> None:
    ledger = Ledger()
    ledger.count("ns/a", SPEC, NEW, seen(4))
    ledger.raise_to("ns/a", 60)
    ledger.raise_to("ns/a", 50)
    assert ledger.others("db", "ns/b") == (Claim("ns/a", "etl", 60),)
    ledger.drop("ns/a")
    assert ledger.others("db", "ns/b") == ()


def test_a_target_below_its_minimum_is_entitled_to_it_unless_scaled_to_zero() -> None:
    ledger = Ledger()
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
    terms = budget(DATABASE, limited, workload(1, max_surge="0"), EACH, held)
    assert terms.worker_cap == 50 - 20 - 1


def test_a_pool_made_smaller_is_claimed_as_it_was_until_the_pods_have_it() -> None:
    ledger = Ledger()
    large = QueueBacklogPolicyStatus(scaling=ScalingStatus(pool=20))
    ledger.count("ns/a", SPEC, large, seen(4))
    assert ledger.others("db", "ns/b")[0].connections == 4 * 20


def test_pods_that_two_policies_name_count_once() -> None:
    ledger = Ledger()
    ledger.count("ns/old", SPEC, NEW, seen(4))
    ledger.count("ns/young", SPEC, NEW, seen(4))
    refused = replace(seen(4), rival=Rival("ns/old", "Deployment etl-worker"))
    assert ledger.count("ns/young", SPEC, NEW, refused).claims == ()
    assert [c.policy for c in ledger.count("ns/b", SPEC, NEW, seen()).claims] == ["ns/old"]


def test_a_guarded_autoscaler_may_go_to_what_it_is_left() -> None:
    guarded = spec(target={"name": "w", "guard": {"horizontalPodAutoscaler": "hpa"}})
    guard = GuardStatus(kind="HorizontalPodAutoscaler", name="hpa", maximum=9)
    before = QueueBacklogPolicyStatus(scaling=ScalingStatus(guard=guard))
    ledger = Ledger()
    ledger.count("ns/a", guarded, before, seen(4))
    assert [c.connections for c in ledger.count("ns/b", SPEC, NEW, seen()).claims] == [90]
    ledger.count("ns/a", SPEC, before, seen(4))
    assert [c.connections for c in ledger.count("ns/b", SPEC, NEW, seen()).claims] == [40]
