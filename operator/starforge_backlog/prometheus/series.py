"""Which series an expression reads, and the question how old they are.

An answer of Prometheus carries the time of the question, not of the samples. Measured with an
exporter that was stopped, and with a Prometheus that was killed and came back without it:

| what happened              | sum(gauge)               | sum(rate(counter[w]))             |
|----------------------------|--------------------------|-----------------------------------|
| one of two targets is down | half of it, at once      | falls to half over w              |
| all targets are down       | empty, at once           | falls to nothing over w and ends  |
| Prometheus scrapes no more | the last value for 5 min | falls to nothing over w and ends  |

So neither a read of `timestamp()` of the answer nor a shorter lookback is enough; each selector of
the expression is asked for its newest sample, for targets of its that are down, for series that
have no target, and whether it answers out of the past alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promql_parser import Expr, Matcher, VectorSelector

# Expressions whose series are remembered: those of a few hundred policies.
MOST_REMEMBERED = 2048
# A target that has been down for longer counts as gone for good; its series are forgotten.
DOWN_FOR = "1h"
# `up` is what the others are held against: where it is itself the question, a 0 is an answer.
UP = "up"

# Labels that need no quotes.
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = {
    "MatchOp.Equal": "=",
    "MatchOp.NotEqual": "!=",
    "MatchOp.Re": "=~",
    "MatchOp.NotRe": "!~",
}
# How the parser's assertions are called.
PANIC = "PanicException"

PART = "starforge_part"
"""The label that separates the parts of the query."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Series that an expression reads, without `offset` and `@`: the question is whether their
    source is alive now."""

    text: str
    range: timedelta | None  # the widest [range] around it; None: only its last value is read
    is_up: bool = False

    @property
    def named(self) -> bool:
        """Whether it is of one metric. Functions over samples drop the metric's name, and
        Prometheus refuses what is then twice the same series."""
        return not self.text.startswith("{") or '__name__="' in self.text


@lru_cache(MOST_REMEMBERED)
def selectors(expression: str) -> tuple[Selector, ...] | None:
    """The series of an expression; None when it is not the PromQL that we know.

    Pure, and cached because an expression is asked with every pass.
    """
    import promql_parser  # noqa: PLC0415 - nobody without a Prometheus pays for it

    try:
        tree: Expr = promql_parser.parse(expression)
    except ValueError:
        return None
    except BaseException as error:
        # The parser's own assertions ("a offset inf") are no Exception and cannot be imported.
        if type(error).__name__ == PANIC:
            return None
        raise
    found: dict[str, Selector] = {}

    def note(vector: VectorSelector, within: timedelta | None) -> None:
        text = _plain(vector)
        before = found.get(text)
        ranges = [r for r in (within, before.range if before else None) if r is not None]
        found[text] = Selector(text, max(ranges, default=None), vector.name == UP)

    # Not the parser's own walk: it copies each node's subtree for every node above it, and 500
    # additions stopped the process for 26 s.
    nodes: list[object] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, promql_parser.MatrixSelector):
            note(node.vector_selector, node.range)
        elif isinstance(node, promql_parser.VectorSelector):
            note(node, None)
        else:
            nodes += _below(node)
    return tuple(found.values())


def _below(node: object) -> Iterator[object]:
    """The parts of an expression, the first one last: `nodes` is a stack."""
    for name in ("param", "rhs", "lhs", "expr"):
        part = getattr(node, name, None)
        if part is not None:
            yield part
    yield from reversed(getattr(node, "args", ()))


def age_question(series: tuple[Selector, ...]) -> str:
    """One query for everything that `judgement.judge` wants to know of these series."""
    parts: list[str] = []
    for number, one in enumerate(series):
        parts.append(_part(f"newest{number}", f"max(timestamp({one.text}))"))
        if one.range is not None:
            window = f"{round(one.range.total_seconds() * 1000)}ms"
            parts.append(_part(f"past{number}", f"count(present_over_time({one.text}[{window}]))"))
        if not one.is_up:
            down = f"{UP} == 0 and on (job, instance) present_over_time({one.text}[{DOWN_FOR}])"
            parts.append(_part(f"down{number}", f"count({down})"))
            # Samples of a recording rule, or pushed ones, have no target that could be down.
            alone = f"{one.text} unless on (job, instance) {UP}"
            parts.append(_part(f"alone{number}", f"count({alone})"))
    return " or ".join(parts)


def _part(name: str, expression: str) -> str:
    return f'label_replace({expression}, "{PART}", "{name}", "", "")'


def _plain(vector: VectorSelector) -> str:
    """The selector as Prometheus reads it. Not the parser's own text: that leaves values as they
    are between the quotes, and a regular expression's backslash became an escape that is none."""
    matchers = vector.matchers
    groups = [_matchers(matchers.matchers), *map(_matchers, matchers.or_matchers)]
    inside = " or ".join(group for group in groups if group)
    return f"{vector.name or ''}{f'{{{inside}}}' if inside else ''}"


def _matchers(group: Sequence[Matcher]) -> str:
    return ",".join(
        f"{_label(one.name)}{_OPERATORS[str(one.op)]}{_quoted(one.value)}" for one in group
    )


def _label(name: str) -> str:
    """Prometheus 3 takes any text as the name of a label, in quotes."""
    return name if LABEL.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    """PromQL's strings have Go's escapes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
