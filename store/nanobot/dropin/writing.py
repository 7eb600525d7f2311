"""Writes of a session file: row hashes that show what changed, appended rows, and whole files.

The metadata line is padded with spaces, which nanobot reads and keeps. So it can be overwritten in place while rows are
appended at the end. During such a save, the line says from which byte on rows are not part of the session yet. A reader
that finds this later leaves these rows out, since the save never ended. Each save writes a new `save_id`, so that two
saves after which a file has the same size and time are told apart.
"""

from __future__ import annotations

import json
import marshal
import os
import weakref
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from io import FileIO
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
from msgspec import Struct

from sessionscope.store.nanobot.format.file import Stat, stat_of

from .row_lines import Unwritable, line_of, row_line
from .session import Session

PENDING = "pending_from"
"""The member of a metadata line that holds the first byte of a save under way."""
SAVE = "save_id"
"""The member of a metadata line that says which save wrote it."""
PAGE = 4_096
"""How many aligned bytes the system writes together: a process that dies leaves all or none of them written."""
_LINE_STEP = 256
"""The size of a padded metadata line is a multiple of this, in bytes."""
_FRONT_STEP = 64
"""The size of the padded part before the session's metadata is a multiple of this, in bytes."""
_FRONT_SPARE = 56
"""How many bytes that part can grow at least, rounded up to a step: a save adds `PENDING`."""
_COPY_BYTES = 1 << 18
"""How many bytes of an old file are copied at once."""
_MARSHAL_VERSION = 2
"""A version of the marshal format in which equal values have equal bytes: it has no references."""
_MEMBERS = ("_type", "key", "created_at", "updated_at", SAVE, PENDING, "metadata", "last_consolidated")
"""The order of the members of a metadata line."""
_FRONT_END = b', "metadata": '
_encode = msgspec.msgpack.Encoder().encode


# -- row hashes


def row_hashes(rows: Sequence[Any]) -> array[int]:
    """Return a hash of each row that covers all values in it. Hashes of different processes are not comparable."""
    try:
        return array("q", map(hash, map(_encode, rows)))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return array("q", map(_row_hash, rows))


def _row_hash(row: Any) -> int:
    # msgpack takes no half of a surrogate pair, huge integer or foreign type. A row that cannot be written at all is
    # reported when it is saved.
    for encode in (_encode, lambda value: marshal.dumps(value, _MARSHAL_VERSION), json.dumps):
        with suppress(TypeError, ValueError, OverflowError, RecursionError):
            return hash(encode(row))
    return id(row)


def same_rows(rows: Sequence[Any], hashes: Sequence[int], stored_hashes: Sequence[int]) -> bool:
    """Return whether rows are those of a file. `hashes` are theirs, `stored_hashes` those of the file's rows.

    A row counts as the same if only writing it changed it, as `{1: 2}` becomes `{"1": 2}`.
    """

    def hash_as_stored(index: int) -> int:
        with suppress(Unwritable):
            return row_hashes([json.loads(row_line(rows[index], index))])[0]
        return hashes[index]

    return len(hashes) == len(stored_hashes) and all(
        own == stored or hash_as_stored(index) == stored
        for index, (own, stored) in enumerate(zip(hashes, stored_hashes, strict=True))
    )


# -- what a file is known to hold


class Base(Struct):
    """What a session's file held when it was last read or written."""

    stat: Stat | None
    """What the file looked like, or None if it did not exist."""
    starts: array[int]
    """The first byte of each row, or -1 if the row is not a line of its own that can be copied."""
    stops: array[int]
    """The byte after each row."""
    end: int
    """The size of the file in bytes."""
    hashes: array[int]
    """The hash of each row."""
    head: dict[str, Any]
    """The members of the metadata line."""
    head_line: bytes = b""
    """The first line, or empty if it is no metadata line that can be overwritten in place."""
    incomplete: bool = False
    """Whether the rows and the metadata lack something of the file. It is quarantined before it is written again."""
    unfinished: bool = False
    """Whether the last save never ended, or is still under way."""
    later: bool = False
    """Whether nanobot 0.3 or later wrote the file."""
    last_save_id: str = ""
    """The `save_id` of our own last try to save, which may have failed after it was written."""

    def matches(self, file: FileIO) -> bool:
        """Return whether an open file is certainly unchanged. Reads the metadata line from the current position.

        The stat alone does not show a second save within one tick of the file system's clock.
        """
        if not self.head_line or SAVE not in self.head or self.incomplete:
            return False
        return stat_of(os.fstat(file.fileno())) == self.stat and file.read(len(self.head_line)) == self.head_line


def empty_base() -> Base:
    """Return the base of a session that has no file."""
    return Base(None, array("q"), array("q"), 0, array("q"), {})


_bases: dict[int, tuple[weakref.ref[Session], Path, Base]] = {}
"""The base of each living session, by its `id()`."""


def base_of(session: Session, path: Path) -> Base | None:
    """Return what a session's file held when the session was last read from it or saved to it.

    None for a session that was built by hand, or is a copy. This is no attribute of the session, because a copy would
    share it, but not the rows that were saved since.
    """
    known = _bases.get(id(session))
    if known is None:
        return None
    reference, known_path, base = known
    return base if reference() is session and known_path == path else None


def remember(session: Session, path: Path, base: Base) -> None:
    """Set what `base_of` returns."""
    session_id = id(session)
    _bases[session_id] = weakref.ref(session, lambda _: _bases.pop(session_id, None)), path, base


class Snapshot(Struct):
    """What a session is to be saved as."""

    rows: list[Any]
    hashes: array[int]
    new_lines: dict[int, bytes]
    """The lines of the rows that the file lacks, by their hash."""
    head: dict[str, Any]
    """The members of the metadata line."""

    def is_same_as(self, base: Base) -> bool:
        """Return whether a save has nothing to write."""
        if not base.head or self.hashes != base.hashes:
            return False
        return line_without_save(self.head) == line_without_save(base.head)


def snapshot_of(rows: list[Any], base: Base, head: dict[str, Any], first_index: int = 0) -> Snapshot:
    """Return what a session is to be saved as, compared with its base.

    `rows` begin at `first_index` of the session's messages. Raises Unwritable for a row that the file lacks.
    """
    hashes = row_hashes(rows)
    same_first, same_last = common_ends(hashes, base.hashes)
    stored = set(base.hashes[same_first : len(base.hashes) - same_last])
    new_lines = {
        hashes[index]: row_line(rows[index], first_index + index)
        for index in range(same_first, len(rows) - same_last)
        if hashes[index] not in stored
    }
    return Snapshot(rows, hashes, new_lines, head)


def common_ends(hashes: array[int], others: array[int]) -> tuple[int, int]:
    """Return how many items are the same at the beginning of two arrays, and how many of the rest at their end."""

    def longest(limit: int, is_same: Callable[[int], bool]) -> int:
        if is_same(limit):
            return limit
        low = 0
        while limit - low > 1:
            middle = (low + limit) // 2
            low, limit = (middle, limit) if is_same(middle) else (low, middle)
        return low

    shorter = min(len(hashes), len(others))
    first = longest(shorter, lambda size: hashes[:size] == others[:size])
    last = longest(shorter - first, lambda size: hashes[len(hashes) - size :] == others[len(others) - size :])
    return first, last


# -- the metadata line


def line_without_save(head: Mapping[str, Any]) -> bytes:
    """Return a metadata line without the members that a save adds, to see whether anything else changed."""
    return line_of({name: value for name, value in head.items() if name not in (PENDING, SAVE)}, "metadata")


def padded_line(head: Mapping[str, Any], like: bytes = b"") -> bytes | None:
    """Return a metadata line, padded before the session's metadata and at the end.

    With `like`, the padding is that of this line, and the result is None if the line does not fit. Without, there is
    room to grow. The members that every save changes are in front, so that they are within the first page, however long
    the rest is.
    """
    ordered = {name: head[name] for name in _MEMBERS if name in head} | dict(head)
    text = line_of(ordered, "metadata")[:-1]
    text_front = text.find(_FRONT_END)
    front = like.find(_FRONT_END) if like else (text_front + _FRONT_SPARE + _FRONT_STEP) // _FRONT_STEP * _FRONT_STEP
    line = text[:text_front].ljust(front) + text[text_front:]
    size = len(like) if like else (len(line) // _LINE_STEP + 2) * _LINE_STEP
    fits = 0 < text_front <= front and len(line) < size
    return line.ljust(size - 1) + b"\n" if fits else None


def with_new_save_id(head: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a metadata line with another `save_id`."""
    return {**head, SAVE: token_hex(8)}


def difference(old: bytes, new: bytes) -> tuple[int, bytes]:
    """Return the part of `new` from the first to the last byte that differs from `old`, as (offset, bytes).

    Both have the same size. The bytes are empty if nothing differs.
    """
    bits, size = int.from_bytes(old) ^ int.from_bytes(new), len(old)
    if not bits:
        return 0, b""
    lowest_bit = (bits & -bits).bit_length() - 1
    highest_bit = bits.bit_length() - 1
    first, last = size - 1 - highest_bit // 8, size - 1 - lowest_bit // 8
    return first, new[first : last + 1]


def is_within_a_page(old: bytes, new: bytes) -> bool:
    """Return whether `new` can be written over `old` so that a process that dies leaves one of them whole."""
    offset, data = difference(old, new)
    return not data or offset // PAGE == (offset + len(data) - 1) // PAGE


# -- files


def append_rows(
    path: Path, base: Base, head: Mapping[str, Any], lines: Sequence[bytes], hashes: array[int], sync: bool
) -> bool:
    """Append rows to the file of `base`, and overwrite its metadata line. Return whether they were written.

    Nothing is written if the metadata line does not fit, or if the file has changed or may not be written. Raises
    OSError after undoing what it can.
    """
    if not base.head_line:
        return False
    new_head = with_new_save_id(head)
    during = padded_line(base.head | {PENDING: base.end}, base.head_line)
    after = padded_line(new_head, base.head_line)
    if (
        during is None
        or after is None
        or not is_within_a_page(base.head_line, during)
        or not is_within_a_page(during if lines else base.head_line, after)
    ):
        return False
    # A file that may not be written may still be replaced, as upstream does.
    if not os.access(path, os.W_OK):
        return False
    start = base.end
    with open(path, "r+b", buffering=0) as file:
        status = os.fstat(file.fileno())
        # Another hard link to this file may be a backup, which must not change.
        if stat_of(status) != base.stat or status.st_nlink > 1:
            return False
        base.last_save_id = new_head[SAVE]
        _append(file, base, during, after, b"".join(lines), sync)
    base.head = json.loads(after)
    for line in lines:
        base.starts.append(start)
        start += len(line)
        base.stops.append(start)
    base.hashes.extend(hashes)
    return True


def _append(file: FileIO, base: Base, during: bytes, after: bytes, lines: bytes, sync: bool) -> None:
    """Append lines to the file of `base`. Its first line is `during` until they are written, and then `after`.

    A process that dies at any point leaves the session as before or as after. Raises OSError after undoing what it can.
    """
    fd, present = file.fileno(), base.head_line
    try:
        if lines:
            _write_at(file, *difference(base.head_line, during))
            _write_at(file, base.end, lines)
            present = during
            # Otherwise the disk might get the metadata before the rows that it counts.
            if sync:
                os.fsync(fd)
        _write_at(file, *difference(present, after))
        if sync:
            os.fsync(fd)
    except BaseException:
        # If this fails as well, the next reader finds a save that did not end.
        with suppress(OSError):
            os.ftruncate(fd, base.end)
            _write_at(file, 0, base.head_line)
            base.stat = stat_of(os.fstat(fd))
        raise
    base.stat, base.end, base.head_line = stat_of(os.fstat(fd)), base.end + len(lines), after


def _write_at(file: FileIO, offset: int, data: bytes) -> None:
    file.seek(offset)
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def whole_file(head_line: bytes, snapshot: Snapshot, base: Base, path: Path, made: Base) -> Iterator[bytes]:
    """Yield the bytes of a whole new file. Lines of rows that the old file holds are copied from it.

    `made` gets the places of the rows in the new file. Raises OSError if the old file is no longer that of `base`.
    """
    stored = len(base.hashes)
    same_first, same_last = common_ends(snapshot.hashes, base.hashes) if base.head_line else (0, 0)
    stored_indexes = {
        base.hashes[index]: index for index in range(same_first, stored - same_last) if base.starts[index] >= 0
    }
    reads_old = base.stat and (stored_indexes or same_first or same_last)
    yield head_line
    end = len(head_line)
    with open(path, "rb", buffering=0) if reads_old else nullcontext() as old:
        if old and stat_of(os.fstat(old.fileno())) != base.stat:
            raise OSError(f"{path}: it was replaced meanwhile; try again")
        yield from _copied(old, base, 0, same_first)
        end = _record_copied(base, 0, same_first, end, made)
        for index in range(same_first, len(snapshot.rows) - same_last):
            row_hash = snapshot.hashes[index]
            stored_index = stored_indexes.get(row_hash) if old else None
            if stored_index is None:
                line = snapshot.new_lines.get(row_hash) or row_line(snapshot.rows[index], index)
                yield line
                made.starts.append(end)
                end += len(line)
                made.stops.append(end)
            else:
                yield from _copied(old, base, stored_index, stored_index + 1)
                end = _record_copied(base, stored_index, stored_index + 1, end, made)
        yield from _copied(old, base, stored - same_last, stored)
        end = _record_copied(base, stored - same_last, stored, end, made)
    made.end, made.hashes, made.head_line = end, snapshot.hashes, head_line


def _record_copied(base: Base, start: int, stop: int, new_start: int, made: Base) -> int:
    """Note in `made` that the rows `start` to `stop` of the old file now begin at byte `new_start`.

    They follow each other in the old file. Returns the byte after the last one.
    """
    if start == stop:
        return new_start
    shift = new_start - base.starts[start]
    for old, new in ((base.starts, made.starts), (base.stops, made.stops)):
        new.extend(old[start:stop] if not shift else array("q", map(shift.__add__, old[start:stop])))
    return made.stops[-1]


def _copied(old: FileIO | None, base: Base, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of the rows `start` to `stop` of the old file, which follow each other there."""
    if old is None or start == stop:
        return
    offset, end = base.starts[start], base.stops[stop - 1]
    old.seek(offset)
    while offset < end:
        piece = old.read(min(end - offset, _COPY_BYTES))
        if not piece:
            raise OSError(f"{old.name}: it was cut off meanwhile; try again")
        offset += len(piece)
        yield piece
