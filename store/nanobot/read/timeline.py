"""Timelines of a session's file. A display maps lines to rows, and only the bytes of those rows are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from sessionscope.store.model.outline import Display, StretchKind, only
from sessionscope.store.model.rows import Count, State, TimelineRow, View
from sessionscope.store.nanobot.format.clock import Clock
from sessionscope.store.nanobot.format.file import OpenFile
from sessionscope.store.nanobot.format.lines import FileOutline, stretches

from .record import HEAD_CHARS, RowId, bytes_for_line, timeline_row, words_in

Read = Callable[[Callable[[OpenFile], Any]], Any]
"""A function that opens the file and returns the result of another one on it."""
BATCH_BYTES = 262_144
"""Neighbouring rows that begin within so many bytes are read at once."""


def display_of(outline: FileOutline, view: View) -> Display:
    """Return the lines of a view, in the order of the file. Only the view of all rows has rows without a seq."""
    if view is View.ALL:
        return Display(
            (StretchKind.ROWS if has_seqs else StretchKind.WITHOUT_SEQ, first, last)
            for has_seqs, first, last in stretches(outline)
        )
    state = State.COMPACTED if view is View.COMPACTED else State.ACTIVE
    return only(outline.runs(state))


class FileTimeline:
    """A `Timeline` of the rows of one file.

    `about` says in words what the view cannot know. In a view of the context, `sent` maps seqs to the messages that the
    model is sent, which may differ from what is stored.
    """

    def __init__(
        self,
        read: Read,
        outline: FileOutline,
        offset: int,
        clock: Clock,
        display: Display,
        about: str = "",
        sent: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        self._read, self._outline, self._offset, self._clock = read, outline, offset, clock
        self._display, self._sent = display, sent
        self.length = Count(len(display))
        self.highest = display.highest
        self.digits = len(str(self.highest))
        if outline.unloaded_lines:
            self.digits = max(self.digits, len(f"L{outline.unloaded_lines[-1].line}"))
        self.about = about

    def locate(self, seq: int) -> int | None:
        return self._display.locate(seq)

    def nearest(self, seq: int) -> int:
        return self._display.nearest(seq)

    def window(self, start: int, stop: int) -> list[TimelineRow]:
        rows = [
            (self._outline.row_of(seq), seq) if kind is StretchKind.ROWS else (seq, None)
            for kind, first, last in self._display.slice(start, stop)
            for seq in range(first, last + 1)
        ]
        if not rows:
            return []
        timeline_rows: list[TimelineRow] = self._read(lambda file: self.rows(file, rows))
        return timeline_rows

    def rows(self, file: OpenFile, rows: Sequence[tuple[int, int | None]]) -> list[TimelineRow]:
        """Return the lines of rows, each given as (index, seq or None). Their heads are "…" if the file has changed."""
        if not self._outline.holds(file):
            # The file was replaced a moment ago. The watcher will ask again with the new outline.
            return [TimelineRow(row=None, seq=seq, state="", head="…") for _, seq in rows]
        row_ids = [RowId(*self._outline.span(row), seq, self._outline.unloaded(row)) for row, seq in rows]
        ranges = [(row_id.start, bytes_for_line(row_id.start, row_id.stop)) for row_id in row_ids]
        return [
            self._as_sent(timeline_row(row_id, self._offset, data, self._clock))
            for row_id, data in zip(row_ids, _read_ranges(file, ranges), strict=True)
        ]

    def _as_sent(self, row: TimelineRow) -> TimelineRow:
        """Return a line with the text that the model is sent, in a view of the context."""
        if self._sent is None or row.seq is None or (entry := self._sent.get(row.seq)) is None:
            return row
        return replace(row, head=words_in(entry.get("content"))[:HEAD_CHARS])


def _read_ranges(file: OpenFile, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the bytes of each range (start, stop). Neighbouring ranges are read at once."""
    data = b""
    data_start = data_stop = 0
    for index, (start, stop) in enumerate(ranges):
        if start < data_start or stop > data_stop:
            data_start, data_stop = start, _batch_stop(ranges, index)
            data = file.read(data_start, data_stop)
        yield data[start - data_start : stop - data_start]


def _batch_stop(ranges: Sequence[tuple[int, int]], index: int) -> int:
    """Return the end of the last range that is read together with the one at `index`."""
    batch_start, batch_stop = ranges[index]
    for start, stop in ranges[index + 1 :]:
        if not batch_stop <= start < batch_start + BATCH_BYTES:
            break
        batch_stop = stop
    return batch_stop


class Tail:
    """A `Timeline` of the last rows of a file without an outline. They have no seqs, which are not known yet."""

    about = ""
    highest = digits = 0

    def __init__(self, read: Read, outline: FileOutline, clock: Clock) -> None:
        self._read = read
        self._timeline = FileTimeline(read, outline, 0, clock, Display(()))
        self.length = Count(len(outline.starts), False)

    def locate(self, seq: int) -> int | None:
        return None

    def nearest(self, seq: int) -> int:
        return self.length.value - 1

    def window(self, start: int, stop: int) -> list[TimelineRow]:
        rows = [(row, None) for row in range(max(0, start), min(stop, self.length.value))]
        if not rows:
            return []
        timeline_rows: list[TimelineRow] = self._read(lambda file: self._timeline.rows(file, rows))
        return timeline_rows
