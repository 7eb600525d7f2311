"""Index of the rows of a session's file, by which any row is read without parsing the others.

A row is a message that nanobot loads, which has a seq, or a row without a seq: damage, what was saved of it, or a line
of nanobot's own in the wrong place. `line_scan` makes the index.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from zlib import crc32

from msgspec import Struct

from sessionscope.store.model.outline import Outline

from .file import OpenFile, Stat

METADATA_AMONG_MESSAGES = "a metadata line among the messages"
"""Why nanobot's metadata line is shown as a row without a seq."""
STATE_AMONG_MESSAGES = "provider state among the messages"
"""Why the line of nanobot's provider state is shown as a row without a seq."""

FIRST_LINE_BYTES = 4_096
"""At most so many bytes before the first row are part of a file's checksum."""
SAMPLED_ROWS = 16
"""Of a long file, about so many rows are part of its checksum."""
SAMPLED_ROW_BYTES = 64
"""How many bytes of each sampled row are part of the checksum."""
LAST_ROW_BYTES = 256
"""How many bytes of the last row are part of the checksum."""
SMALL_ROWS_BYTES = 65_536
"""If all rows together have at most so many bytes, the checksum is of all of them."""


class UnloadedLine(Struct, frozen=True):
    """A row without a seq."""

    line: int
    """The line of the file on which it begins, from 1, or 0 if that is not known."""
    why: tuple[str, ...]
    """Why nanobot does not load it."""


class FileOutline(Outline, frozen=True, kw_only=True):
    """The rows of one file. `rows_without_seq` are indexes of rows, ascending."""

    starts: array[int]
    """The first byte of each row. A row ends where the next one begins."""
    end: int
    """The byte after the last row."""
    unloaded_lines: tuple[UnloadedLine, ...] = ()
    """One for each of `rows_without_seq`, in the same order."""
    metadata: tuple[tuple[int, int], ...] = ()
    """The bytes (start, stop) of each metadata line that nanobot loads, in order."""
    provider: tuple[int, int] | None = None
    """The bytes (start, stop) of the provider state that nanobot loads."""
    lost: tuple[tuple[str, int], ...] = ()
    """The reasons for which a release does not load the file at all, each with its line."""
    breaks: int = 0
    """How many lines end before `end`."""
    stat: Stat | None = None
    seal: int = 0
    """A checksum of the first line and of some rows. It stays the same while the file is only appended to."""
    certain: bool = True
    """Whether the whole file was read for it, not only what seems to have been appended."""

    @property
    def messages(self) -> int:
        """How many messages nanobot loads, unless it gives the file up."""
        return len(self.starts) - len(self.rows_without_seq)

    def holds(self, file: OpenFile) -> bool:
        """Return whether its rows are still at the same bytes: the file is the same or was only appended to."""
        if self.stat is None:
            return False
        if file.stat == self.stat:
            return True
        if file.stat.inode != self.stat.inode or file.size < self.end:
            return False
        return seal_of(file, self.starts, self.end) == self.seal

    @property
    def resumes(self) -> int:
        """The index of the last row that appended bytes cannot change, or -1. Only what follows it is read again.

        It is a row with a seq, and not the last row of the file, whose line may be continued.
        """
        row = len(self.starts) - 2
        while row >= 0 and self.unloaded(row) is not None:
            row -= 1
        return row

    def row_of(self, seq: int) -> int:
        """Return the index of the row of a seq from 1 to `messages`."""
        low, high = seq - 1, seq - 1 + len(self.rows_without_seq)
        while low < high:
            middle = (low + high) // 2
            if middle + 1 - bisect_left(self.rows_without_seq, middle + 1) < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def seq_of(self, row: int) -> int:
        """Return the seq of a row that has one."""
        return row + 1 - bisect_left(self.rows_without_seq, row)

    def span(self, row: int) -> tuple[int, int]:
        """Return the bytes (start, stop) of a row."""
        return self.starts[row], self.starts[row + 1] if row + 1 < len(self.starts) else self.end

    @property
    def needs_full_read(self) -> bool:
        """False: appended lines are added to any outline, even if it has rows without a seq."""
        return False

    def unloaded(self, row: int) -> UnloadedLine | None:
        """Return why a row is not loaded, or None if it is a message."""
        index = bisect_left(self.rows_without_seq, row)
        if index < len(self.rows_without_seq) and self.rows_without_seq[index] == row:
            return self.unloaded_lines[index]
        return None


def seal_of(file: OpenFile, starts: array[int], end: int) -> int:
    """Return the checksum of a file with rows at `starts` that end at byte `end`.

    It covers the beginning of the first line, and the beginnings of the last row and of some rows before it.
    """
    checksum = crc32(file.read(0, min(FIRST_LINE_BYTES, starts[0] if starts else end)))
    if not starts:
        return checksum
    if end - starts[0] <= SMALL_ROWS_BYTES:
        return crc32(file.read(starts[0], end), checksum)
    for start in starts[:: max(1, len(starts) // SAMPLED_ROWS)]:
        checksum = crc32(file.read(start, min(start + SAMPLED_ROW_BYTES, end)), checksum)
    return crc32(file.read(starts[-1], min(starts[-1] + LAST_ROW_BYTES, end)), checksum)


def stretches(outline: FileOutline) -> Iterator[tuple[bool, int, int]]:
    """Yield all rows in order, as (has seqs, first, last).

    Neighbouring messages are one stretch, from their first to their last seq. A row without a seq is a stretch of its
    own, with its index as both ends.
    """
    next_seq, next_row = 1, 0
    for row in outline.rows_without_seq:
        if row > next_row:
            yield True, next_seq, next_seq + row - next_row - 1
            next_seq += row - next_row
        yield False, row, row
        next_row = row + 1
    if len(outline.starts) > next_row:
        yield True, next_seq, outline.messages
