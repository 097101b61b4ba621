"""What is generated from the models: no drift, structural, documented, bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from tests.cluster.crd_examples import leaves, spec_leaves

from reference import crd, resource
from reference.structural import structural
from starforge_backlog.api.rules import MAP_TYPE, RULES
from starforge_backlog.api.terms import LIST_TYPE
from starforge_backlog.cluster.annotations import HOLD, RELEASE, RELEASE_ABANDON

ROOT = Path(__file__).parents[2]
MAP_KEYS = "x-kubernetes-list-map-keys"

# What a structural schema may hold, of what we use (apiextensions/v1 JSONSchemaProps).
KEYWORDS = {
    "additionalProperties", "default", "description", "enum", "format", "items", "maxItems",
    "maxLength", "maximum", "minItems", "minLength", "minimum", "properties", "required", "type",
    MAP_KEYS, LIST_TYPE, MAP_TYPE, RULES,
}  # fmt: skip

# Required fields of a status: an operator that is older than the CRD must be able to write, so a
# new field gets a default and a line of this list stays as it is. A new model adds a line: who does
# not know it does not write it.
REQUIRED_IN_STATUS = {
    "Condition": "lastTransitionTime reason status type",
    "QueueStatus": "name",
    "BudgetStatus": (
        "formula headroom maxConnections otherPolicies others perReplica pressureCap replicas"
        " reserved seedCap slots surge terminating usable workerCap"
    ),
    "Step": "at from message to",
    "ExternalWriter": "manager replicas since",
    "OldPool": "pool since",
    "Surplus": "connections",
    "RuleStatus": "signal",
    "BreakerStatus": "name",
    "PauseStatus": "by producer since state",
    "GuardStatus": "kind name",
    "Holder": "connections policy share",
    "PauseStatus in memory": "producer",
}

# By which field the items of a list of a status are distinguished; None: it is written as a whole.
LISTS_OF_A_STATUS = {
    "status.queues": ["name"],
    "status.queues[].notes": None,
    "status.queues[].missed": None,
    "status.budget.heldBy": None,
    "status.breakers": ["name"],
    "status.breakers[].owners": None,
    "status.paused": ["producer"],
    "status.conditions": ["type"],
    "status.memory.breakers": ["name"],
    "status.memory.breakers[].rules": None,
    "status.memory.paused": ["producer"],
}


def everywhere(schema: Mapping[str, Any], path: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """The schema and all below it, each with its path."""
    found = [(path, schema)]
    for name, field in schema.get("properties", {}).items():
        found += everywhere(field, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            found += everywhere(schema[inner], f"{path}[]")
    return found


SCHEMA = crd.schema()
SPEC = everywhere(SCHEMA["properties"]["spec"], "spec")
EXAMPLES = list(spec_leaves(SCHEMA["properties"]["spec"]))
STATUS = everywhere(SCHEMA["properties"]["status"], "status")


def test_the_committed_files_are_what_the_models_say() -> None:
    assert crd.drift(ROOT) == ""


def test_drift_is_shown_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tmp_path)]
    assert crd.main([*root, "--check"]) == 1
    assert crd.main(root) == 0
    assert crd.main([*root, "--check"]) == 0
    file = tmp_path / "crds" / resource.CRD_FILE
    file.write_text(file.read_text(encoding="utf-8").replace("default: 15s", "default: 16s"))
    capsys.readouterr()
    assert crd.main([*root, "--check"]) == 1
    said = capsys.readouterr()
    assert "-                default: 16s" in said.out
    assert "make crd" in said.err


@pytest.mark.parametrize(("path", "schema"), [*SPEC, *STATUS], ids=lambda x: str(x)[:60])
def test_the_schema_is_structural(path: str, schema: Mapping[str, Any]) -> None:
    assert set(schema) <= KEYWORDS
    assert "type" in schema
    if path.endswith("]"):
        return  # an item of a list or map
    assert len(schema["description"]) >= len("Since when."), "kubectl explain has nothing to say"
    assert "  " not in schema["description"]
    assert schema["description"].endswith((".", ")"))


@pytest.mark.parametrize(("path", "schema"), SPEC, ids=lambda x: str(x)[:60])
def test_everything_in_a_spec_is_bounded(path: str, schema: Mapping[str, Any]) -> None:
    """People's mistakes are refused, and the cost of rules can be estimated."""
    needed = {
        "string": {"enum"} if "enum" in schema else {"maxLength"},
        "integer": {"minimum", "maximum"},
        "array": {"maxItems", "x-kubernetes-list-type"},
        "object": {"properties"},
        "boolean": set[str](),
    }
    assert needed[schema["type"]] <= set(schema), path


def test_every_field_has_an_example() -> None:
    """So that test_crd_bounds.py tries each field's bounds where the field is."""
    tried = {tuple(0 if isinstance(p, int) else p for p in leaf.path) for leaf in EXAMPLES}
    assert tried == {leaf.path for leaf in leaves(SCHEMA["properties"]["spec"], ("spec",))}


# A field is named by a noun: what a question asks for (message, reason, source, server) and not the
# question.
QUESTIONS = {"why", "where", "how", "who", "whom", "whose", "what", "which", "when", "theirs"}


def words(name: str) -> set[str]:
    """The words of a camelCase name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def test_no_field_is_named_by_a_question() -> None:
    names = [name for _, schema in SPEC + STATUS for name in schema.get("properties", {})]
    assert [name for name in names if words(name) & QUESTIONS] == []


def test_values_of_enums_are_camel_case() -> None:
    """But names of fields, which are written as the fields are."""
    fields = {"spec.queues[].postgres.columns.absent[]"}
    values = [v for path, s in SPEC + STATUS if path not in fields for v in s.get("enum", ())]
    assert [value for value in values if not re.fullmatch("([A-Z][a-z]+)+", value)] == []


def test_a_field_of_a_status_has_one_type_wherever_it_is() -> None:
    """Who reads `waiting` as text in one place must not find a number in another one."""
    types: dict[str, set[str]] = {}
    for _, schema in STATUS:
        for name, field in schema.get("properties", {}).items():
            types.setdefault(name, set()).add(field["type"])
    found = {name: kinds for name, kinds in types.items() if len(kinds) > 1}
    assert found == {}


def test_every_list_says_who_owns_its_items_and_how_many_there_are() -> None:
    """Server-side apply treats a list without a type as a whole; a list without a bound has no end
    (the status: tests/unit/test_status_bound.py holds that no write of ours is longer)."""
    lists = [(path, schema) for path, schema in SPEC + STATUS if schema["type"] == "array"]
    assert len(lists) > len(LISTS_OF_A_STATUS)
    assert [path for path, schema in lists if "maxItems" not in schema] == []
    assert [path for path, schema in lists if LIST_TYPE not in schema] == []
    keys = {path: s.get(MAP_KEYS) for path, s in lists if s[LIST_TYPE] == "map"}
    assert {path: keys.get(path) for path in LISTS_OF_A_STATUS} == LISTS_OF_A_STATUS
    assert {path for path, _ in lists if path.startswith("status")} == set(LISTS_OF_A_STATUS)


def test_what_is_one_statement_of_a_status_is_replaced_as_a_whole() -> None:
    """A budget of which half is of another pass would not add up."""
    found = {path for path, schema in STATUS if schema.get(MAP_TYPE) == "atomic"}
    scaling = {f"status.scaling.{name}" for name in ("lastStep", "lastJudged", "guard")}
    assert found == {"status.budget", *scaling, "status.memory.scaling.guard"}


def test_a_spec_has_no_floats() -> None:
    assert all(schema["type"] != "number" for _, schema in SPEC)


# What server-side apply makes of a schema, found on a real API server by
# tests/cluster/test_gitops.py: each of these refused, changed or disputed a manifest that was
# applied before.
WHOLE = [s for _, s in SPEC if "atomic" in {s.get(MAP_TYPE), s.get(LIST_TYPE)}]
NEEDS_A_FIELD = {"spec.database"}  # a rule refuses it empty, and appliers may share it


def test_an_object_that_may_be_empty_is_owned_as_a_whole_or_has_a_default() -> None:
    """`postgres: {}` of a second apply would be null, or gone (kubernetes#135841)."""
    inside = {id(s) for w in WHOLE for _, s in everywhere(w)[1:]}
    unsafe = [
        path
        for path, schema in SPEC
        if schema["type"] == "object" and not path.endswith("]") and path != "spec"
        if not schema.get("required") and "default" not in schema
        if schema.get(MAP_TYPE) != "atomic" and id(schema) not in inside
    ]
    assert set(unsafe) == NEEDS_A_FIELD


def test_what_is_owned_as_a_whole_is_stored_as_it_was_applied() -> None:
    """A default inside it would be a conflict with every manager that applied the same manifest
    before.
    """
    assert WHOLE
    inside = [found for schema in WHOLE for found in everywhere(schema)[1:]]
    assert [path for path, schema in inside if "default" in schema] == []


def test_a_default_does_not_stand_beside_what_is_applied_later() -> None:
    """Nobody owns it, so server-side apply adds to it: to a list's items, or to the other half of
    an object with exactly one of two fields."""
    for path, schema in SPEC:
        if schema.get(LIST_TYPE) in {"set", "map"} or schema["type"] == "object":
            assert not schema.get("default"), path


def test_no_rule_of_a_spec_depends_on_status() -> None:
    """A pipeline applies a manifest in the middle of an incident too."""
    assert RULES not in SCHEMA, "a rule of the whole object can see status"
    assert all(RULES not in schema for _, schema in STATUS)


def test_the_server_adds_nothing_to_a_status() -> None:
    assert not [path for path, schema in STATUS if "default" in schema]


def test_an_older_operator_can_write_a_status_under_this_crd() -> None:
    required = {path: schema["required"] for path, schema in STATUS if "required" in schema}
    found = {" ".join(sorted(names)) for names in required.values()}
    assert found == set(REQUIRED_IN_STATUS.values())


def test_columns_point_at_fields_that_exist() -> None:
    for column in resource.COLUMNS:
        path = column.path.partition("[?")[0]
        if path == ".metadata.creationTimestamp":
            continue
        schema: Any = SCHEMA
        for part in path.strip(".").split("."):
            schema = schema["properties"][part]


def test_rules_name_fields_that_exist() -> None:
    """A `fieldPath` that does not exist would keep the API server from taking the CRD."""
    for where, schema in SPEC:
        for rule in schema.get(RULES, ()):
            field: Any = schema
            for part in rule.get("fieldPath", "").split(".")[1:]:
                assert part in field["properties"], (where, rule)
                field = field["properties"][part]


def test_messages_are_one_sentence_and_fit_the_limit() -> None:
    for _, schema in SPEC:
        for rule in schema.get(RULES, ()):
            assert "\n" not in rule["message"]
            assert not rule["message"].endswith(".")
            assert len(rule["message"]) < 2048  # the API server's own limit


def test_the_file_has_no_anchors_and_reads_back() -> None:
    assert yaml.safe_load(crd.render()) == crd.definition()
    assert "&id" not in crd.render()


def test_a_union_is_refused_while_generating() -> None:
    class Either(BaseModel):
        field: int | str

    with pytest.raises(ValueError, match="no unions"):
        structural(Either)


def test_the_reference_names_the_annotations_that_the_operator_reads() -> None:
    page = (ROOT / "docs" / "reference" / "policy.md").read_text(encoding="utf-8")
    assert f"| `{HOLD}` |" in page
    assert f"| `{RELEASE}` |" in page
    assert f"`{RELEASE_ABANDON}` gives them up" in page


def test_the_reference_has_each_field_and_each_message() -> None:
    page = (ROOT / "docs" / "reference" / "policy.md").read_text(encoding="utf-8")
    for path, schema in SPEC:
        name = path.rpartition(".")[2]
        if not name.endswith("]") and name != "spec":
            assert f"| `{name}` |" in page
        for rule in schema.get(RULES, ()):
            if "must be a duration" not in rule["message"]:  # there as "from 2s to 10m"
                assert rule["message"].removeprefix("must be ") in page
