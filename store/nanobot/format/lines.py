"""Which rows a session's file has and where each begins: a line index that gives any row without parsing the others.

A row is a message that nanobot loads, which has a seq, or a stray: damage, what was saved from it, or a private line
in the wrong place. `walk` makes the index.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from zlib import crc32

from msgspec import Struct

from sessionscope.store.model.outline import Outline

from .file import OpenFile, Stat

METADATA_AMONG_MESSAGES, STATE_AMONG_MESSAGES = (
    "a metadata line among the messages",
    "provider state among the messages",
)
SEALED, FIRST, SAMPLES, WHOLE = 256, 4_096, 16, 65_536
"""Bytes of the last row and of the first line, and rows, by which a file is known that was only appended to; rows of so
many bytes together count whole."""


class UnloadedLine(Struct, frozen=True):
    """A row without a seq: on which line it stands (from 1; 0 is not known), and why nanobot does not load it."""

    line: int
    why: tuple[str, ...]


class FileOutline(Outline, frozen=True, kw_only=True):
    """The rows of one file. Row i, from 0, begins at byte `starts[i]` and ends where the next one begins.

    `strays` are the rows without a seq, ascending, and `odd` says of each why. `metadata` and `provider` are the bytes
    (start, stop) of the metadata lines that nanobot loads, in order, and of its provider's state.
    """

    starts: array[int]
    end: int
    unloaded_lines: tuple[UnloadedLine, ...] = ()
    metadata: tuple[tuple[int, int], ...] = ()
    provider: tuple[int, int] | None = None
    lost: tuple[tuple[str, int], ...] = ()
    """Why releases give the whole file up, each with its line."""
    breaks: int = 0
    """How many lines end before `end`."""
    stat: Stat | None = None
    seal: int = 0
    """A check of the first line and of some rows, which stay as they are where the file is only appended to."""
    certain: bool = True
    """Whether all of the file was read for it, not just what seems to have been appended since."""

    @property
    def messages(self) -> int:
        """How many messages nanobot loads, unless it gives the file up."""
        return len(self.starts) - len(self.rows_without_seq)

    def holds(self, file: OpenFile) -> bool:
        """Whether the rows still stand where they did: in the same file, to which at most something was appended."""
        return file.stat == self.stat or (
            self.stat is not None
            and file.stat.inode == self.stat.inode
            and file.size >= self.end
            and seal_of(file, self.starts, self.end) == self.seal
        )

    @property
    def resumes(self) -> int:
        """The last row that nothing appended can change, so that only what follows is read again; -1 for none."""
        row = len(self.starts) - 2
        while row >= 0 and self.unloaded(row) is not None:
            row -= 1
        return row

    def row_of(self, seq: int) -> int:
        """The row of a seq from 1 to `messages`."""
        low, high = seq - 1, seq - 1 + len(self.rows_without_seq)
        while low < high:
            middle = (low + high) // 2
            if middle + 1 - bisect_left(self.rows_without_seq, middle + 1) < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def seq_of(self, row: int) -> int:
        """The seq of a row that is no stray."""
        return row + 1 - bisect_left(self.rows_without_seq, row)

    def span(self, row: int) -> tuple[int, int]:
        """Where a row's bytes begin and end."""
        return self.starts[row], self.starts[row + 1] if row + 1 < len(self.starts) else self.end

    @property
    def needs_full_read(self) -> bool:
        """Never: rows with odd seqs are found again as cheaply as others."""
        return False

    def unloaded(self, row: int) -> UnloadedLine | None:
        """What is wrong with a row, None where it is a message."""
        at = bisect_left(self.rows_without_seq, row)
        return self.unloaded_lines[at] if at < len(self.rows_without_seq) and self.rows_without_seq[at] == row else None


def seal_of(file: OpenFile, starts: array[int], end: int) -> int:
    """A check of a file's first line, of its last row, and of some rows between them."""
    check = crc32(file.read(0, min(FIRST, starts[0] if starts else end)))
    if starts and end - starts[0] <= WHOLE:
        return crc32(file.read(starts[0], end), check)
    if starts:
        for at in range(0, len(starts), max(1, len(starts) // SAMPLES)):
            check = crc32(file.read(starts[at], min(starts[at] + SEALED // 4, end)), check)
        check = crc32(file.read(starts[-1], min(starts[-1] + SEALED, end)), check)
    return check


def stretches(outline: FileOutline) -> Iterator[tuple[bool, int, int]]:
    """All rows in order, as (whether they have seqs, first, last): seqs of messages, or twice the row of a stray."""
    seq, before = 1, 0
    for row in outline.rows_without_seq:
        if row > before:
            yield True, seq, seq + row - before - 1
            seq += row - before
        yield False, row, row
        before = row + 1
    if len(outline.starts) > before:
        yield True, seq, outline.messages
