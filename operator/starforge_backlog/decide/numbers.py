"""Numbers in sentences and in memory."""

from __future__ import annotations


def digits(value: float, count: int) -> float:
    """Rounded to that many significant digits."""
    return float(f"{value:.{count}g}")


def about(value: float) -> str:
    """Two significant digits, written out: 0.35, 6.7, 140."""
    return f"{digits(value, 2):g}"
