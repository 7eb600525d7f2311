"""The result of one check: a finding, and the edits that repair it. Pure.

Severity follows power-loop: an error is what it cannot load, append to, or keep in the context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from sessionscope.store.model.findings import KEEP, Choice, Finding, Severity
from sessionscope.store.model.rows import Spot

from .edits import Edit


class CheckResult(Struct, frozen=True):
    """A finding, with the edits of its safe fix under "" and those of each choice under its name."""

    finding: Finding
    edits: Mapping[str, tuple[Edit, ...]] = {}


def check_result(
    code: str,
    severity: Severity,
    place: Spot,
    message: str,
    fix: str = "",
    edits: Sequence[Edit] = (),
    choices: Mapping[Choice, Sequence[Edit]] | None = None,
) -> CheckResult:
    """Return a result that has a safe fix, choices (and that of keeping all as it is), or neither."""
    offered = choices or {}
    by_name = {choice.name: tuple(some) for choice, some in offered.items()}
    return CheckResult(
        Finding(code, severity, place, message, fix, (KEEP, *offered) if offered else ()),
        by_name | ({"": tuple(edits)} if fix else {}),
    )


def count_rows(many: int) -> str:
    """Return a number of rows in words."""
    return "1 row" if many == 1 else f"{many:,} rows"


def named_seqs(runs: Sequence[tuple[int, int]]) -> str:
    """Return runs of seqs, each as its first and last seq, in words. Of many, only the first are named."""
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs[:6]]
    return ", ".join([*shown, "…"] if len(runs) > 6 else shown)
