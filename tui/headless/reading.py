"""The reads of headless verbs: in bounded bursts, so that the largest archive needs no more memory than a small one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import tzinfo
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from sessionscope.store import (
    Archive,
    Count,
    Damaged,
    Limits,
    Message,
    Outline,
    Place,
    Reader,
    Ref,
    SessionSummary,
    SessionTable,
    State,
    Timeline,
    TimelineRow,
    UnknownSession,
    View,
    open_archive,
)

T = TypeVar("T")
U = TypeVar("U")
BURST = 200
PIECE = 8_388_608
"""Bytes that are read at once: many messages as long as they fit, a longer one in pieces of this size."""


class SessionNode(Struct, frozen=True):
    """A session at its place in the tree. `depth` is counted from the root."""

    summary: SessionSummary
    place: Place
    depth: int
    children: int


class NamedSession(Struct, frozen=True):
    """The one session that a command line names."""

    archive: Archive
    reader: Reader
    ref: Ref


def find_session(place: str, name: str, zone: Callable[[], tzinfo | None]) -> NamedSession:
    """Return the session that an id or a ref names in any layout of an archive.

    Raises UnknownSession if no session has that name, or several do: then with their refs.
    """
    matches: list[NamedSession] = []
    failures: list[UnknownSession] = []
    for archive in open_archive(place, zone):
        reader = archive.reader()
        try:
            matches.append(NamedSession(archive, reader, reader.resolve(name)))
        except UnknownSession as error:
            failures.append(error)
    if len(matches) > 1:
        refs = ", ".join(str(target.ref) for target in matches)
        raise UnknownSession(f"{name!r} names more than one session; say which: {refs}.")
    if not matches:
        # The longest message is the one that suggests candidates.
        raise max(failures, key=lambda error: len(str(error)))
    return matches[0]


def session_nodes(archive: Archive, session_table: SessionTable) -> Iterator[SessionNode]:
    """Yield every session with exact counts, the latest active first.

    Parents come before their children, and groups together.
    """
    reader, layout = archive.reader(), archive.info.layout
    burst: list[tuple[int, int]] = []
    for step in _tree(session_table):
        burst.append(step)
        if len(burst) == BURST:
            yield from _nodes(reader, layout, session_table, burst)
            burst = []
    yield from _nodes(reader, layout, session_table, burst)


def _tree(session_table: SessionTable) -> Iterator[tuple[int, int]]:
    """Yield positions and depths, depth first."""
    groups: dict[str | int, list[int]] = {}
    for position in session_table.roots():
        groups.setdefault(session_table.groups.get(position, position), []).append(position)
    stack = [(position, 0) for roots in reversed(groups.values()) for position in reversed(roots)]
    while stack:
        position, depth = stack.pop()
        yield position, depth
        stack += [(child, depth + 1) for child in reversed(session_table.children(position))]


def _nodes(
    reader: Reader, layout: str, session_table: SessionTable, burst: list[tuple[int, int]]
) -> Iterator[SessionNode]:
    keys = [session_table.keys[position] for position, _ in burst]
    read = _piecemeal(
        lambda some: reader.summaries(some, exact=True), keys, lambda key, why: _lost(session_table, layout, key, why)
    )
    summaries = {summary.key: summary for summary in read}
    for position, depth in burst:
        summary = summaries.get(session_table.keys[position])
        if summary is not None:
            yield SessionNode(
                summary, session_table.place_in_tree(position), depth, session_table.child_count(position)
            )


def _lost(session_table: SessionTable, layout: str, key: int, why: str) -> SessionSummary:
    """Return what the session table knows of a session whose pages cannot be read."""
    position = session_table.find(key) or 0
    parent = session_table.parents[position]
    return SessionSummary(
        ref=Ref(layout, session_table.ids[position]),
        key=key,
        parent_id=session_table.ids[parent] if parent >= 0 else None,
        kind="",
        lifecycle="",
        status=State.DAMAGED,
        title=session_table.titles.get(position),
        preview="",
        message_count=Count(0, False),
        active_count=Count(0, False),
        compaction_count=0,
        created_at=session_table.created[position],
        updated_at=session_table.updated[position],
        damage=(why,),
    )


def rows(timeline: Timeline, view: View, first: int | None, last: int | None) -> Iterator[TimelineRow]:
    """Yield the rows of a timeline whose seqs lie between two, both included. None leaves that end open."""
    start, stop = 0, timeline.length.value
    if view is not View.CONTEXT:
        # Only in the context does a note have another place than its seq says.
        start = timeline.nearest(first) if first is not None else start
        stop = timeline.nearest(last) + 1 if last is not None else stop
    for at in range(start, stop, BURST):
        window = range(at, min(at + BURST, stop))
        for row in _piecemeal(lambda some: timeline.window(some[0], some[-1] + 1), window, _unreadable):
            if first is None and last is None:
                yield row
                continue
            low, high = row.hole or (row.seq, row.seq)
            if low is None or high is None:
                continue
            if (first is None or high >= first) and (last is None or low <= last):
                yield row


def _unreadable(at: int, why: str) -> TimelineRow:
    return TimelineRow(row=None, seq=None, state=State.DAMAGED, damage=(why,))


def messages(reader: Reader, ref: Ref, rows: Iterator[TimelineRow]) -> Iterator[tuple[TimelineRow, Iterator[Message]]]:
    """Yield rows, each with its message in pieces.

    It is one piece unless the message is very long, and none for a hole or an unreadable row.
    """
    burst: list[TimelineRow] = []
    size = 0
    for row in rows:
        burst.append(row)
        size += row.size
        if len(burst) == BURST or size > PIECE:
            yield from _read(reader, ref, burst)
            burst, size = [], 0
    yield from _read(reader, ref, burst)


def _read(reader: Reader, ref: Ref, burst: list[TimelineRow]) -> Iterator[tuple[TimelineRow, Iterator[Message]]]:
    unreadable: dict[str, str] = {}

    def lose(row: str, why: str) -> None:
        unreadable[row] = why

    wanted = [row.row for row in burst if row.row is not None]
    read = _piecemeal(lambda some: reader.messages(ref, some, PIECE), wanted, lose)
    messages_by_row = {message.row: message for message in read if message is not None}
    for row in burst:
        if row.row is None or row.row in messages_by_row:
            yield row, _pieces(reader, ref, messages_by_row.get(row.row or ""))
        elif row.row in unreadable:
            yield replace(row, state=State.DAMAGED, damage=(unreadable[row.row],)), iter(())
        elif row.seq is not None:
            # Deleted since its row was read.
            yield TimelineRow(row=None, seq=None, state=State.HOLE, hole=(row.seq, row.seq)), iter(())


def _pieces(reader: Reader, ref: Ref, message: Message | None) -> Iterator[Message]:
    while message is not None:
        yield message
        if message.stop >= message.size:
            return
        piece = reader.message(ref, message.row, message.stop, message.stop + PIECE)
        if piece.stop <= message.stop:
            return
        message = piece


def outlined(target: NamedSession, view: View, limits: Limits | None = None) -> tuple[Outline, Timeline]:
    """Return the outline and the rows of the session that was named."""
    outline = target.reader.outline(target.ref)
    return outline, target.reader.timeline(target.ref, view, outline, limits)


def _piecemeal(
    read: Callable[[Sequence[U]], Sequence[T]], wanted: Sequence[U], instead: Callable[[U, str], T]
) -> list[T]:
    """Read everything at once. If pages are damaged, read halves, until only what cannot be read is replaced."""
    try:
        return list(read(wanted)) if wanted else []
    except Damaged as error:
        if len(wanted) == 1:
            return [instead(wanted[0], str(error))]
        half = len(wanted) // 2
        return _piecemeal(read, wanted[:half], instead) + _piecemeal(read, wanted[half:], instead)
