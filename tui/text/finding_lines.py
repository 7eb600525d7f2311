"""Findings of the doctor as lines of spans."""

from __future__ import annotations

from sessionscope.store import Finding, Spot

from . import glyphs
from .fitting import Span, between, fit, one_line

CODE_CELLS = 24
"""How many cells the column of codes has."""
COLUMNS_FROM = 64
"""From how many cells on the codes are in a column."""
MESSAGE_FROM = 92
"""From how many cells on there is room for the message."""


def finding_line(finding: Finding, session: str, width: int) -> list[Span]:
    """Return a finding in one line: severity, code, place, and whether anything can be done."""
    glyph, style = glyphs.SEVERITIES[finding.severity]
    left: list[Span] = [(f" {glyph} ", style)]
    where = place_words(finding.spot)
    if width >= COLUMNS_FROM:
        left += [(fit(finding.code, CODE_CELLS), "strong"), (" ", "")]
    else:
        left.append((f"{finding.code}  ", "strong"))
    left += [(f"{one_line(session)} ", "")] if session else []
    left += [(f"{where} ", "dim")] if where else []
    left.append((one_line(finding.message) if width >= MESSAGE_FROM else "", "dim"))
    can = "repair " if finding.fixable else "choose " if finding.choices else ""
    return between(left, [(can, "accent")], width)


def place_words(spot: Spot) -> str:
    """Return where in its session, or in which file, something is."""
    if spot.seq is not None:
        return f"#{spot.seq}"
    if spot.line is not None:
        return f"line {spot.line}"
    return one_line(spot.file) if spot.file is not None and spot.session is None else ""
