"""The rows of a session's file and where each begins: an index by which any row is read without parsing the others.

A row is a message that nanobot loads, which has a seq, or a row without seq: damage, what was saved from it, or a
private line in the wrong place. `line_scan` makes the index.
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
"""How a file that was only appended to is recognised: bytes of the last row and of the first line, sampled rows, and
the size of a group of rows that is compared whole.
"""


class UnloadedLine(Struct, frozen=True):
    """A row without a seq: its line (from 1; 0 if unknown), and why nanobot does not load it."""

    line: int
    why: tuple[str, ...]


class FileOutline(Outline, frozen=True, kw_only=True):
    """The rows of one file. Row i, from 0, begins at byte `starts[i]` and ends where the next one begins.

    `rows_without_seq` are ascending, and `unloaded_lines` says of each why it has none. `metadata` and `provider` are
    the bytes (start, stop) of the metadata lines that nanobot loads, in order, and of its provider's state.
    """

    starts: array[int]
    end: int
    unloaded_lines: tuple[UnloadedLine, ...] = ()
    metadata: tuple[tuple[int, int], ...] = ()
    provider: tuple[int, int] | None = None
    lost: tuple[tuple[str, int], ...] = ()
    """Why releases give up the whole file, each with its line."""
    breaks: int = 0
    """How many lines end before `end`."""
    stat: Stat | None = None
    seal: int = 0
    """A checksum of the first line and of some rows, which stay the same if the file is only appended to."""
    certain: bool = True
    """Whether the whole file was read for it, rather than only what seems to have been appended."""

    @property
    def messages(self) -> int:
        """How many messages nanobot loads, unless it gives up the file."""
        return len(self.starts) - len(self.rows_without_seq)

    def holds(self, file: OpenFile) -> bool:
        """Return whether the rows are still in the same places: in the same file, to which at most something was
        appended.
        """
        return file.stat == self.stat or (
            self.stat is not None
            and file.stat.inode == self.stat.inode
            and file.size >= self.end
            and seal_of(file, self.starts, self.end) == self.seal
        )

    @property
    def resumes(self) -> int:
        """The last row that nothing appended can change, after which a scan can resume; -1 for none."""
        row = len(self.starts) - 2
        while row >= 0 and self.unloaded(row) is not None:
            row -= 1
        return row

    def row_of(self, seq: int) -> int:
        """Return the row of a seq from 1 to `messages`."""
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
        """Return where a row's bytes begin and end."""
        return self.starts[row], self.starts[row + 1] if row + 1 < len(self.starts) else self.end

    @property
    def needs_full_read(self) -> bool:
        """False: rows without a seq are found again as cheaply as others."""
        return False

    def unloaded(self, row: int) -> UnloadedLine | None:
        """Return what is wrong with a row, None if it is a message."""
        at = bisect_left(self.rows_without_seq, row)
        return self.unloaded_lines[at] if at < len(self.rows_without_seq) and self.rows_without_seq[at] == row else None


def seal_of(file: OpenFile, starts: array[int], end: int) -> int:
    """Return a checksum of a file's first line, of its last row, and of some rows between them."""
    check = crc32(file.read(0, min(FIRST, starts[0] if starts else end)))
    if starts and end - starts[0] <= WHOLE:
        return crc32(file.read(starts[0], end), check)
    if starts:
        for at in range(0, len(starts), max(1, len(starts) // SAMPLES)):
            check = crc32(file.read(starts[at], min(starts[at] + SEALED // 4, end)), check)
        check = crc32(file.read(starts[-1], min(starts[-1] + SEALED, end)), check)
    return check


def stretches(outline: FileOutline) -> Iterator[tuple[bool, int, int]]:
    """Yield all rows in order, as (whether they have seqs, first, last): seqs of messages, or twice the same row
    without seq.
    """
    seq, before = 1, 0
    for row in outline.rows_without_seq:
        if row > before:
            yield True, seq, seq + row - before - 1
            seq += row - before
        yield False, row, row
        before = row + 1
    if len(outline.starts) > before:
        yield True, seq, outline.messages
