"""What a status column can hold, by its type: a literal of another kind is refused by the server.

PostgreSQL answers `status = 'quarantined'` on a smallint with SQLSTATE 22P02, so a word that the
column cannot hold must not stand in any statement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# As format_type writes them; an extension's type may carry its schema.
_TEXTS = frozenset({"text", "character varying", "character", "name", "citext"})
_WHOLE = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_BOOLEANS = ("false", "true")  # as boolean::text writes them
_ONE_BYTE = (
    '"char"'  # PostgreSQL's own type for catalogs: a longer literal is cut to its first byte
)


@dataclass(frozen=True, slots=True)
class Holds:
    """`type` as the catalog names it, of the domain's base type; `allowed` is the whole list that
    an enum or a CHECK constraint permits, None for a column without such a list."""

    type: str
    allowed: tuple[str, ...] | None = None

    @property
    def folded(self) -> bool:
        """Whether words are the same in upper and lower case."""
        return self._name == "citext"

    @property
    def limits(self) -> str:
        """What a column without a list of words can hold, for a message."""
        return "single characters" if self.type == _ONE_BYTE else "numbers, written like 0 or 17"

    def can_hold(self, word: str) -> bool:
        """Whether a row can hold the word, written as the server writes it."""
        if self.allowed is not None and word not in self.allowed:
            return False
        if self.type in _WHOLE:
            # Digits first: Python refuses to read numbers of thousands of digits.
            if len(word) > len(str(2**63)) + 1 or not _WHOLE_NUMBER.fullmatch(word):
                return False
            return -_WHOLE[self.type] <= int(word) < _WHOLE[self.type]
        if self.type == "numeric":
            return _NUMBER.fullmatch(word) is not None
        return len(word.encode()) == 1 if self.type == _ONE_BYTE else True

    def written(self, word: str) -> str:
        """A word of the catalog or of the statistics, as `status::text` writes it in a row: these
        keep the blanks of char(n), and a boolean's first letter alone."""
        if self.type == "character":
            return word.rstrip(" ")
        if self.type == "boolean":
            return next((whole for whole in _BOOLEANS if whole[0] == word), word)
        return word

    @property
    def _name(self) -> str:
        return self.type.rpartition(".")[2]


def holds_of(
    type_name: str, labels: tuple[str, ...], allowed: tuple[str, ...] | None
) -> Holds | None:
    """What a column of that type holds; None for a type that has no words (json, for example)."""
    if labels:
        return Holds(type_name, labels)
    if type_name == "boolean":
        return Holds(type_name, _BOOLEANS)
    name = type_name.rpartition(".")[2]
    if name in _TEXTS or type_name in _WHOLE or type_name in ("numeric", _ONE_BYTE):
        return Holds(type_name, allowed)
    return None
