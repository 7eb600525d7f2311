"""What the inspector shows of a message, a session or a compaction: blocks of text, not yet wrapped."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from sessionscope.store import (
    Archived,
    Bundled,
    Compaction,
    Finding,
    Message,
    Plan,
    SessionDetail,
    Severity,
    State,
    ToolCall,
    Usage,
)

from . import compaction_lines, finding_lines, glyphs, session_lines
from .clock import human, moment
from .fitting import one_line
from .json_text import Span, json_spans
from .visible import visible

MODES = ("text", "markdown", "raw")
PIECE = 65_536
MARKDOWN_CHARS = 16_384
"""Longer texts are not rendered as Markdown, since some of it takes seconds to lay out."""
ROUNDS = 200
"""How many rounds of usage are shown."""
MEMBERS = 500
"""How many sessions of a plan or bundle are shown."""
IF_OFFLINE = "Continue only if none is running."
SALVAGE = "sessionscope repair ARCHIVE --salvage NEW.db"


class Block(Struct, frozen=True):
    """Text to be wrapped to the width of a pane: `markdown` is rendered, `spans` are shown as they are."""

    spans: tuple[Span, ...] = ()
    markdown: str | None = None
    label: str | None = None
    """What is shown once at the left of the block."""


def _line(*spans: Span) -> Block:
    return Block(spans)


def _head(text: str) -> Block:
    return Block((("\n", ""), (text, "accent")))


def _fact(name: str, value: object) -> Block:
    return Block(((visible(str(value), newlines=True), ""),), label=name)


def message_blocks(message: Message, mode: str, compacted_by: Compaction | None = None) -> list[Block]:
    """Return everything about a message: what it is, its text, its calls, its meta; or every column as it is stored."""
    blocks = [_title(message)]
    blocks += [_line((f"{glyphs.DAMAGE} {one_line(damage)}", "damage")) for damage in message.damage]
    if message.note is not None:
        note = message.note
        blocks.append(
            _line(
                (f"folded {note.from_seq} to {note.to_seq}", "note"),
                *([(f", stands at {note.ord}", "dim")] if note.ord is not None else []),
            )
        )
    if compacted_by is not None:
        into = f"{glyphs.NOTE}{compacted_by.note_seq}" if compacted_by.note_seq is not None else "the summary"
        blocks.append(
            _line(
                (f"folded into {into} by compaction {compacted_by.number}", "dim"), (f" ({compacted_by.set_is})", "dim")
            )
        )
    if mode == "raw":
        return blocks + _raw(message)
    blocks.append(_line((_when(message), "dim")))
    if message.content:
        blocks.append(_line(("", "")))
        blocks += _content(message, mode)
    blocks += [block for call in message.tool_calls for block in _call(call)]
    if message.meta not in (None, {}):
        blocks += [_head("meta"), Block(tuple(json_spans(message.meta)))]
    if (stored := message.raw.get("as stored")) is not None:
        blocks += [
            _head(f"bytes {message.raw.get('bytes')} of the file"),
            _line((visible(stored, newlines=True), "dim")),
        ]
    return blocks


def _title(message: Message) -> Block:
    state = {State.COMPACTED.value: "compacted out"}.get(message.state, one_line(message.state))
    role = one_line(message.role)
    name = f" {one_line(message.name)}" if message.name else ""
    style = "note" if message.note else "strong"
    line = message.raw.get("line")
    number = message.seq if message.seq is not None else f"line {line}" if line else message.row
    return _line(
        (f"{number}  {role}{name}", style), (f"  {state}", "dim" if message.state != State.ACTIVE else "title")
    )


def _when(message: Message) -> str:
    parts = [moment(message.created_at)]
    if message.round_index is not None:
        parts.append(f"round {message.round_index}")
    if message.send_index is not None:
        parts.append(f"send {message.send_index}")
    if message.tool_call_id:
        parts.append(f"answers {one_line(message.tool_call_id)}")
    return " · ".join([*parts, f"{message.size:,} bytes"])


def _text(text: str, mode: str) -> Block:
    shown = visible(text, newlines=True)
    return Block((), shown) if mode == "markdown" and len(text) <= MARKDOWN_CHARS else _line((shown, ""))


def _content(message: Message, mode: str) -> list[Block]:
    blocks: list[Block] = []
    if message.start:
        blocks.append(_line((f"… {message.start:,} bytes before (<)\n", "hole")))
    if message.parts is not None:
        for part in message.parts:
            text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
            blocks.append(_text(text, mode) if isinstance(text, str) else Block(tuple(json_spans(part))))
    else:
        blocks.append(_text(message.content or "", mode if message.role != "tool" else "text"))
    if message.stop < message.size:
        blocks.append(
            _line((f"\n… {message.size - message.stop:,} bytes more: > reads on, e opens all in $PAGER", "hole"))
        )
    return blocks


def _call(call: ToolCall) -> list[Block]:
    id_ = f"  {one_line(call.id)}" if call.id else "  without an id"
    title = Block((("\n", ""), (f"→ {one_line(call.name or '?')}", "accent"), (id_, "dim")))
    if not call.parsed:
        return [
            title,
            _line((f"{glyphs.DAMAGE} arguments are not valid JSON", "damage")),
            Block(tuple(json_spans(call.arguments))),
        ]
    return [title] if call.arguments in (None, {}) else [title, Block(tuple(json_spans(call.arguments, 1)))]


def _raw(message: Message) -> list[Block]:
    blocks = [_head("as stored")]
    for column, value in message.raw.items():
        shown = [("NULL", "dim")] if value is None else [(visible(value, newlines=True), "")]
        blocks.append(Block(((f"{column} = ", "dim"), *shown)))
    return blocks


def session_blocks(detail: SessionDetail, usage: Usage | None) -> list[Block]:
    """Return everything about a session that is not a message."""
    summary = detail.summary
    blocks = [_line((session_lines.title_of(summary), "strong"))]
    damages = dict.fromkeys((*summary.damage, *detail.damage))
    blocks += [_line((f"{glyphs.DAMAGE} {one_line(damage)}", "damage")) for damage in damages]
    blocks += [
        _fact("id", summary.ref.id),
        *([_fact("in file", summary.ref.file)] if summary.ref.file is not None else []),
        _fact(
            "kind",
            ", ".join(
                filter(None, (summary.kind, summary.lifecycle if summary.kind != "root" else "", summary.status))
            ),
        ),
        *([_fact("parent", summary.parent_id)] if summary.parent_id else []),
        *([_fact("spawner", detail.spawn_tool_call_id)] if detail.spawn_tool_call_id else []),
        _fact("created", moment(summary.created_at)),
        _fact("updated", moment(summary.updated_at)),
        _fact("messages", f"{summary.message_count}, {summary.active_count} active"),
        *([_fact("next seq", detail.next_seq)] if detail.next_seq is not None else []),
        *([_fact("model", detail.model)] if detail.model else []),
    ]
    blocks += _open_calls(detail)
    recorded = usage is not None and bool(usage.rounds)
    if usage is not None and recorded:
        blocks += _usage(usage)
    for name, value in (("config", detail.config), ("metadata", detail.metadata)):
        if value not in (None, {}):
            blocks += [_head(name), Block(tuple(json_spans(value)))]
    for label in dict.fromkeys(label for label, _ in detail.extras):
        blocks.append(_head(label))
        blocks += [_line((visible(text, newlines=True), "")) for name, text in detail.extras if name == label]
    if usage is not None and not recorded:
        blocks += [_head("usage"), _line((usage.coverage, "dim"))]
    blocks.append(_head("system prompt"))
    if detail.prompt is None:
        blocks.append(_line(("not stored: what the agent uses stands in its own configuration", "dim")))
    else:
        blocks.append(_line((visible(detail.prompt, newlines=True), "")))
        if detail.prompt_size > PIECE:
            blocks.append(_line((f"… {detail.prompt_size - PIECE:,} bytes more", "hole")))
    return blocks


def _open_calls(detail: SessionDetail) -> list[Block]:
    blocks: list[Block] = []
    if detail.unanswered:
        blocks.append(_head("unanswered calls, among the newest rows"))
        blocks += [_line((f"⚠ {seq} ", "damage"), (one_line(name), "")) for seq, name in detail.unanswered]
    if detail.pending not in (None, {}):
        blocks += [_head("pending, as the agent noted it"), Block(tuple(json_spans(detail.pending)))]
    return blocks


def _usage(usage: Usage) -> list[Block]:
    cached = f", {human(usage.cached_tokens)} cached" if usage.cached_tokens is not None else ""
    blocks = [
        _head("usage"),
        _line(
            (
                f"{human(usage.total_tokens)} tokens: {human(usage.prompt_tokens)} in{cached}, "
                f"{human(usage.completion_tokens)} out",
                "",
            )
        ),
        _line((f"covers {usage.coverage}", "dim")),
    ]
    for round_ in usage.rounds[:ROUNDS]:
        send = f"send {round_.send_index} " if round_.send_index is not None else ""
        model = f"  {one_line(round_.model)}" if round_.model else ""
        blocks.append(
            _line(
                (f"{send}round {round_.round_index}  ", "dim"),
                (f"{human(round_.prompt_tokens):>5} in {human(round_.completion_tokens):>5} out", ""),
                (model, "dim"),
            )
        )
    if len(usage.rounds) > ROUNDS:
        blocks.append(_line((f"… {len(usage.rounds) - ROUNDS} rounds more", "hole")))
    return blocks


def note_blocks(note: str, mode: str) -> list[Block]:
    """Return a note that is no row of its own."""
    return [_line(("", "")), _text(note, mode)]


def compaction_blocks(compaction: Compaction) -> list[Block]:
    """Return the facts of a compaction, which are shown above its note."""
    runs = ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in compaction.set_runs[:20])
    more = f" and {len(compaction.set_runs) - 20} runs more" if len(compaction.set_runs) > 20 else ""
    took = f"{compaction.rows} row{'s' if compaction.rows != 1 else ''}: {runs}{more} ({compaction.set_is})"
    round_ = f", round {compaction.round_index}" if compaction.round_index is not None else ""
    if compaction.rows is None:
        took = f"unknown; some of {runs}{more}" if runs else "unknown"
    return [
        _line(
            (f"{glyphs.NOTE}{compaction.number} ", "note"),
            ("compaction", "strong"),
            (" undone" if compaction.undone else "", "damage"),
        ),
        *[_line((f"{glyphs.DAMAGE} {anomalies}", "damage")) for anomalies in compaction.anomalies],
        _fact(
            "span",
            "rows that are no longer in the file"
            if compaction.from_seq is None and compaction.note is not None
            else f"{compaction.from_seq} to {compaction.to_seq}, recorded",
        ),
        _fact("took", took),
        _fact("tokens", compaction_lines.tokens(compaction)),
        _fact("when", f"{moment(compaction.created_at)}{round_}"),
        _fact(
            "note",
            f"row {compaction.note_seq}"
            if compaction.note_seq is not None
            else "no row, kept in the metadata"
            if compaction.note is not None
            else "none",
        ),
    ]


def archived_blocks(entry: Archived, source: str, mode: str) -> list[Block]:
    """Return a whole summary from the log next to the sessions."""
    return [
        _line((f"{glyphs.LOG} {entry.number if entry.number is not None else '?'} ", "accent"), ("summary", "strong")),
        *[_line((f"{glyphs.DAMAGE} {one_line(damage)}", "damage")) for damage in entry.damage],
        _fact("from", source),
        _fact("when", moment(entry.created_at)),
        _fact("session", "this one" if entry.of_this_session else "not said"),
        _line(("", "")),
        _text(entry.text, mode),
    ]


def finding_blocks(finding: Finding, session: str) -> list[Block]:
    """Return what is wrong, where, and what can be done about it."""
    glyph, style = glyphs.SEVERITIES[finding.severity]
    spot = finding.spot
    blocks = [_line((f"{glyph} {finding.code}", style), (f"  {finding.severity}", "dim"))]
    if spot.session is not None:
        blocks += [_fact("session", session), _fact("id", spot.session.id)]
    if spot.file is not None:
        blocks.append(_fact("file", spot.file))
    where = [f"message {spot.seq}"] if spot.seq is not None else []
    where += [f"line {spot.line}"] if spot.line is not None else []
    where += [f"bytes {spot.start} to {spot.stop}"] if spot.start is not None else []
    if where:
        blocks.append(_fact("at", ", ".join(where)))
    blocks += [_line(("", "")), _line((visible(finding.message), ""))]
    if finding.fix:
        blocks += [_head("repair  r"), _line((visible(finding.fix), ""))]
    if finding.choices:
        blocks.append(_head("a person must choose"))
        blocks += [
            Block(((f"{choice.name}", "strong"), (f"  {visible(choice.about)}", "")), label=f"{number}")
            for number, choice in enumerate(finding.choices, 1)
        ]
    if finding.salvage:
        blocks += [_head("salvage"), _line((f"{SALVAGE} writes what can still be read into a new database", ""))]
    elif not finding.fix and not finding.choices:
        harmless = finding.severity is Severity.INFO
        words = "nothing to be done here; it is good to know" if harmless else "no repair is known"
        blocks.append(_line((f"\n{words}", "dim")))
    return blocks


def bundle_blocks(bundle: Bundled) -> list[Block]:
    """Return what a bundle is: when it was made, where it is, and the sessions in it."""
    blocks = [
        _line((one_line(bundle.what) or "(empty)", "strong")),
        _fact("kept", moment(bundle.kept_at)),
        _fact("size", f"{bundle.size:,} bytes"),
        _fact("in", one_line("/".join(Path(bundle.path).parts[-3:]))),
    ]
    if bundle.why:
        blocks.append(_fact("why", visible(bundle.why)))
    if bundle.sessions:
        blocks.append(_head("sessions"))
    for entry in bundle.sessions[:MEMBERS]:
        depth = entry.get("depth")
        words = one_line(str(entry.get("title") or entry.get("preview") or "(empty)"))
        blocks.append(
            _line(
                ("  " * min(depth if isinstance(depth, int) else 0, 12), ""),
                (words[:80], ""),
                (f"  {one_line(str(entry.get('messages')))}", "dim"),
            )
        )
    if len(bundle.sessions) > MEMBERS:
        blocks.append(_line((f"… and {human(len(bundle.sessions) - MEMBERS)} more", "dim")))
    return blocks


def plan_blocks(plan: Plan, verb: str) -> list[Block]:
    """Return what a plan would change, as a diff, and what to know before it is applied."""
    blocks = [_line((verb, "strong"))]
    blocks += [_line((visible(reason), "")) for reason in plan.reasons]
    blocks += [_line((f"! {visible(warning)}", "note")) for warning in plan.warnings]
    if plan.offline:
        blocks.append(_line((f"! {plan.offline} {IF_OFFLINE}", "note")))
    blocks += [_line(("", ""))] if plan.members else []
    blocks += [Block(tuple(session_lines.member_spans(member))) for member in plan.members[:MEMBERS]]
    if len(plan.members) > MEMBERS:
        blocks.append(_line((f"… and {human(len(plan.members) - MEMBERS)} sessions more", "dim")))
    if plan.members:
        return blocks
    before: str | None = None
    for change in plan.changes:
        where = " ".join(
            filter(
                None,
                (
                    one_line(change.spot.session.id) if change.spot.session else "",
                    finding_lines.place_words(change.spot),
                ),
            )
        )
        title = f"{change.what}  {where}"
        if title != before:
            blocks.append(Block((("\n", ""), (visible(change.what), "accent"), (f"  {where}", "dim"))))
        before = title
        for mark, text, style in (("-", change.before, "damage"), ("+", change.after, "title")):
            if text is not None:
                blocks.append(_line((f"{mark} {visible(text, newlines=True)}", style)))
    more = len(plan.changes) < plan.rows
    return blocks + ([_line((f"\n{plan.rows} rows in all", "dim"))] if more and plan.changes else [])
