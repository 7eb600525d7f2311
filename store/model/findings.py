"""Findings of a doctor, and their repairs: one vocabulary for every archive. Pure.

A finding with a safe `fix` is repaired on request. One with `choices` needs a choice by the user. One with neither is
only reported. The doctor yields findings; a repair plans those that are wanted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from .errors import Misused
from .rows import Spot


class Severity(StrEnum):
    """How bad a finding is.

    An error loses something or breaks it. A warning is wrong but works. Information is only worth knowing.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Choice(Struct, frozen=True):
    """One option for a finding. The first of several is the default and changes nothing."""

    name: str
    about: str


UNREADABLE = "unreadable"
"""The code of a finding about a session or file that cannot be read."""


class Finding(Struct, frozen=True):
    """One thing that is wrong or unusual.

    `message` is a sentence, and so is `fix`: what a repair would do, empty for nothing.
    """

    code: str
    severity: Severity
    spot: Spot
    message: str
    fix: str = ""
    choices: tuple[Choice, ...] = ()
    salvage: bool = False
    """Whether a salvage may save what can still be read."""

    @property
    def fixable(self) -> bool:
        """Whether a repair needs no choice by the user."""
        return bool(self.fix)


class Change(Struct, frozen=True):
    """A line of a diff: the value before and after, as shown to people. None if it does not exist yet, or no longer.

    Both are cut to `SHOWN` characters.
    """

    spot: Spot
    what: str
    before: str | None
    after: str | None


SHOWN = 500
KEEP = Choice("keep", "leave it as it is")
_BY_WEIGHT = list(Severity)


def cut(text: str) -> str:
    """Cut a text to the length of a `Change`."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def worst(findings: Iterable[Finding]) -> Severity | None:
    """Return the worst severity among findings, None without any."""
    return min((finding.severity for finding in findings), key=_BY_WEIGHT.index, default=None)


def reasons(taken: Iterable[tuple[Finding, str]]) -> list[str]:
    """Return what a repair of findings with the choices made does, one sentence each, with how often."""
    counts: Counter[str] = Counter()
    for finding, name in taken:
        said = next(one.about for one in finding.choices if one.name == name) if name else finding.fix
        counts[f"{finding.code}: {said}"] += 1
    return [text if many == 1 else f"{text} ({many:,} times)" for text, many in counts.items()]


def wanted(
    findings: Iterable[Finding],
    only: Iterable[str] = (),
    choose: Mapping[str, str] | None = None,
    spot: Spot | None = None,
) -> list[tuple[Finding, str]]:
    """Return the findings that a repair would fix, each with the choice made, empty for its safe fix.

    `only` names codes; without any, all are included. `choose` maps codes to names of choices. `spot` selects one
    finding. Raises Misused if a code is not found, or has no such choice.
    """
    remaining, codes, choices = list(findings), set(only), dict(choose or {})
    there = {finding.code for finding in remaining}
    if unknown := sorted((codes | choices.keys()) - there):
        known = ", ".join(sorted(there)) or "nothing"
        raise Misused(f"{', '.join(unknown)} was not found here; the doctor found {known}.")
    for code, name in choices.items():
        offered = sorted({choice.name for finding in remaining if finding.code == code for choice in finding.choices})
        if name not in offered:
            raise Misused(f"{code} offers {' or '.join(offered) if offered else 'no choice'}, not {name!r}.")
    taken: list[tuple[Finding, str]] = []
    for finding in remaining:
        chosen = choices.get(finding.code, "")
        offered = [choice.name for choice in finding.choices]
        if (codes and finding.code not in codes | choices.keys()) or (spot is not None and finding.spot != spot):
            continue
        if chosen in offered[1:]:
            taken.append((finding, chosen))
        elif finding.fixable and (not codes or finding.code in codes):
            taken.append((finding, ""))
    return taken
