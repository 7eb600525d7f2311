"""What the headless verbs print for people: lines of visible text, never an escape sequence."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from sessionscope.store import Archived, ArchiveInfo, Compaction, Message, Place, State, TimelineRow, ToolCall
from sessionscope.tui.text.clock import ago, human, moment
from sessionscope.tui.text.visible import visible

from .reading import SessionNode
from .records import dumps

TITLE_CELLS = 58
"""Cells of the column of titles."""
ID_CELLS = 44
"""Cells of the column of ids, at most."""
DEEPEST = 16
"""How deep sessions are indented at most."""
_PLACES = {Place.ORPHAN: "! orphan · ", Place.SURVIVOR: "↥ survivor · ", Place.CYCLE: "↻ cycle · "}
_DAMAGE = "‼"
_NOTE = "◆"
_LOG = "▤"
_JOINER = "\u200d"


def one_line(text: str) -> str:
    """Return text as a single visible line."""
    return visible(" ".join(text.split()))


def _widths(text: str) -> Iterator[int]:
    """Yield the terminal cells that each character of a visible text takes."""
    joined = False
    for char in text:
        if char == _JOINER or joined or unicodedata.category(char) in ("Mn", "Me", "Cf"):
            yield 0
        else:
            yield 2 if unicodedata.east_asian_width(char) in "WF" else 1
        joined = char == _JOINER


def cells(text: str) -> int:
    """Return how many terminal cells a visible text takes."""
    return len(text) if text.isascii() else sum(_widths(text))


def fit(text: str, width: int) -> str:
    """Return a visible text in exactly `width` cells, cut with an ellipsis if it is longer."""
    if cells(text) > width:
        room, kept = width - 1, 0
        for size in _widths(text):
            if size > room:
                break
            room -= size
            kept += 1
        text = text[:kept] + "…"
    return pad(text, width)


def pad(text: str, width: int) -> str:
    """Return a visible text in at least `width` cells."""
    return text + " " * (width - cells(text))


def _title(node: SessionNode) -> str:
    return one_line(node.summary.title or node.summary.preview or "(empty)")


def _damage(damage: tuple[str, ...]) -> str:
    return f"{_DAMAGE} {one_line('; '.join(damage))} " if damage else ""


# -- sessions


def archive(info: ArchiveInfo, sessions: int) -> Iterator[str]:
    """Yield the line above an archive's sessions, and what to know before trusting them."""
    yield f"{one_line(info.name)} · {one_line(info.format)} · {sessions} session{'s' if sessions != 1 else ''}"
    if info.warning:
        yield f"{_DAMAGE} {one_line(info.warning)}"


def group(name: str) -> str:
    """Return the line above the sessions of a group."""
    return f"▾ {one_line(name)}"


def branch(node: SessionNode, grouped: bool = False) -> str:
    """Return a session as a line of the tree, indented further if it is below the line of its group."""
    summary = node.summary
    kind = summary.lifecycle if summary.kind == "subagent" else "" if summary.kind == "root" else summary.kind
    words = _PLACES.get(node.place, "") + ("archived · " if summary.status == "archived" else "")
    words += f"{one_line(kind)} · " if kind else ""
    label = (
        f"{'  ' * min(node.depth + grouped, DEEPEST)}{'▾' if node.children else '•'} {_damage(summary.damage)}{words}"
    )
    compactions = f"{_NOTE}{summary.compaction_count}" if summary.compaction_count else ""
    rows = "row " if summary.message_count.value == 1 else "rows"
    return (
        f"{fit(label + _title(node), TITLE_CELLS)} {summary.message_count!s:>6} {rows} "
        f"{summary.active_count!s:>6} active {compactions:>3} {ago(summary.updated_at):>4}"
    ).rstrip()


def sessions_head(width: int) -> str:
    """Return the column heads for `session`."""
    return f"{'SESSION':<{width}}  {'KIND':<9}  {'STATUS':<8}  {'ROWS':>7}  {'ACTIVE':>7}  {'FOLDS':>5}  {'':>4}  TITLE"


def session(node: SessionNode, width: int, qualified: bool) -> str:
    """Return a session as a line of a table, its id (or its ref if `qualified`) indented by depth."""
    summary = node.summary
    name = visible(str(summary.ref) if qualified else summary.ref.id)
    kind = summary.lifecycle if summary.kind == "subagent" else summary.kind
    note = _damage(summary.damage) + _PLACES.get(node.place, "")
    return (
        f"{pad('  ' * min(node.depth, DEEPEST) + name, width)}  {pad(one_line(kind), 9)}  "
        f"{pad(one_line(summary.status), 8)}  {summary.message_count!s:>7}  {summary.active_count!s:>7}  "
        f"{summary.compaction_count:>5}  {ago(summary.updated_at):>4}  {note}{_title(node)}"
    )


# -- messages


def message(row: TimelineRow, pieces: Iterator[Message]) -> Iterator[str]:
    """Yield a message as a line of its own, and its content below, indented, as it comes in pieces."""
    if row.hole is not None:
        first, last = row.hole
        yield f"┄┄ rows {first} to {last} are gone\n" if first < last else f"┄┄ row {first} is gone\n"
        return
    yield f"{_head(row)}\n"
    damage = list(row.damage)
    calls: list[ToolCall] = []
    yield from _body(pieces, calls, damage)
    for call in calls:
        yield f"    → {_call(call)}\n"
    for what in damage:
        yield f"    {_DAMAGE} {one_line(what)}\n"


def _head(row: TimelineRow) -> str:
    number = row.seq if row.seq is not None else f"line {row.line}" if row.line is not None else row.row
    words = [f"#{number}", one_line(row.role), one_line(row.name or ""), one_line(row.label)]
    if row.note is not None:
        words.insert(1, _NOTE)
    if row.round_index is not None:
        words.append(f"round {row.round_index}")
    if row.state != State.ACTIVE:
        words.append(f"({one_line(row.state)})")
    if row.tool_call_id:
        words.append(f"← {one_line(row.tool_call_id)}")
    if row.created_at is not None:
        words.append(f"· {moment(row.created_at)}")
    return " ".join(word for word in words if word)


def _body(pieces: Iterator[Message], calls: list[ToolCall], damage: list[str]) -> Iterator[str]:
    """Yield the content with each line indented. Collect the calls, and what is wrong with any piece."""
    fresh = True
    for piece in pieces:
        calls[:] = calls or piece.tool_calls
        damage += [what for what in piece.damage if what not in damage]
        text = piece.content or ""
        if piece.parts is not None:
            text = "\n".join(part["text"] if _is_text(part) else dumps(part, ascii_only=False) for part in piece.parts)
        if not text:
            continue
        shown = visible(text, newlines=True).replace("\n", "\n    ")
        yield f"    {shown}" if fresh else shown
        fresh = False
    if not fresh:
        yield "\n"


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _call(call: ToolCall) -> str:
    arguments = call.arguments if isinstance(call.arguments, str) else dumps(call.arguments, ascii_only=False)
    return f"{visible(call.name or '?')} {visible(arguments)} {visible(call.id or '')}".rstrip()


# -- compactions


def compaction_lines(compaction: Compaction) -> Iterator[str]:
    """Yield a compaction: what was compacted into which note, then the note's first words, then anomalies."""
    rows = (
        "an unknown number of rows"
        if compaction.rows is None
        else f"{compaction.rows} row{'s' if compaction.rows != 1 else ''}"
    )
    certain = f", {compaction.set_is}" if compaction.rows is not None else ""
    state = "undone" if compaction.undone else f"{rows}{certain}"
    tokens = "tokens unknown"
    if compaction.before_tokens is not None or compaction.after_tokens is not None:
        tokens = (
            f"{human(compaction.before_tokens)} to {human(compaction.after_tokens)} tokens, {compaction.tokens_are}"
        )
    into = "the summary" if compaction.note is not None and compaction.note_seq is None else _seq(compaction.note_seq)
    gone = compaction.from_seq is None and compaction.note is not None
    span = "rows that are gone" if gone else f"{_seq(compaction.from_seq)}-{_seq(compaction.to_seq)}"
    yield (f"{_NOTE}{compaction.number}  {span} into {into}  {state}  {tokens}  · {moment(compaction.created_at)}")
    if compaction.note_head:
        yield f"    {one_line(compaction.note_head)}"
    for anomaly in compaction.anomalies:
        yield f"    {_DAMAGE} {one_line(anomaly)}"


def archived(entry: Archived, source: str) -> Iterator[str]:
    """Yield a summary from the log next to the sessions: where it is from, then its first words."""
    whose = "" if entry.of_this_session else ", of which session is not said"
    number = "?" if entry.number is None else entry.number
    yield f"{_LOG} {number}  {one_line(source)}{whose}  · {moment(entry.created_at)}"
    yield f"    {fit(one_line(entry.text), TITLE_CELLS * 2).rstrip()}"
    for damage in entry.damage:
        yield f"    {_DAMAGE} {one_line(damage)}"


def unexplained(runs: tuple[tuple[int, int], ...]) -> str:
    """Return the rows that are compacted although no compaction compacted them."""
    shown = ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in runs)
    return f"{_DAMAGE} folded, but no compaction explains it: {shown}"


def _seq(seq: int | None) -> str:
    return "?" if seq is None else str(seq)
