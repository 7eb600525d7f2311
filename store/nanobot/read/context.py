"""The context of a session: what the release that wrote it would send its model now, message by message.

0.2.x loads the file, removes the consolidated messages with a Python slice, and sends at most 120 messages. 0.3.x takes
an impossible offset for 0, and sends all the others. For some kinds of damage, both do not load the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct

from sessionscope.store.model.context import Candidate, Context, tokens_of
from sessionscope.store.model.rows import Limits
from sessionscope.store.nanobot.format.file import OpenFile
from sessionscope.store.nanobot.format.file_head import Metadata, metadata_of
from sessionscope.store.nanobot.format.history import WINDOW, consolidated, failure, legible, sent
from sessionscope.store.nanobot.format.line_scan import NO_OBJECT
from sessionscope.store.nanobot.format.lines import FileOutline

from .message_scan import MessageScan, ScannedMessage
from .record import MESSAGE_BYTES, decode, plain

CONTEXT_BYTES = 2_000_000
"""At most so many bytes are read for a context, from the end of the file. Most models take less."""
FORGIVEN_LATER = NO_OBJECT
"""The damage for which 0.3.x skips the line, while earlier releases do not load the file."""
HEAD_CHARS = 200
"""How many characters of a message the compaction dialog lists."""
HEAD_BYTES = 1 << 20
"""A message of more bytes is not decoded for that."""
SHOWN_VALUE_CHARS = 20
"""How many characters of an invalid offset are shown."""
_NOT_STORED = "not stored and so not shown: the system prompt, memory, tools and the real limits"


class Offset(Struct, frozen=True):
    """How many messages are consolidated."""

    value: int
    """The number, as the release reads it."""
    stored: Any
    """The value in the file, or None if there is none."""
    anomaly: str = ""
    """What is wrong with the stored value, in words."""
    broken: bool = False
    """Whether every turn fails because of it."""


def offset_of(metadata: Metadata | None, messages: int, later: bool) -> Offset:
    """Return how many of `messages` are consolidated, as 0.3.x (`later`) or 0.2.x reads the metadata line."""
    if metadata is None:
        return Offset(0, None)
    return _later_offset(metadata, messages) if later else _early_offset(metadata, messages)


def _later_offset(metadata: Metadata, messages: int) -> Offset:
    values = {"last_archived": metadata.last_archived, "last_consolidated": metadata.last_consolidated}
    for name, stored in values.items():
        if isinstance(stored, int) and not isinstance(stored, bool):
            value = consolidated(stored, messages)
            anomaly = "" if value == stored else f"{name} is {stored!r} of {messages} messages; it is read as 0"
            return Offset(value, stored, anomaly)
    return Offset(0, None)


def _early_offset(metadata: Metadata, messages: int) -> Offset:
    stored = metadata.last_consolidated
    if type(stored) is int and 0 <= stored <= messages:
        return Offset(stored, stored)
    if stored is UNSET:
        return Offset(0, None)
    if stored is None or isinstance(stored, int):
        # 0.2.0 slices the messages with the stored value, which may be negative, too large, a bool or None.
        value = slice(stored, None).indices(messages)[0]
        anomaly = f"last_consolidated is {stored!r} of {messages} messages; 0.2.0 sends {messages - value} of them"
        return Offset(value, stored, anomaly)
    shown = str(stored)[:SHOWN_VALUE_CHARS]
    return Offset(0, stored, f"last_consolidated is {shown!r}, no whole number; no turn works", broken=True)


def loaded_metadata(file: OpenFile, outline: FileOutline) -> Metadata | None:
    """Return the metadata line that counts when nanobot loads the session, the last one, or None if there is none."""
    if not outline.metadata:
        return None
    start, stop = outline.metadata[-1]
    complete = stop - start <= MESSAGE_BYTES
    record = decode(file.read(start, stop if complete else start + MESSAGE_BYTES), complete)
    return metadata_of(record.value, complete)


def lost(outline: FileOutline, later: bool) -> str:
    """Return why the release does not load the file at all, or "" if it does."""
    for why, line in outline.lost:
        if not (later and why == FORGIVEN_LATER):
            return f"{why}, on line {line}"
    return ""


# -- the context view


class Sent(Struct, frozen=True):
    """The messages that are sent."""

    entries: Mapping[int, Mapping[str, Any]]
    """The messages as sent, by seq, in order."""
    about: str
    """What limits the context and what is not known of it, in words."""


def context(file: OpenFile, outline: FileOutline, offset: Offset, later: bool, limits: Limits, summary: bool) -> Sent:
    """Return what is sent of a session. `summary` says that it has a summary of the consolidated messages.

    At most CONTEXT_BYTES of the file are read.
    """
    if why := lost(outline, later):
        return Sent({}, f"nanobot loads nothing of this file: {why}")
    if offset.broken:
        return Sent({}, offset.anomaly)
    first, last = offset.value + 1, outline.messages
    limit = limits.messages
    if limit is None:
        limit = 0 if later else WINDOW
    if limit:
        first = max(first, last - limit + 1)
    first_read = _first_within_reach(outline, first, last)
    messages = _read_messages(file, outline, first_read, last)
    if not limit:
        # 0.2.0 takes 0 for its own limit, so no limit is the number of messages.
        limit = max(1, len(messages))
    if limits == Limits() and (failed := failure(messages, limit, later)) is not None:
        index, why = failed
        return Sent({}, f"no turn works: of message {first_read + index} {why}")
    entries = sent(messages, limit, max_tokens=limits.tokens, later=later)
    about = _about(last - offset.value, limit, limits.tokens, first_read != first, summary, offset.anomaly)
    return Sent({first_read + index: entry for index, entry in entries}, about)


def _about(messages: int, limit: int, tokens: int, partial: bool, summary: bool, anomaly: str) -> str:
    phrases = [f"of {messages} messages at most {limit}" if limit < messages else f"all {messages} messages"]
    if tokens > 0:
        phrases.append(f"that fit about {tokens} tokens")
    if partial:
        phrases.append(f"only the newest {CONTEXT_BYTES >> 20} MB were looked at")
    if summary:
        phrases.append("the summary of those before stands in the prompt")
    if anomaly:
        phrases.append(anomaly)
    phrases.append(_NOT_STORED)
    return "; ".join(phrases)


def _first_within_reach(outline: FileOutline, first: int, last: int) -> int:
    """Return the first seq from `first` on whose row begins in the last CONTEXT_BYTES, `last + 1` if there is none."""
    low, high = first, last + 1
    while low < high:
        middle = (low + high) // 2
        if outline.end - outline.starts[outline.row_of(middle)] > CONTEXT_BYTES:
            low = middle + 1
        else:
            high = middle
    return low


def _read_messages(file: OpenFile, outline: FileOutline, first: int, last: int) -> list[Mapping[str, Any]]:
    """Return the messages with seqs `first` to `last`, in one read."""
    if first > last:
        return []
    data_start = outline.starts[outline.row_of(first)]
    data = file.read(data_start, outline.span(outline.row_of(last))[1])
    spans = (outline.span(outline.row_of(seq)) for seq in range(first, last + 1))
    return legible(decode(data[start - data_start : stop - data_start]).value for start, stop in spans)


# -- the context for a compaction


def context_of(scanned: MessageScan, data: bytes, offset: int) -> Context:
    """Return the messages that are not consolidated. A result is in the group of the latest call with its id."""
    call_indexes: dict[str, int] = {}
    candidates = []
    for index, item in enumerate(scanned.rows):
        row, group = item.row, index
        if row is not None:
            if row.role == "tool":
                group = call_indexes.get(row.answers, index)
            call_indexes.update((id_, index) for id_, _ in row.calls or ())
        if index >= offset:
            candidates.append(
                Candidate(
                    seq=index + 1,
                    position=index + 1,
                    role=str(row.role) if row is not None else "?",
                    group=group,
                    tokens=tokens_of(item.stop - item.start),
                    head=_head(data[item.start : item.stop], row),
                )
            )
    return Context(tuple(candidates), len(scanned.rows), prefix=True)


def _head(line: bytes, row: ScannedMessage | None) -> str:
    """Return the beginning of a message's text, or else the names of the tools that it calls."""
    content = decode(line.strip()).value.get("content") if len(line) <= HEAD_BYTES else None
    text = plain(content)[:HEAD_CHARS]
    if text or row is None:
        return text
    return ", ".join(name for _, name in row.calls or () if name)
