"""Compactions, and summaries from a log, as lines of spans."""

from __future__ import annotations

from sessionscope.store import Archived, Certainty, Compaction

from . import glyphs
from .clock import ago, human
from .fitting import Span, between, fit, fit_each, one_line


def compaction_lines(compaction: Compaction, width: int) -> tuple[list[Span], list[Span], list[Span]]:
    """Return a compaction in three lines: span and note; rows and tokens; the saving or an anomaly."""
    style = "compacted" if compaction.undone else "note"
    title: list[Span] = [(f" {glyphs.NOTE}{compaction.number} ", style), (_span(compaction), "strong")]
    age: list[Span] = [(f" {ago(compaction.created_at)} ", "dim")]
    if compaction.anomalies:
        more = len(compaction.anomalies) - 1
        anomaly = compaction.anomalies[0] + (f", +{more}" if more else "")
        second: Span = (f"   {_rows(compaction)} · {tokens(compaction)}", "")
        third: Span = (f"   {glyphs.DAMAGE} {anomaly}", "damage")
    else:
        in_round = f" · round {compaction.round_index}" if compaction.round_index is not None else ""
        second = (f"   {_rows(compaction)}{in_round}", "")
        third = (f"   {tokens(compaction)}", "dim")
    return between(title, age, width), fit_each([second], width), fit_each([third], width)


def _span(compaction: Compaction) -> str:
    """Return the seqs that were compacted, and what they became."""
    without_row = compaction.note is not None and compaction.note_seq is None
    into = "summary" if without_row else _seq(compaction.note_seq)
    if compaction.from_seq is None and compaction.note is not None:
        return f"gone rows → {into}"
    return f"{_seq(compaction.from_seq)}-{_seq(compaction.to_seq)} → {into}"


def _rows(compaction: Compaction) -> str:
    """Return how many rows were compacted, and how that is known."""
    if compaction.undone:
        return "undone"
    known = "" if compaction.set_is is Certainty.UNKNOWN else f" {compaction.set_is}"
    if compaction.rows is None:
        return f"rows unknown{known}"
    return f"{compaction.rows} row{'' if compaction.rows == 1 else 's'}{known}"


def archived_lines(entry: Archived, source: str, width: int) -> tuple[list[Span], list[Span], list[Span]]:
    """Return a summary from the log in three lines: number and age, its first words, whose it is."""
    name = f" {glyphs.LOG} {entry.number if entry.number is not None else '?'} "
    whose = "   of this session" if entry.of_this_session else "   of which session is not said"
    last: list[Span] = (
        [(f"   {glyphs.DAMAGE} {one_line(entry.damage[0])}", "damage")] if entry.damage else [(whose, "dim")]
    )
    return (
        between([(name, "accent"), (one_line(source), "dim")], [(f" {ago(entry.created_at)} ", "dim")], width),
        [(fit(f"   {one_line(entry.text)}", width), "")],
        fit_each(last, width),
    )


def _seq(seq: int | None) -> str:
    return "?" if seq is None else str(seq)


def tokens(compaction: Compaction) -> str:
    """Return tokens before and after, what that saves, and how it is known."""
    if compaction.before_tokens is None and compaction.after_tokens is None:
        return "tokens unknown"
    text = f"{human(compaction.before_tokens)} → {human(compaction.after_tokens)}"
    if compaction.before_tokens and compaction.after_tokens is not None:
        text += f" {saving(compaction.before_tokens, compaction.after_tokens)}"
    return f"{text} {compaction.tokens_are}"


def saving(before: int, after: int) -> str:
    """Return a change of tokens in percent."""
    saved = round(100 * (before - after) / before)
    return f"saves {saved}%" if saved >= 0 else f"costs {-saved}%"
