"""Each bound of the CRD against a real API server, found in the schema itself: what lies just
outside is refused with the field's name, and what lies on the bound is accepted."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from tests.cluster.crd_examples import GONE, Leaf, Policy, edited, everything, leaves, spec_leaves
from tests.cluster.crd_policies import Policies, Refused

from local.cluster import LocalCluster
from reference.crd import schema
from starforge_backlog.api.base import format_duration, parse_duration
from starforge_backlog.api.rules import RULES

pytestmark = pytest.mark.cluster

SPEC = list(spec_leaves(schema()["properties"]["spec"]))
STATUS = list(leaves(schema()["properties"]["status"], ("status",)))

SPAN = re.compile(r"must be a duration from (\w+) to (\w+), written like 90s, 15m or 1h30m")
NO_DURATIONS = ("", "5", "s", "-5s", "1.5h", "500ms", "1d", "5m1h", "90 s", "99999h", "٣s")

TOO_SHORT = " in body should be at least 1 chars long"

# What is no such name, by the message of its rule; and names that must be accepted.
NAMES = {
    "must be a plain SQL identifier": (
        ("1abc", "a-b", "a b", 'a"b', "a;b", "a.b", "ä", "a$b", "abc\n"),
        ("a", "_a1", "CamelCase", "x" * 63),
    ),
    "must be a table like": (
        ("1abc", "a-b", 'a"b', "a.b.c", ".a", "a.", "public.1a", "a; DROP TABLE b"),
        ("a", "public.a", "App._jobs2", f"{'s' * 63}.{'t' * 63}"),
    ),
    "must be a name of lower-case letters": (
        ("A", "-a", "a-", "a_b", "a.b", "ä"),
        ("a", "a-1", "0", "n" * 63),
    ),
    "must be the name of a Kubernetes object": (
        ("A", "-a", "a-", "a_b", "a..b", "a.", "a/b"),
        ("a", "a.b-c.0", "o" * 253),
    ),
    "must be a key of the Secret": (("a b", "a/b", "ä"), ("DATABASE_URL", "a.b-c", "k" * 253)),
    "must be a key of the ConfigMap": (("a b", "a/b", "ä"), ("ingest_paused", "k" * 253)),
    "must be an address like": (
        (
            *("host:9090", "ftp://host", "HTTP://host", "http://", "http:///path", "http://ho st"),
            *("http://u:p@host", "http://host/p@q", "http://host?q=1", "http://host/#f"),
            *("http://host\n", "http://host/a b"),
        ),
        ("http://a", "https://host:9090/path/", "http://[::1]:9090", f"http://{'h' * 1017}"),
    ),
    "must be a BullMQ queue name": (
        ("etl:snapshots", "a b", "a\n", " "),
        ("etl-snapshots", "{etl}", "Ä_1.2", "q" * 253),
    ),
    "must be a key prefix": (("a b", "bull\n", " "), ("bull", "{etl}", "app:bull", "p" * 253)),
    "must be the name of an environment variable": (
        ("1A", "A=B", "A B", "ä"),
        ("PG_POOL_MAX", "a.b-c", "E" * 253),
    ),
    "must be a kind like": (("deployment", "1D", "Deploy ment", "Ä"), ("Rollout", "K" * 63)),
    "must be a group and version like": (
        ("apps", "apps/", "/v1", "apps/1", "Apps/v1", "a/b/v1", "v1gamma1"),
        ("v1", "apps/v1", "argoproj.io/v1alpha1"),
    ),
}


class Example(NamedTuple):
    """A value for a field, and for refused ones what the API server says."""

    leaf: Leaf
    value: object
    says: str = ""

    @property
    def id(self) -> str:
        """A short name for the test report."""
        shown = "GONE" if self.value is GONE else repr(self.value)[:30]
        return f"{self.leaf.text}={shown}"


@pytest.fixture(scope="module")
def policies(cluster: LocalCluster, crd: None) -> Iterator[Policies]:
    """A namespace of a real API server with the CRD as it is committed."""
    yield from Policies.opened(cluster, "crd-bounds")


def refused(leaf: Leaf) -> Iterator[Example]:
    """A wrong value for each keyword of a field's schema."""
    field, where = leaf.schema, leaf.text
    if leaf.required:
        yield Example(leaf, GONE, f"{where}: Required value")
    if "enum" in field:
        yield Example(leaf, "nonsense", f'{where}: Unsupported value: "nonsense"')
    if "minimum" in field:
        least, most = field["minimum"], field["maximum"]
        yield Example(leaf, least - 1, f"{where} in body should be greater than or equal to")
        yield Example(leaf, most + 1, f"{where} in body should be less than or equal to {most}")
        yield Example(leaf, float(least) + 0.5, f"{where} in body must be of type")
    if "minLength" in field:
        yield Example(leaf, "", where + TOO_SHORT)
    if "maxLength" in field:
        most = field["maxLength"]
        yield Example(leaf, "a" * (most + 1), f"{where}: Too long: may not be more than {most}")
    if "minItems" in field:
        yield Example(leaf, [], f"{where} in body should have at least")
    if "maxItems" in field:
        most = field["maxItems"]
        yield Example(leaf, many(leaf, most + 1), f"{where}: Too many: {most + 1}: must have at")
    if field.get("x-kubernetes-list-type") in ("set", "map"):
        item = many(leaf, 1)[0]
        yield Example(leaf, [item, item], f"{where}[1]: Duplicate value")
    for rule in rules_of(leaf):
        yield from (
            Example(leaf, value, f"{where}: Invalid value: {quoted(value)}: {rule}")
            for value in outside(rule)
        )


def accepted(leaf: Leaf) -> Iterator[Example]:
    """Values on the bounds of a field's schema."""
    field = leaf.schema
    yield from (Example(leaf, word) for word in field.get("enum", ()))
    if "minimum" in field:
        yield Example(leaf, field["minimum"])
        yield Example(leaf, field["maximum"])
    for rule in rules_of(leaf):
        yield from (Example(leaf, value) for value in inside(rule))


def rules_of(leaf: Leaf) -> list[str]:
    """Messages of the rules of a single value; objects have theirs in test_crd_rules.py."""
    if leaf.schema["type"] == "object":
        return []
    return [rule["message"] for rule in leaf.schema.get(RULES, ())]


def outside(message: str) -> tuple[str, ...]:
    """Values that a rule must refuse."""
    if span := SPAN.fullmatch(message):
        least, most = (parse_duration(text).total_seconds() for text in span.groups())
        return (*NO_DURATIONS, f"{least - 1:.0f}s", f"{most + 1:.0f}s")
    return next(bad for start, (bad, _) in NAMES.items() if message.startswith(start))


def inside(message: str) -> tuple[str, ...]:
    """Values that a rule must accept."""
    if span := SPAN.fullmatch(message):
        least, most = span.groups()
        return (least, most, format_duration(parse_duration(most)))
    return next(good for start, (_, good) in NAMES.items() if message.startswith(start))


def many(leaf: Leaf, count: int) -> list[Any]:
    """A list of that many items which differ in their key."""
    holder: Any = leaf.example() if leaf.path[0] == "spec" else {"status": STATUS_EXAMPLE}
    for part in leaf.path:
        holder = holder[part]
    keys = leaf.schema.get("x-kubernetes-list-map-keys")
    items = []
    for number in range(count):
        item = copy.deepcopy(holder[0])
        if keys:
            item[keys[0]] = f"n{number}"
        items.append(item if isinstance(item, dict) else f"n{number}")
    return items


def quoted(value: str) -> str:
    """As the API server quotes it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def with_value(example: Example) -> Policy:
    """A policy that is right but for the example's value."""
    return example.leaf.placed(example.value)


REFUSED = [example for leaf in SPEC for example in refused(leaf) if example.value != ""] + [
    # An empty text may meet several bounds; one of them is enough.
    Example(
        leaf, "", leaf.text + (TOO_SHORT if "minLength" in leaf.schema else ': Invalid value: ""')
    )
    for leaf in SPEC
    if leaf.schema["type"] == "string" and "enum" not in leaf.schema
]
ACCEPTED = [example for leaf in SPEC for example in accepted(leaf)]


def together(examples: Sequence[Example]) -> list[list[Example]]:
    """Wrong values that one policy can hold, so that forty requests do for a thousand examples: the
    API server names each of them. No value is inside of another; and values that only a rule
    refuses are apart from the rest, as rules are asked once the schema has no complaint."""
    found: list[list[Example]] = []
    for example in examples:
        fitting = (group for group in found if all(fit(example, other) for other in group))
        group = next(fitting, None)
        if group is None:
            found.append([example])
        else:
            group.append(example)
    return found


def fit(one: Example, other: Example) -> bool:
    mine, theirs = one.leaf.path, other.leaf.path
    shared = min(len(mine), len(theirs))
    same_check = by_rule(one) == by_rule(other) and one.leaf.policy == other.leaf.policy
    return same_check and mine[:shared] != theirs[:shared]


def by_rule(example: Example) -> bool:
    return "Invalid value" in example.says


GROUPS = together(REFUSED)


class Answers:
    """What the API server says to each group; each is asked once."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._said: dict[int, str] = {}

    def to(self, number: int) -> str:
        if number not in self._said:
            group = GROUPS[number]
            values = {".".join(map(str, e.leaf.path)): e.value for e in group}
            with pytest.raises(Refused) as answer:
                self._policies.create(edited(group[0].leaf.example(), values))
            self._said[number] = str(answer.value)
        return self._said[number]


@pytest.fixture(scope="module")
def answers(policies: Policies) -> Answers:
    return Answers(policies)


@pytest.mark.parametrize(
    ("group", "example"),
    [
        pytest.param(number, example, id=example.id)
        for number, group in enumerate(GROUPS)
        for example in group
    ],
)
def test_outside_is_refused(answers: Answers, group: int, example: Example) -> None:
    assert example.says in answers.to(group)


@pytest.mark.parametrize("example", ACCEPTED, ids=lambda e: e.id)
def test_on_the_bound_is_accepted(policies: Policies, example: Example) -> None:
    other: dict[str, dict[str, object]] = {  # what the value would contradict
        "spec.target.minReplicas": {"spec.target.maxReplicas": GONE},
        "spec.target.maxReplicas": {"spec.target.minReplicas": GONE},
        "spec.database.headroom": {"spec.database.maxConnections": GONE},
        "spec.database.maxConnections": {"spec.database.headroom": 0},
        "spec.queues[0].name": {"spec.breakers.0.scope.queues": GONE},
        "spec.breakers[0].scope.queues[0]": {"spec.queues.0.name": example.value},
        "spec.producers[0].name": {"spec.breakers.0.pause.0": example.value},
        "spec.breakers[0].pause[0]": {"spec.producers.0.name": example.value},
    }
    policies.create(edited(with_value(example), other.get(example.leaf.text, {})))


def test_the_largest_policy_is_accepted(policies: Policies) -> None:
    """The costs of all rules together stay within what the API server allows at run time."""
    largest = largest_policy()
    created = policies.create(largest, keep=True)
    paused = [
        {"producer": f"n{n}".ljust(63, "x"), "by": "Us", "state": "Held", "since": MOMENT}
        for n in range(64)
    ]
    stored = policies.set_status("largest", {"paused": paused}, keep=True)
    policies.update(edited(stored, {"spec.interval": "5s"}))
    policies.delete(created["metadata"]["name"])


def largest_policy() -> Policy:
    """Every list as long and every name of producers, queues and breakers as long as may be."""
    names = [f"n{number}".ljust(63, "x") for number in range(16)]
    types = [f"{number}".ljust(100, "x") for number in range(32)]
    policy = everything()
    spec = policy["spec"]
    queue, breaker, owner = spec["queues"][0], spec["breakers"][0], spec["owners"][0]
    for group in ("waiting", "inProgress", "failed", "finished", "ignored"):
        queue["postgres"]["statuses"][group] = [f"{group}{n}".ljust(63, "x") for n in range(16)]
    breaker["scope"] |= {"queues": names, "type": types[0]}
    breaker |= {"pause": names, "trip": breaker["trip"] * 2}
    owner |= {"contact": "c" * 253, "queues": names, "types": types[:16]}
    ways = {way: given for p in spec["producers"] for way, given in p.items() if way != "name"}
    ways["featureFlag"] |= {"name": "f" * 200, "path": ["p" * 63] * 8}
    ways["configMap"] |= {"name": "m" * 253, "key": "k" * 253, "paused": "v" * 1024}
    ways["webhook"] |= {"url": f"https://{'h' * 1016}"}
    ways["jobTypes"] |= {"types": types, "waiting": [f"{n}".ljust(63, "x") for n in range(16)]}
    spec["producers"] = [
        {"name": name, way: given}
        for name, (way, given) in zip(names, [*ways.items()] * 3, strict=False)
    ]
    for key, item in (("queues", queue), ("breakers", breaker), ("owners", owner)):
        spec[key] = [{**copy.deepcopy(item), "name": name} for name in names]
    for queue in spec["queues"]:
        queue["postgres"]["types"] = [f"{n}-{queue['name']}".ljust(100, "x") for n in range(32)]
    return edited(policy, {"metadata.name": "largest"})


MOMENT = "2026-01-01T00:00:00Z"
BUDGET_TERMS = (
    *("maxConnections", "reserved", "usable", "others", "headroom", "otherPolicies", "workerCap"),
    *("perReplica", "slots", "surge", "terminating", "pressureCap", "seedCap", "replicas"),
)
STATUS_EXAMPLE: dict[str, Any] = {
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Fine", "lastTransitionTime": MOMENT}
    ],
    "queues": [
        {"name": "jobs", "missed": ["waiting 5 > 3"], "notes": ["paused"], "types": {"a": "1"}}
    ],
    "budget": {
        **dict.fromkeys(BUDGET_TERMS, 1),
        "formula": "1",
        "heldBy": [{"policy": "a/b", "connections": 1, "share": 1}],
    },
    "scaling": {
        "guard": {"kind": "ScaledObject", "name": "etl"},
        "lastStep": {
            "from": 1,
            "to": 2,
            "message": "",
            "at": MOMENT,
            "verdict": "Passed",
            "before": {"waitingJobs": 1},
            "after": {"completionRate": 0.5},
        },
        "external": {"manager": "hpa", "replicas": 3, "since": MOMENT},
        "oldPool": {"pool": 4, "since": MOMENT},
        "surplus": {"connections": 3},
    },
    "breakers": [{"name": "b", "state": "Open", "owners": ["#etl"]}],
    "paused": [{"producer": "p", "by": "Us", "state": "Held", "since": MOMENT}],
    "memory": {
        "releasedAt": MOMENT,
        "scaling": {
            "guard": {"uid": "u"},
            "lastExternal": {"manager": "hpa", "replicas": 3, "since": MOMENT},
        },
        "breakers": [{"name": "b", "rules": [{"signal": "waiting>=1"}]}],
        "paused": [{"producer": "p", "locator": {"a": "b"}}],
    },
}


@pytest.fixture(scope="module")
def stored(policies: Policies) -> str:
    """The name of a stored policy that has no status yet."""
    name: str = policies.create(everything(), keep=True)["metadata"]["name"]
    return name


def test_the_example_of_a_status_is_accepted(policies: Policies, stored: str) -> None:
    policies.set_status(stored, STATUS_EXAMPLE)


@pytest.mark.parametrize(
    "example", [example for leaf in STATUS for example in refused(leaf)], ids=lambda e: e.id
)
def test_a_wrong_status_is_refused(policies: Policies, stored: str, example: Example) -> None:
    path = ".".join(map(str, example.leaf.path))
    wrong = edited({"status": STATUS_EXAMPLE}, {path: example.value})
    with pytest.raises(Refused) as answer:
        policies.set_status(stored, wrong["status"])
    assert example.says in str(answer.value)
