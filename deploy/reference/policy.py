"""The reference for people, `docs/reference/policy.md`, from the same schema as the CRD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reference.memory import apart_in
from reference.resource import COLUMNS, KIND
from reference.structural import bounds_text, default_text, structural
from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.rules import RULES
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.api.terms import SPAN

Schema = Mapping[str, Any]

_INTRODUCTION = f"""\
<!-- Generated from operator/starforge_backlog/api by `make crd`; edit the models. -->
# {KIND}

Every field with its default and what is allowed, as `kubectl explain qbp.spec` shows it too. A
policy that breaks a rule is refused by the API server, at `kubectl apply`, with the sentence that
is quoted here. Durations are written like `90s`, `15m` or `1h30m`.

The smallest useful policy; everything else has a default:

```yaml
apiVersion: backlog.starforge.dev/v1alpha1
kind: {KIND}
metadata: {{name: etl, namespace: starforge}}
spec:
  target: {{name: etl-worker}}
  database:
    url: {{secretKeyRef: {{name: starforge-db, key: DATABASE_URL}}}}
  queues:
    - name: jobs
      postgres: {{}}
```

## By hand

| annotation | effect |
|---|---|
| `backlog.starforge.dev/hold` | Any text stops every action at once; the text is quoted as the reason. `false`, `off` and `no` do not hold. |
| `backlog.starforge.dev/release` | On a policy that is deleted, or whose operator is uninstalled, while its pauses cannot be released: `abandon` gives them up, and leaves the producers paused; the message says how to resume them by hand. On any policy: a pause that was made at a server which the Secret leads to no more is forgotten when it would be released. |

## What cannot change

"""  # noqa: E501 - rows of a table cannot be wrapped


def render_reference() -> str:
    """The whole page as Markdown."""
    parts = [_INTRODUCTION]
    spec, status = (
        structural(QueueBacklogPolicySpec),
        apart_in(structural(QueueBacklogPolicyStatus)),
    )
    parts += [f"- {message}.\n" for message in _transitions(spec)]
    for path, schema in _objects("spec", spec):
        parts.append(_section(path, schema, with_defaults=True))
    parts.append(
        "\n## Columns\n\n`kubectl get qbp` shows these, with `-o wide` all:\n\n"
        "| column | from | meaning |\n|---|---|---|\n"
    )
    for column in COLUMNS:
        name = column.name.upper() + (" (wide)" if column.priority else "")
        parts.append(f"| {name} | `{_cell(column.path)}` | {column.description} |\n")
    for path, schema in _objects("status", status):
        parts.append(_section(path, schema, with_defaults=False))
    return "".join(parts)


def _transitions(schema: Schema) -> Iterator[str]:
    """Messages of rules that compare with the object before the update."""
    for rule in schema.get(RULES, ()):
        if "oldSelf" in rule["rule"]:
            yield rule["message"]
    for _, nested in _nested("", schema):
        yield from _transitions(nested)


def _objects(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every object that has fields of its own, outer before inner."""
    yield path, schema
    for inner, nested in _nested(path, schema):
        yield from _objects(inner, nested)


def _nested(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    for name, field in schema.get("properties", {}).items():
        if "properties" in field:
            yield f"{path}.{name}", field
        elif "properties" in field.get("items", {}):
            yield f"{path}.{name}[]", field["items"]


def _section(path: str, schema: Schema, *, with_defaults: bool) -> str:
    required = schema.get("required", ())
    head = ("default", "allowed") if with_defaults else ()
    lines = [f"\n## {path}\n\n{schema['description']}\n\n"]
    columns = ("field", "type", *head, "meaning")
    lines.append(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n")
    for name, field in schema["properties"].items():
        facts = (_default(field, name in required), _allowed(field)) if with_defaults else ()
        cells = (f"`{name}`", _type(field), *facts, field.get("description", ""))
        lines.append(f"| {' | '.join(map(_cell, cells))} |\n")
    rules = [r["message"] for r in schema.get(RULES, ()) if "oldSelf" not in r["rule"]]
    if rules:
        lines.append("\nRefused otherwise:\n\n")
        lines += [f"- {message}.\n" for message in rules]
    return "".join(lines)


def _type(field: Schema) -> str:
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return "map"
    if field.get("format") == "date-time":
        return "time"
    if SPAN in field:
        return "duration"
    return "number" if field["type"] == "integer" else str(field["type"])


def _default(field: Schema, required: bool) -> str:
    if required:
        return "required"
    if field["type"] == "object" and field.get("default") == {}:
        return "as below"
    if "default" not in field or field["default"] == []:
        return "none"
    default = field["default"]
    if isinstance(default, Mapping):
        return f"`{{{', '.join(f'{key}: {value}' for key, value in default.items())}}}`"
    return f"`{default_text(default)}`"


def _allowed(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(f"`{word}`" for word in field["enum"])
    if bounds := bounds_text(field):
        inner = _allowed(field.get("items", {}))
        return f"{bounds}, each {inner}" if inner else bounds
    if "maxLength" in field:
        length = f"{field.get('minLength', 0)} to {field['maxLength']} characters"
        rules = [rule["message"].removeprefix("must be ") for rule in field.get(RULES, ())]
        return "; ".join((*rules, length))
    return ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
