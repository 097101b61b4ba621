"""From a model's JSON schema to the structural schema that a CRD needs.

Kubernetes takes a subset of OpenAPI: no `$ref`, no `null` type, no titles, no closed objects
(unknown fields are pruned anyway). What people read in `kubectl explain` is completed here:
defaults and bounds are written in words, from the schema itself, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.rules import MAP_TYPE
from starforge_backlog.api.terms import LIST_TYPE, SPAN

Schema = dict[str, Any]

# The order of keywords in the generated file: what a reader searches for comes first.
_ORDER = (
    "type", "format", "description", "default", "enum", "minimum", "maximum", "minLength",
    "maxLength", "minItems", "maxItems", "required", "properties", "additionalProperties", "items",
)  # fmt: skip
_DROPPED = ("title", "$defs")


class _Generator(GenerateJsonSchema):
    """Writes only what a default says itself; the API server fills in the rest from the fields'
    own defaults, so that each default is in one place."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            return dft.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if isinstance(dft, timedelta):
            return format_duration(dft)
        return super().encode_default(dft)


def structural(model: type[BaseModel]) -> Schema:
    """The model's structural schema, still with the helper keyword `x-span`; see `published`."""
    generated = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _rewrite(generated, generated.get("$defs", {}))


def without_defaults(schema: Mapping[str, Any]) -> Schema:
    """For a status: it says what the operator wrote, and the server must not add to that."""
    out = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in out:
        out["properties"] = {k: without_defaults(v) for k, v in out["properties"].items()}
    if "items" in out:
        out["items"] = without_defaults(out["items"])
    return out


def published(schema: Mapping[str, Any], *, defaulted: bool = True) -> Schema:
    """The schema as the CRD has it: descriptions completed, helper keywords gone.

    Inside an atomic list or map no default is left to the API server, only said (`defaulted` is
    False): server-side apply compares what is applied with what is stored as wholes, so each
    default in it would be a conflict with every manager that applied the same manifest before. The
    models fill these in.
    """
    defaulted = defaulted and "atomic" not in {schema.get(kind) for kind in (MAP_TYPE, LIST_TYPE)}
    out: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: _dressed(field, defaulted=defaulted) for name, field in value.items()}
        elif key in ("items", "additionalProperties"):
            out[key] = _dressed(value, defaulted=defaulted)
        elif key == "description":
            out[key] = " ".join((value, *facts(schema)))
        elif key != SPAN:
            out[key] = value
    return out


def _dressed(schema: Mapping[str, Any], *, defaulted: bool) -> Schema:
    out = published(schema, defaulted=defaulted)
    return out if defaulted else {key: value for key, value in out.items() if key != "default"}


def facts(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Default and bounds as short sentences."""
    said = []
    if schema.get("default") not in (None, [], {}) and schema["type"] != "object":
        said.append(f"Default: {default_text(schema['default'])}.")
    if bounds := bounds_text(schema):
        said.append(f"{bounds[0].upper()}{bounds[1:]}.")
    return tuple(said)


def default_text(default: object) -> str:
    """A default as YAML would have it on one line."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list):
        return f"[{', '.join(map(str, default))}]"
    return str(default)


def bounds_text(schema: Mapping[str, Any]) -> str:
    """Bounds that a writer has to keep; lengths of names only show in the reference."""
    if SPAN in schema:
        least, most = schema[SPAN]
        return f"from {least} to {most}"
    if "minimum" in schema:
        return f"from {schema['minimum']} to {schema['maximum']}"
    if "maxItems" in schema:
        return f"from {schema.get('minItems', 0)} to {schema['maxItems']} entries"
    return ""


def _rewrite(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    flat = _inline(schema, definitions)
    if flat.get("type") == "integer":
        flat.setdefault("format", "int64")
    if flat.get("default", ...) is None:
        del flat["default"]
    if "description" in flat:
        flat["description"] = " ".join(flat["description"].split())
    if "properties" in flat:
        flat["properties"] = {
            name: _rewrite(field, definitions) for name, field in flat["properties"].items()
        }
    for nested in ("items", "additionalProperties"):
        if isinstance(flat.get(nested), Mapping):
            flat[nested] = _rewrite(flat[nested], definitions)
    if flat.get("additionalProperties") in (True, False):
        del flat["additionalProperties"]
    ranked = sorted(flat, key=lambda key: _ORDER.index(key) if key in _ORDER else len(_ORDER))
    return {key: flat[key] for key in ranked if key not in _DROPPED}


def _inline(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """Replace a reference by what it names, and an optional by its type; nearer keywords win."""
    flat = dict(schema)
    if "$ref" in flat:
        name = flat.pop("$ref").removeprefix("#/$defs/")
        return _inline({**definitions[name], **flat}, definitions)
    if "anyOf" in flat:
        options = [option for option in flat.pop("anyOf") if option != {"type": "null"}]
        if len(options) != 1:
            msg = f"a structural schema has no unions: {options}"
            raise ValueError(msg)
        return _inline({**options[0], **flat}, definitions)
    return flat
