"""A line of the report, and how lines are printed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Line(NamedTuple):
    """One figure. `judged` may be at most `target`; without one it only informs."""

    what: str
    measured: str
    judged: float
    target: float | None = None
    unit: str = "x"


def show(title: str, lines: Iterable[Line]) -> bool:
    """Prints a section line by line; whether every target in it is met."""
    print(f"\n{title}\n{'':<44}{'measured':>40}{'judged':>12}{'target':>10}", flush=True)
    met = True
    for what, measured, judged, target, unit in lines:
        digits = {"x": 2, " ms": 1}.get(unit, 0)
        wanted = "" if target is None else f"{f'{target:g}{unit}':>10}  {'ok' if judged <= target else 'MISSED'}"
        met &= target is None or judged <= target
        print(f"{what:<44}{measured:>40}{f'{judged:.{digits}f}{unit}':>12}{wanted}", flush=True)
    return met
