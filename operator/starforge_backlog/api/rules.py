"""Rules that the API server enforces, written beside the model they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic.config import JsonDict

# The reasons the API server knows for a refused value (apiextensions/v1 FieldValueErrorReason).
# There is a fourth, FieldValueDuplicate, whose answer leaves the message out.
Reason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]

RULES = "x-kubernetes-validations"

# An object that appliers own as a whole: one whose presence means something and that may be `{}`.
# Field by field, server-side apply drops it, or makes it null, when `{}` is applied after another
# client who had more in it. A client-side apply always had: it counts as the owner of all defaults
# (kubernetes#135841).
MAP_TYPE = "x-kubernetes-map-type"
WHOLE: JsonDict = {MAP_TYPE: "atomic"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One CEL rule. `message` names the field and says how to fix it.

    Messages are constant: an expression that would list the names that do exist costs more than
    the API server allows a rule, because it cannot bound the length of a joined text.
    """

    rule: str
    message: str
    path: str | None = None  # the field the error is reported at, relative to the model
    reason: Reason = "FieldValueInvalid"

    def as_schema(self) -> JsonDict:
        """The rule as an entry of `x-kubernetes-validations`."""
        entry: JsonDict = {"rule": self.rule, "message": self.message}
        if self.path is not None:
            entry["fieldPath"] = self.path
        if self.reason != "FieldValueInvalid":
            entry["reason"] = self.reason
        return entry


def rules(*given: Rule, whole: bool = False) -> JsonDict:
    """For a model's `json_schema_extra`: its rules, and whether appliers own it as a whole."""
    return {**(WHOLE if whole else {}), RULES: [rule.as_schema() for rule in given]}


def exactly_one(*fields: str) -> str:
    """CEL: exactly one of the fields is given."""
    return f"[{', '.join(f'has(self.{field})' for field in fields)}].filter(x, x).size() == 1"
