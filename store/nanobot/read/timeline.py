"""The rows of a session by their index in a view: a display tells which row is at which index, and a read gets its
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from sessionscope.store.model.outline import Display, StretchKind, only
from sessionscope.store.model.rows import Count, State, TimelineRow, View
from sessionscope.store.nanobot.format.clock import Clock
from sessionscope.store.nanobot.format.file import OpenFile
from sessionscope.store.nanobot.format.lines import FileOutline, stretches

from .record import HEAD_CHARS, RowId, bytes_for_line, timeline_row, words_in

Read = Callable[[Callable[[OpenFile], Any]], Any]
NEAR = 262_144
"""Rows that begin within so many bytes are read in one piece."""


def display_of(outline: FileOutline, view: View) -> Display:
    """Return the lines of a view in storage order. In the view of all rows, damage is shown in its place."""
    if view is View.ALL:
        return Display(
            (StretchKind.ROWS if plain_ else StretchKind.WITHOUT_SEQ, first, last)
            for plain_, first, last in stretches(outline)
        )
    state = State.COMPACTED if view is View.COMPACTED else State.ACTIVE
    return only(outline.runs(state))


class FileTimeline:
    """A `Timeline` of the rows of one file.

    In the context view, `sent` gives by seq what the model is sent instead of what is stored.
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
        self.digits = max(
            len(str(self.highest)), len(f"L{outline.unloaded_lines[-1].line}") if outline.unloaded_lines else 0
        )
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
        found: list[TimelineRow] = self._read(lambda file: self.rows(file, rows)) if rows else []
        return found

    def rows(self, file: OpenFile, rows: Sequence[tuple[int, int | None]]) -> list[TimelineRow]:
        """Return the rows by number and seq, near ones in one read."""
        if not self._outline.holds(file):
            # It was rewritten a moment ago. Whoever watches it asks again with the new outline.
            return [TimelineRow(row=None, seq=seq, state="", head="…") for _, seq in rows]
        spans = [self._outline.span(row) for row, _ in rows]
        found: list[TimelineRow] = []
        base = end = 0
        for at, ((row, seq), (start, stop)) in enumerate(zip(rows, spans, strict=True)):
            cut = bytes_for_line(start, stop)
            if not base <= start or cut > end:
                base, end = start, cut
                for begins, ends in spans[at + 1 :]:
                    if not end <= begins < base + NEAR:
                        break
                    end = bytes_for_line(begins, ends)
                data = file.read(base, end)
            place = RowId(start, stop, seq, self._outline.unloaded(row))
            line = timeline_row(place, self._offset, data[start - base : cut - base], self._clock)
            found.append(line if self._sent is None else self._as_sent(line))
        return found

    def _as_sent(self, row: TimelineRow) -> TimelineRow:
        entry = (self._sent or {}).get(row.seq or 0)
        return row if entry is None else replace(row, head=words_in(entry.get("content"))[:HEAD_CHARS])


class Tail:
    """The newest rows of a file whose outline is still to be made: without seqs, since those before are not counted."""

    about = ""
    highest = digits = 0

    def __init__(self, read: Read, outline: FileOutline, clock: Clock) -> None:
        self._read = read
        self._lines = FileTimeline(read, outline, 0, clock, Display(()))
        self.length = Count(len(outline.starts), False)

    def locate(self, seq: int) -> int | None:
        return None

    def nearest(self, seq: int) -> int:
        return self.length.value - 1

    def window(self, start: int, stop: int) -> list[TimelineRow]:
        rows = [(row, None) for row in range(max(0, start), min(stop, self.length.value))]
        found: list[TimelineRow] = self._read(lambda file: self._lines.rows(file, rows)) if rows else []
        return found
