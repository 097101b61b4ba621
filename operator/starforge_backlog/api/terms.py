"""The vocabulary of a spec: numbers, names and lists with the bounds the API server holds.

Everything has an upper bound, even where no reason but size exists: the API server estimates the
cost of each CEL rule from the largest value that the schema allows, and refuses a CRD whose rules
could become expensive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from starforge_backlog.api.base import DURATION_PATTERN
from starforge_backlog.api.rules import RULES, Rule

# A duration's bounds in words, for descriptions and the reference; not part of the CRD.
SPAN: Final = "x-span"
LIST_TYPE: Final = "x-kubernetes-list-type"
MAP_KEYS: Final = "x-kubernetes-list-map-keys"


@dataclass(frozen=True, eq=False)  # by identity: `Annotated[…] | None` wants it hashable
class Schema:
    """Adds keywords and rules to a type's JSON schema, and nothing to its validation in Python."""

    keywords: dict[str, Any] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Called by pydantic while it writes the JSON schema."""
        schema = {**handler(core), **self.keywords}
        if self.rules:
            schema[RULES] = [*schema.get(RULES, ()), *(rule.as_schema() for rule in self.rules)]
        return schema


def whole(least: int, most: int) -> Schema:
    """A whole number from `least` to `most`."""
    return Schema({"minimum": least, "maximum": most, "format": "int32"})


def span(least: str, most: str) -> Schema:
    """A duration from `least` to `most`."""
    rule = (
        f"size(self) > 1 && self.matches('{DURATION_PATTERN}')"
        f" && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
    )
    message = f"must be a duration from {least} to {most}, written like 90s, 15m or 1h30m"
    return Schema({SPAN: [least, most]}, (Rule(rule, message),))


def words(most: int, *, least: int = 0) -> Schema:
    """A list without repetitions, at most `most` long. Owners of a set can be several appliers."""
    return Schema({"maxItems": most, LIST_TYPE: "set"} | ({"minItems": least} if least else {}))


def ordered(least: int, most: int) -> Schema:
    """A list whose order counts."""
    return Schema({"minItems": least, "maxItems": most, LIST_TYPE: "atomic"})


def replaced(most: int) -> Schema:
    """A list of a status: it is written as a whole, and has one writer."""
    return Schema({"maxItems": most, LIST_TYPE: "atomic"})


def named(most: int, *, least: int = 0) -> Schema:
    """A list of objects that are distinguished by `name`; the same name twice is refused."""
    return keyed("name", most, least=least)


def keyed(key: str, most: int, *, least: int = 0) -> Schema:
    """A list of objects that are distinguished by a field."""
    return Schema(
        {"maxItems": most, LIST_TYPE: "map", MAP_KEYS: [key]}
        | ({"minItems": least} if least else {})
    )


def _text(most: int, *given: Rule) -> Schema:
    return Schema({"minLength": 1, "maxLength": most}, given)


def _matching(pattern: str, most: int, message: str) -> Schema:
    return _text(most, Rule(f"self.matches('{pattern}')", message))


# PostgreSQL cuts identifiers after 63 bytes (NAMEDATALEN − 1).
IDENTIFIER_LENGTH: Final = 63
_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"

Identifier = Annotated[
    str,
    _matching(
        f"^{_IDENTIFIER}$",
        IDENTIFIER_LENGTH,
        "must be a plain SQL identifier: letters, digits and underscores, no digit first,"
        " written as in the catalog and without quotes",
    ),
]
TableName = Annotated[
    str,
    _matching(
        f"^({_IDENTIFIER}[.])?{_IDENTIFIER}$",
        2 * IDENTIFIER_LENGTH + 1,
        "must be a table like queue_jobs or app.queue_jobs: plain SQL identifiers, without quotes",
    ),
]
# Roles are often named like services ("etl-worker"), so a role is compared, never spliced in.
RoleName = Annotated[str, _text(IDENTIFIER_LENGTH)]
# Words that an application stores: status words, job types, flag names. Parameters, never SQL.
StatusWord = Annotated[str, _text(63)]
JobType = Annotated[str, _text(100)]
FlagName = Annotated[str, _text(200)]

# RFC 1123, as the API server itself checks names (apimachinery/pkg/util/validation).
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
LABEL_LENGTH: Final = 63

Name = Annotated[
    str,
    _matching(
        f"^{_LABEL}$",
        LABEL_LENGTH,
        "must be a name of lower-case letters, digits and '-', with no '-' at either end",
    ),
]
ObjectName = Annotated[
    str,
    _matching(
        f"^{_LABEL}([.]{_LABEL})*$",
        253,
        "must be the name of a Kubernetes object: lower-case letters, digits, '-' and '.'",
    ),
]
SecretKey = Annotated[
    str,
    _matching(
        "^[-._a-zA-Z0-9]+$",
        253,
        "must be a key of the Secret's data: letters, digits, '-', '_' and '.'",
    ),
]
EnvName = Annotated[
    str,
    _matching(
        "^[-._a-zA-Z][-._a-zA-Z0-9]*$",
        253,
        "must be the name of an environment variable: letters, digits, '_', '-' and '.',"
        " no digit first",
    ),
]
Kind = Annotated[
    str, _matching("^[A-Z][A-Za-z0-9]*$", 63, "must be a kind like Deployment or StatefulSet")
]
ApiVersion = Annotated[
    str,
    _matching(
        f"^({_LABEL}([.]{_LABEL})*/)?v[0-9]+((alpha|beta)[0-9]+)?$",
        253 + len("/v1alpha1"),
        "must be a group and version like apps/v1",
    ),
]
# A key and a value of a ConfigMap's data.
ConfigKey = Annotated[
    str,
    _matching(
        "^[-._a-zA-Z0-9]+$",
        253,
        "must be a key of the ConfigMap's data: letters, digits, '-', '_' and '.'",
    ),
]
ConfigValue = Annotated[str, _text(1024)]
# PromQL is read by Prometheus alone: a parse error is reported at the first pass, in its words.
Expression = Annotated[str, _text(2048)]
Label = Annotated[str, _text(253)]
# Secrets only by reference: a password in an address would stand in every listing.
HttpUrl = Annotated[
    str,
    _matching(
        "^https?://[^/?#@[:space:]]+(/[^?#@[:space:]]*)?$",
        1024,
        "must be an address like http://host:9090 or https://host/path, without user, password,"
        " query or fragment: logins are given by reference to a Secret",
    ),
]
# BullMQ 5 and 6 throw "Queue name cannot contain :"; a key of ours must not end in another queue.
BullName = Annotated[
    str,
    _matching(
        "^[^:[:space:]]+$",
        253,
        "must be a BullMQ queue name: no ':' (BullMQ refuses it; the documented etl:snapshots is"
        " etl-snapshots in practice) and no blanks",
    ),
]
BullPrefix = Annotated[
    str, _matching("^[^[:space:]]+$", 253, "must be a key prefix without blanks")
]
CONTACT_LENGTH: Final = 253
Contact = Annotated[str, _text(CONTACT_LENGTH)]
