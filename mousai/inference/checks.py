"""Numbers that a caller passes: each is checked before any work, and an error names the argument (ours)."""

from math import inf, isfinite
from operator import index
from typing import Any


def shown(value: Any) -> str:
    """A value in an error, on one line and short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}..."


def number(name: str, value: Any, low: float = -inf, high: float = inf, mend: str = "choose a number") -> float:
    """The value as a finite number from `low` to `high`. Raises ValueError, which ends with `mend`, also for a text."""
    try:
        found = inf if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last one is torch's, of several numbers
        found = inf
    if isfinite(found) and low <= found <= high:
        return found
    raise ValueError(f"{name} is {shown(value)}: {mend}")


def whole(name: str, value: Any, low: int, high: int) -> int:
    """The value as an integer from `low` to `high`. Raises ValueError."""
    try:
        found = index(value)
    except TypeError:  # also torch's, of several numbers
        found = low - 1
    if low <= found <= high:
        return found
    raise ValueError(f"{name} is {shown(value)}: choose a whole number from {low} to {high}")
