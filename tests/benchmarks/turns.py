"""Runs what is compared in turns, and writes down what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median


def in_turns(works: Sequence[Callable[[], float]], rounds: int) -> list[float]:
    """The median of each; the first round does not count."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for at in sorted(range(len(works)), reverse=number % 2 == 1):
            times[at].append(works[at]())
    return [median(some[1:]) for some in times]


def both(ours: float, other: float, calls: int = 0) -> str:
    """Two times in milliseconds side by side, or of one call in microseconds."""
    scale, unit = (1e3 / calls, "us") if calls else (1, "ms")
    return f"{short(ours * scale)} / {short(other * scale)} {unit}"


def short(number: float) -> str:
    """A number in about three digits."""
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f}"
