"""Numbers in sentences and in memory."""

from __future__ import annotations


def digits(value: float, count: int) -> float:
    """Rounded to that many significant digits."""
    return float(f"{value:.{count}g}")


def steady(value: int) -> int:
    """Two significant digits, for a text of a status: one that changes with each reading would be
    a write with each pass (P7)."""
    return int(digits(value, 2))


def about(value: float) -> str:
    """Two significant digits, written out: 0.35, 6.7, 140."""
    return f"{digits(value, 2):g}"
