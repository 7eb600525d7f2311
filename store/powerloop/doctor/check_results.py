"""The result of one check: a finding, and the edits that repair it. Pure.

Severity follows power-loop: an error is damage because of which it cannot load something, append to it, or keep it in
the context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from sessionscope.store.model.findings import KEEP, Choice, Finding, Severity
from sessionscope.store.model.rows import Spot

from .edits import Edit

SHOWN_RUNS = 6
"""How many runs of seqs a finding names."""


class CheckResult(Struct, frozen=True):
    """A finding with the edits of each way to repair it."""

    finding: Finding
    edits: Mapping[str, tuple[Edit, ...]] = {}
    """The edits of each choice by its name, and those of the safe fix under ""."""


def check_result(
    code: str,
    severity: Severity,
    place: Spot,
    message: str,
    fix: str = "",
    edits: Sequence[Edit] = (),
    choices: Mapping[Choice, Sequence[Edit]] | None = None,
) -> CheckResult:
    """Return a result with a safe fix (`fix` and its `edits`), with `choices` and their edits, or with neither.

    The choice to keep everything as it is comes first and need not be given.
    """
    offered = choices or {}
    edits_by_name = {choice.name: tuple(choice_edits) for choice, choice_edits in offered.items()}
    if fix:
        edits_by_name[""] = tuple(edits)
    finding = Finding(code, severity, place, message, fix, (KEEP, *offered) if offered else ())
    return CheckResult(finding, edits_by_name)


def count_rows(count: int) -> str:
    """Return a number of rows in words."""
    return "1 row" if count == 1 else f"{count:,} rows"


def named_seqs(runs: Sequence[tuple[int, int]]) -> str:
    """Return the first SHOWN_RUNS runs of seqs in words, such as "3, 5-8", with "…" if there are more."""
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs[:SHOWN_RUNS]]
    if len(runs) > SHOWN_RUNS:
        shown.append("…")
    return ", ".join(shown)
