"""What the release that wrote a session would send its model now, row by row.

0.2.x loads the file, cuts off what is consolidated by a Python slice, and sends at most 120 messages. 0.3.x takes an
impossible offset for 0, and sends all the rest. Both give up a file for some kinds of damage.
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

BYTES = 2_000_000
"""How many of the newest bytes are read on the event loop: more than most models take."""
FORGIVEN_LATER = NO_OBJECT
"""What 0.3.x skips, while earlier releases give up the file."""
HEAD_CHARS = 200
"""Characters of a message that the compaction dialog lists."""
HEAD_BYTES = 1 << 20
"""The longest message, in bytes, that is decoded for that."""
_NOT_STORED = "not stored and so not shown: the system prompt, memory, tools and the real limits"


class Offset(Struct, frozen=True):
    """How many messages count as consolidated, and what is wrong with how that is stored, empty if nothing is.

    `stored` is the value in the file. `broken` says that no turn works with it.
    """

    value: int
    stored: Any
    anomaly: str = ""
    broken: bool = False


def offset_of(metadata: Metadata | None, messages: int, later: bool) -> Offset:
    """Return where the rows begin that the model may still be sent."""
    if metadata is None:
        return Offset(0, None)
    if later:
        values = (metadata.last_archived, metadata.last_consolidated)
        stored = next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)
        taken = consolidated(stored, messages)
        name = "last_archived" if stored is metadata.last_archived else "last_consolidated"
        anomaly = f"{name} is {stored!r} of {messages} messages; it is read as 0" if stored not in (None, taken) else ""
        return Offset(taken, stored, anomaly)
    stored = metadata.last_consolidated
    if type(stored) is int and 0 <= stored <= messages:
        return Offset(stored, stored)
    if stored is UNSET:
        return Offset(0, None)
    if stored is None or isinstance(stored, int):
        first = slice(stored, None).indices(messages)[0]
        anomaly = f"last_consolidated is {stored!r} of {messages} messages; 0.2.0 sends {messages - first} of them"
        return Offset(first, stored, anomaly)
    return Offset(0, stored, f"last_consolidated is {str(stored)[:20]!r}, no whole number; no turn works", True)


def loaded_metadata(file: OpenFile, outline: FileOutline) -> Metadata | None:
    """Return the metadata line that counts when the session is loaded: the last one. None if there is none."""
    if not outline.metadata:
        return None
    start, stop = outline.metadata[-1]
    complete = stop - start <= MESSAGE_BYTES
    record = decode(file.read(start, stop if complete else start + MESSAGE_BYTES), complete, None)
    return metadata_of(record.value, complete)


def lost(outline: FileOutline, later: bool) -> str:
    """Return why the release loads nothing of the file, empty if it does load it."""
    for why, line in outline.lost:
        if not (later and why == FORGIVEN_LATER):
            return f"{why}, on line {line}"
    return ""


class Sent(Struct, frozen=True):
    """What is sent: by seq, in order, and in words what is not known of it."""

    entries: Mapping[int, Mapping[str, Any]]
    about: str


def context(file: OpenFile, outline: FileOutline, offset: Offset, later: bool, limits: Limits, summary: bool) -> Sent:
    """Return the messages that are sent of a file. Reads at most `BYTES` of it."""
    if why := lost(outline, later):
        return Sent({}, f"nanobot loads nothing of this file: {why}")
    if offset.broken:
        return Sent({}, offset.anomaly)
    first, last = offset.value + 1, outline.messages
    limit = limits.messages if limits.messages is not None else 0 if later else WINDOW
    if limit:
        first = max(first, last - limit + 1)
    asked, first = first, _within_reach(outline, first, last)
    rows = _records(file, outline, first, last)
    # To 0.2.x, no limit means its own. A user who asks for no limit gets all.
    limit = limit or max(1, len(rows))
    if limits == Limits() and (broken := failure(rows, limit, later)) is not None:
        return Sent({}, f"no turn works: of message {first + broken[0]} {broken[1]}")
    pairs = sent(rows, limit, max_tokens=limits.tokens, later=later)
    return Sent(
        {first + at: entry for at, entry in pairs},
        "; ".join(
            filter(
                None,
                (
                    f"of {last - offset.value} messages at most {limit}"
                    if limit < last - offset.value
                    else f"all {last - offset.value} messages",
                    f"that fit about {limits.tokens} tokens" if limits.tokens > 0 else "",
                    f"only the newest {BYTES >> 20} MB were looked at" if first != asked else "",
                    "the summary of those before stands in the prompt" if summary else "",
                    offset.anomaly,
                    _NOT_STORED,
                ),
            )
        ),
    )


def _within_reach(outline: FileOutline, first: int, last: int) -> int:
    """Return the first seq from `first` on whose row begins in the newest `BYTES`, `last + 1` if not even the last
    does.
    """
    low, high = first, last + 1
    while low < high:
        middle = (low + high) // 2
        if outline.end - outline.starts[outline.row_of(middle)] > BYTES:
            low = middle + 1
        else:
            high = middle
    return low


def _records(file: OpenFile, outline: FileOutline, first: int, last: int) -> list[Mapping[str, Any]]:
    if first > last:
        return []
    base = outline.starts[outline.row_of(first)]
    data = file.read(base, outline.span(outline.row_of(last))[1])
    found: list[Any] = []
    for seq in range(first, last + 1):
        start, stop = outline.span(outline.row_of(seq))
        found.append(decode(data[start - base : stop - base], True, None).value)
    return legible(found)


def context_of(scanned: MessageScan, data: bytes, offset: int) -> Context:
    """Return the messages that are not consolidated. A result belongs to the newest call of its id before it."""
    known: dict[str, int] = {}
    found = []
    for at, item in enumerate(scanned.rows):
        row, group = item.row, at
        if row is not None:
            if row.role == "tool":
                group = known.get(row.answers or "", at)
            known.update((id_, at) for id_, _ in row.calls or ())
        if at >= offset:
            found.append(
                Candidate(
                    at + 1,
                    at + 1,
                    str(row.role if row is not None else "?"),
                    group,
                    tokens_of(item.stop - item.start),
                    head=_head(data[item.start : item.stop], row),
                )
            )
    return Context(tuple(found), len(scanned.rows), prefix=True)


def _head(line: bytes, row: ScannedMessage | None) -> str:
    """Return how a message begins, or which tools it calls."""
    found = decode(line.strip(), True, None).value if len(line) <= HEAD_BYTES else {}
    words = plain(found.get("content"))[:HEAD_CHARS] if isinstance(found, dict) else ""
    return words or ", ".join(name for _, name in (row.calls if row is not None else None) or () if name)
