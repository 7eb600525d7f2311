"""Builds messages, timeline rows and session summaries from what a format knows of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from sessionscope.store.model.rows import Count, Message, NoteSpan, Ref, SessionSummary, State, TimelineRow, ToolCall

from .preview import preview
from .values import character_at

HEAD_CHARS = 200
"""Characters of a content that a timeline row shows."""


def row_of(message: Message) -> TimelineRow:
    """Return the timeline row of a message."""
    calls = sum(len(f"{call.name}{call.arguments}".encode(errors="replace")) for call in message.tool_calls)
    return TimelineRow(
        row=message.row,
        seq=message.seq,
        state=message.state,
        role=message.role,
        name=message.name,
        round_index=message.round_index,
        tools=tuple(call.name or "?" for call in message.tool_calls),
        calls=bool(message.tool_calls),
        tool_call_id=message.tool_call_id,
        size=message.size + calls,
        head=(message.content or "")[:HEAD_CHARS],
        created_at=message.created_at,
        note=message.note,
        damage=message.damage,
        label=message.label,
        line=message.line if message.seq is None else None,
    )


def piece_of(message: Message, start: int, stop: int) -> Message:
    """Return a message with bytes `start` to `stop` of its content, at character boundaries."""
    if message.content is None or (start <= 0 and stop >= message.size):
        return message
    whole = message.content.encode("utf-8", "surrogatepass")
    begin = character_at(whole, min(start, len(whole)))
    # No character has more than four bytes, so each piece holds at least one.
    end = max(stop, begin + 4)
    end = character_at(whole, end) if end < len(whole) else len(whole)
    text = whole[begin:end].decode("utf-8", "surrogatepass")
    return replace(message, content=text, start=begin, stop=end, parts=None)


def message_of(
    row: str,
    seq: int | None,
    role: str,
    content: str | None,
    *,
    state: str = State.ACTIVE,
    name: str | None = None,
    parts: list[Any] | None = None,
    tool_calls: tuple[ToolCall, ...] = (),
    tool_call_id: str | None = None,
    meta: Any = None,
    created_at: int | None = None,
    raw: dict[str, str | None] | None = None,
    note: NoteSpan | None = None,
    label: str = "",
    line: int | None = None,
    damage: tuple[str, ...] = (),
) -> Message:
    """Return a whole message, built from what a format knows of it.

    `content` is its text, `parts` are the blocks that it was made of, without those of tool calls, and `raw` holds each
    member as it is stored. `note` is for the note of a compaction. `damage` says what is wrong with it, one sentence
    each.
    """
    size = len(content.encode("utf-8", "surrogatepass")) if content is not None else 0
    return Message(
        row=row,
        seq=seq,
        state=state,
        role=role,
        name=name,
        content=content,
        start=0,
        stop=size,
        size=size,
        parts=parts,
        tool_calls=tool_calls,
        tool_call_id=tool_call_id,
        round_index=None,
        send_index=None,
        meta=meta,
        created_at=created_at,
        raw=raw or {},
        note=note,
        damage=damage,
        label=label,
        line=line,
    )


def session_of(
    ref: Ref,
    key: int,
    messages: Sequence[Message],
    *,
    parent_id: str | None = None,
    kind: str | None = None,
    title: str | None = None,
    group: str | None = None,
    compaction_count: int = 0,
    created_at: int | None = None,
    updated_at: int | None = None,
    damage: tuple[str, ...] = (),
) -> SessionSummary:
    """Return the summary of a session, built from its messages and what else a format knows of it.

    Times are epoch milliseconds. Without one, that of the first or last message is taken.
    """
    times = [message.created_at for message in messages if message.created_at is not None]
    preview_text = next((message.content for message in messages if message.role == "user" and message.content), "")
    return SessionSummary(
        ref=ref,
        key=key,
        parent_id=parent_id,
        kind=kind or ("root" if parent_id is None else "child"),
        lifecycle="",
        status="",
        title=title,
        preview=preview(preview_text),
        message_count=Count(len(messages)),
        active_count=Count(sum(message.state == State.ACTIVE for message in messages)),
        compaction_count=compaction_count,
        created_at=created_at if created_at is not None else min(times, default=None),
        updated_at=updated_at if updated_at is not None else max(times, default=None),
        group=group,
        damage=damage,
    )
