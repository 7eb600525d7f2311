"""What a doctor's check gives: a finding, and the edits that put it right. Pure.

Severity follows what the real package does with it: an error is what it cannot load, append to or keep in context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from sessionscope.store.model.findings import KEEP, Choice, Finding, Severity
from sessionscope.store.model.rows import Spot

from .edits import Edit


class Ailment(Struct, frozen=True):
    """A finding, and the edits for its safe fix (under "") or for each of its choices."""

    finding: Finding
    edits: Mapping[str, tuple[Edit, ...]] = {}


def ailment(
    code: str,
    severity: Severity,
    place: Spot,
    message: str,
    fix: str = "",
    edits: Sequence[Edit] = (),
    choices: Mapping[Choice, Sequence[Edit]] | None = None,
) -> Ailment:
    """One that has a safe fix, choices beside that of leaving it, or neither."""
    offered = choices or {}
    by_name = {choice.name: tuple(some) for choice, some in offered.items()}
    return Ailment(
        Finding(code, severity, place, message, fix, (KEEP, *offered) if offered else ()),
        by_name | ({"": tuple(edits)} if fix else {}),
    )


def count_rows(many: int) -> str:
    """Return a number of rows in words."""
    return "1 row" if many == 1 else f"{many:,} rows"


def named_seqs(runs: Sequence[tuple[int, int]]) -> str:
    """Return runs of seqs, each as its first and last seq, in words; of many only the first."""
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs[:6]]
    return ", ".join([*shown, "…"] if len(runs) > 6 else shown)
