"""Messages as lines of a timeline."""

from __future__ import annotations

from rich.cells import cell_len

from sessionscope.store import State, TimelineRow

from . import glyphs
from .clock import human
from .fitting import Span, between, fit, one_line

ROLES = {"user": "user", "assistant": "agent", "tool": "tool", "system": "sys"}
ROLE_STYLES = {"user": "title", "assistant": "strong"}
ROLE_CELLS = 5
"""How many cells the column of roles has."""
SIZE_CELLS = 4
"""How many cells the column of sizes has."""
SIZE_FROM = 40
"""From how many cells on the size is shown."""
LABEL_FROM = 64
"""From how many cells on labels have a column."""
LABEL_CELLS = 9
WIDE_LABEL_FROM = 92
"""From how many cells on the column of labels is wider."""
WIDE_LABEL_CELLS = 12


def message_line(
    row: TimelineRow, width: int, digits: int, last_of_pair: bool, unanswered: bool, marked: bool = False
) -> list[Span]:
    """Return a message in one line: seq, state, pair, role, round or tool, first words, size.

    `digits` is the width of the column of seqs. `last_of_pair` says that it is the last result of its calls.
    """
    mark: Span = (glyphs.RANGE if marked else " ", "note")
    if row.hole is not None:
        return _hole_line(row.hole, width, digits, mark)
    compacted = row.state not in (State.ACTIVE, "")
    body, faint = ("compacted", "compacted") if compacted else ("", "dim")
    left: list[Span] = [
        (f"{_number(row):>{digits}}", faint),
        mark,
        _state_glyph(row),
        (_call_bracket(row, last_of_pair), "dim"),
        _role(row, body),
        *_label_column(row, width, compacted),
        *_damage(row, width),
    ]
    if row.tools:
        left.append((f"{', '.join(one_line(tool) for tool in row.tools)} ", body or "accent"))
    if unanswered:
        left.append(("⚠ unanswered ", "damage"))
    left.append((one_line(row.head), body))
    right = [(f" {human(row.size):>{SIZE_CELLS}} ", faint)] if width >= SIZE_FROM else []
    return between(left, right, width)


def _hole_line(hole: tuple[int, int], width: int, digits: int, mark: Span) -> list[Span]:
    """Return missing rows as one line."""
    first, last = hole
    words = f" {last - first + 1} rows are gone, {first} to {last} " if last > first else f" row {first} is gone "
    line = fit(f"┄┄{words}" + "┄" * width, width - digits - 2)
    return [(" " * digits, ""), mark, (line, "hole")]


def _number(row: TimelineRow) -> str:
    """Return the seq or, for damage, the line of the file."""
    if row.seq is not None:
        return str(row.seq)
    return f"L{row.line}" if row.line is not None else "?"


def _state_glyph(row: TimelineRow) -> Span:
    if row.damage:
        return glyphs.DAMAGE, "damage"
    if row.note is not None:
        return (glyphs.NOTE, "note") if row.state == State.ACTIVE else (glyphs.COMPACTED_NOTE, "compacted")
    if not row.state:
        return " ", "dim"
    if row.state not in glyphs.STATES:
        return glyphs.UNKNOWN_STATE, "damage"
    state = State(row.state)
    style = {State.ACTIVE: "title", State.DROPPED: "damage"}.get(state, "compacted")
    return glyphs.STATES[state], style


def _call_bracket(row: TimelineRow, last_of_pair: bool) -> str:
    """Return the bracket that connects calls with their results."""
    if row.calls:
        return "╭"
    if row.role != "tool":
        return " "
    return "╰" if last_of_pair else "├"


def _role(row: TimelineRow, body: str) -> Span:
    # A role is free text in the file, so a hostile one must not widen its column.
    role = fit(one_line(ROLES.get(row.role, row.role)), ROLE_CELLS)
    if row.note is not None:
        return f"{role} ", "note"
    return f"{role} ", body or ROLE_STYLES.get(row.role, "dim")


def _label_column(row: TimelineRow, width: int, compacted: bool) -> list[Span]:
    """Return the column with the span of a note, the tool, or the round; on a narrow screen only a real label."""
    if width >= LABEL_FROM:
        label = fit(_label(row), WIDE_LABEL_CELLS if width >= WIDE_LABEL_FROM else LABEL_CELLS)
        if row.note is not None:
            return [(f"{label} ", "note")]
        return [(f"{label} ", "compacted" if compacted else "dim")]
    if row.label:
        return [(f"{one_line(row.label)} ", "compacted" if compacted else "accent")]
    return []


def _label(row: TimelineRow) -> str:
    if row.label:
        return one_line(row.label)
    if row.note is not None:
        if row.note.from_seq is None or row.note.to_seq is None:
            return "note"
        return f"{row.note.from_seq}-{row.note.to_seq}"
    if row.name and row.role != "assistant":
        return one_line(row.name)
    return f"r{row.round_index}" if row.round_index is not None else ""


def _damage(row: TimelineRow, width: int) -> list[Span]:
    """Return what is wrong with a message. If it has text, that leaves room for it."""
    spans: list[Span] = []
    for damage in row.damage:
        # The line number is shown instead of the seq already.
        words = one_line(damage.removeprefix(f"line {row.line}: "))
        if row.head and cell_len(words) > width // 3:
            words = fit(words, width // 3).rstrip()
        spans.append((f"{glyphs.DAMAGE} {words} ", "damage"))
    return spans
