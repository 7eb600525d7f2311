"""How a session is written: prints tell whether a row changed, and the metadata line is a slot of fixed size.

The first line is padded with spaces, which nanobot reads and keeps, so it can be rewritten in place while rows are
appended at the end. During that, it says from which byte on rows are not yet part of the session. A reader that finds
this later leaves these rows out, since the save that wrote them never ended. Each save writes another `save_id`, which
tells two saves apart that look alike from outside.
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

PENDING, SAVE = "pending_from", "save_id"
"""Members of a metadata line: the first byte of a save under way, and which save wrote it."""
PAGE = 4_096
"""Bytes that the system writes whole or not at all, aligned to so many, whenever the process dies."""
_STEP, _FRONT_STEP, _SPARE, _CHUNK, _MARSHAL = 256, 64, 56, 1 << 18, 2
_NAMES = ("_type", "key", "created_at", "updated_at", SAVE, PENDING, "metadata", "last_consolidated")
_BEHIND_FRONT = b', "metadata": '
_print = msgspec.msgpack.Encoder().encode


# -- prints of rows


def prints_of(rows: Sequence[Any]) -> array[int]:
    """Return a print for each row: a number that differs if any value in the row does. Valid only in this process."""
    try:
        return array("q", map(hash, map(_print, rows)))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return array("q", map(_number, rows))


def _number(row: Any) -> int:
    # Half a surrogate pair, a huge integer, or a custom type. What nobody can write is found when it is written.
    for encoded in (_print, lambda one: marshal.dumps(one, _MARSHAL), json.dumps):
        with suppress(TypeError, ValueError, OverflowError, RecursionError):
            return hash(encoded(row))
    return id(row)


def same_rows(rows: Sequence[Any], prints: Sequence[int], stored: Sequence[int]) -> bool:
    """Return whether rows with these prints are those in a file, in which `{1: 2}` has become `{"1": 2}`."""

    def as_stored(at: int) -> int:
        with suppress(Unwritable):
            return prints_of([json.loads(row_line(rows[at], at))])[0]
        return prints[at]

    return len(prints) == len(stored) and all(
        own == there or as_stored(at) == there for at, (own, there) in enumerate(zip(prints, stored, strict=True))
    )


# -- what a file is known to hold


class Base(Struct):
    """What a session's file held when it was last read or written: the position and print of each row, and the
    metadata.

    A row that starts at -1 is not on a line of its own. `line` is the first line, empty if it is no metadata line that
    can be rewritten in place. `harm` says that not all bytes were understood, so the file is backed up before it is
    rewritten. `unfinished` says that a save never ended, `later` that nanobot 0.3 wrote it.
    """

    stat: Stat | None
    starts: array[int]
    stops: array[int]
    end: int
    prints: array[int]
    head: dict[str, Any]
    line: bytes = b""
    harm: bool = False
    unfinished: bool = False
    later: bool = False
    tried: str = ""

    def stands(self, file: FileIO) -> bool:
        """Return whether a file is surely unchanged: stat alone does not tell two saves within one tick apart."""
        certain = self.line and SAVE in self.head and not self.harm
        return (
            bool(certain) and stat_of(os.fstat(file.fileno())) == self.stat and file.read(len(self.line)) == self.line
        )


def nothing() -> Base:
    """Return the base of a session that has no file."""
    return Base(None, array("q"), array("q"), 0, array("q"), {})


_known: dict[int, tuple[weakref.ref[Session], Path, Base]] = {}


def base_of(session: Session, path: Path) -> Base | None:
    """Return what a session was loaded from or saved as in this file; None for one built by hand, or a copy.

    It is no attribute, because a copy would share it but not the rows that were saved since.
    """
    found = _known.get(id(session))
    return found[2] if found and found[0]() is session and found[1] == path else None


def remember(session: Session, path: Path, base: Base) -> None:
    """Set what `base_of` returns."""
    number = id(session)
    _known[number] = weakref.ref(session, lambda _: _known.pop(number, None)), path, base


class Own(Struct):
    """What a session is to be saved as: rows, their prints, lines of those that its file lacks, the metadata."""

    rows: list[Any]
    prints: array[int]
    fresh: dict[int, bytes]
    head: dict[str, Any]


def own_of(rows: list[Any], base: Base, head: dict[str, Any], begin: int = 0) -> Own:
    """Return what rows of a session, from `begin` on, are now, compared with its base. Raises Unwritable."""
    prints = prints_of(rows)
    first, last = common(prints, base.prints)
    there = set(base.prints[first : len(base.prints) - last])
    fresh = {
        prints[at]: row_line(rows[at], begin + at) for at in range(first, len(rows) - last) if prints[at] not in there
    }
    return Own(rows, prints, fresh, head)


def common(one: array[int], other: array[int]) -> tuple[int, int]:
    """Return how many items two arrays share at the beginning, and how many of the others at the end."""

    def most(limit: int, alike: Callable[[int], bool]) -> int:
        if alike(limit):
            return limit
        low = 0
        while limit - low > 1:
            half = (low + limit) // 2
            low, limit = (half, limit) if alike(half) else (low, half)
        return low

    shorter = min(len(one), len(other))
    first = most(shorter, lambda size: one[:size] == other[:size])
    return first, most(shorter - first, lambda size: one[len(one) - size :] == other[len(other) - size :])


# -- the metadata line


def written(head: Mapping[str, Any]) -> bytes:
    """Return a metadata line without what a save adds, for comparing."""
    return line_of({name: value for name, value in head.items() if name not in (PENDING, SAVE)}, "metadata")


def slot_of(head: Mapping[str, Any], like: bytes = b"") -> bytes | None:
    """Return a metadata line padded in the middle and at the end: to the length of `like` (None if it does not fit), or
    with spare room.

    What each save changes comes first, so that it is within the first page however long the rest is.
    """
    ordered = {name: head[name] for name in _NAMES if name in head} | dict(head)
    text = line_of(ordered, "metadata")[:-1]
    cut = text.find(_BEHIND_FRONT)
    front = like.find(_BEHIND_FRONT) if like else (cut + _SPARE + _FRONT_STEP) // _FRONT_STEP * _FRONT_STEP
    line = text[:cut].ljust(front) + text[cut:]
    size = len(like) or (len(line) // _STEP + 2) * _STEP
    return line.ljust(size - 1) + b"\n" if 0 < cut <= front and len(line) < size else None


def another(head: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata as another save writes it."""
    return {**head, SAVE: token_hex(8)}


def change(old: bytes, new: bytes) -> tuple[int, bytes]:
    """Return the first position at which two texts of one length differ, and the new bytes up to the last such
    position.
    """
    difference, size = int.from_bytes(old) ^ int.from_bytes(new), len(old)
    if not difference:
        return 0, b""
    first, last = (
        size - 1 - (difference.bit_length() - 1) // 8,
        size - 1 - ((difference & -difference).bit_length() - 1) // 8,
    )
    return first, new[first : last + 1]


def within_a_page(old: bytes, new: bytes) -> bool:
    """Return whether a text can be written over another so that, whenever the process dies, one of them is there
    whole.
    """
    at, data = change(old, new)
    return not data or at // PAGE == (at + len(data) - 1) // PAGE


# -- files


def append_rows(
    path: Path, base: Base, head: Mapping[str, Any], lines: Sequence[bytes], prints: array[int], sync: bool
) -> bool:
    """Write the metadata in place and append rows to the file of `base`. Return False if the metadata does not fit.

    Raises as `append` does.
    """
    if not base.line:
        return False
    coming = another(head)
    before, after = slot_of(base.head | {PENDING: base.end}, base.line), slot_of(coming, base.line)
    if (
        before is None
        or after is None
        or not within_a_page(base.line, before)
        or not within_a_page(before if lines else base.line, after)
    ):
        return False
    at = base.end
    # A user who may not write to a file may still replace it, as upstream does.
    if not os.access(path, os.W_OK):
        return False
    with open(path, "r+b", buffering=0) as file:
        status = os.fstat(file.fileno())
        # A hard link to this file is a backup, which must not change.
        if stat_of(status) != base.stat or status.st_nlink > 1:
            return False
        base.tried = coming[SAVE]
        append(file, base, before, after, b"".join(lines), sync)
    base.head = json.loads(after)
    for line in lines:
        base.starts.append(at)
        at += len(line)
        base.stops.append(at)
    base.prints.extend(prints)
    return True


def append(file: FileIO, base: Base, before: bytes, after: bytes, lines: bytes, sync: bool) -> None:
    """Append lines to the file of `base`. `before` is its first line while that is under way, `after` once it is done.

    Whenever the process dies, the session is as before or as after. Raises OSError, after undoing what it can.
    """
    fd, first = file.fileno(), base.line
    try:
        if lines:
            _write(file, *change(base.line, before))
            _write(file, base.end, lines)
            first = before
            # Otherwise the disk might have the metadata of rows that it does not have.
            if sync:
                os.fsync(fd)
        _write(file, *change(first, after))
        if sync:
            os.fsync(fd)
    except BaseException:
        # If this fails as well, the next reader finds a save that did not end.
        with suppress(OSError):
            os.ftruncate(fd, base.end)
            _write(file, 0, base.line)
            base.stat = stat_of(os.fstat(fd))
        raise
    base.stat, base.end, base.line = stat_of(os.fstat(fd)), base.end + len(lines), after


def _write(file: FileIO, at: int, data: bytes) -> None:
    file.seek(at)
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def whole_file(slot: bytes, own: Own, base: Base, path: Path, made: Base) -> Iterator[bytes]:
    """Yield the bytes of a whole file. Lines of unchanged rows are copied from the old one.

    `made` gets the positions of the rows. Raises OSError if the old file is no longer that of `base`.
    """
    first, last = common(own.prints, base.prints) if base.line else (0, 0)
    there = {base.prints[at]: at for at in range(first, len(base.prints) - last) if base.starts[at] >= 0}
    yield slot
    at = len(slot)
    with open(path, "rb", buffering=0) if base.stat and (there or first or last) else nullcontext() as old:
        if old and stat_of(os.fstat(old.fileno())) != base.stat:
            raise OSError(f"{path}: it was replaced meanwhile; try again")
        yield from _copied(old, base, 0, first)
        at = _moved(base, 0, first, at, made)
        for number in range(first, len(own.rows) - last):
            known = there.get(own.prints[number]) if old else None
            if known is None:
                line = own.fresh.get(own.prints[number]) or row_line(own.rows[number], number)
                yield line
                made.starts.append(at)
                at += len(line)
                made.stops.append(at)
            else:
                yield from _copied(old, base, known, known + 1)
                at = _moved(base, known, known + 1, at, made)
        yield from _copied(old, base, len(base.prints) - last, len(base.prints))
        at = _moved(base, len(base.prints) - last, len(base.prints), at, made)
    made.end, made.prints, made.line = at, own.prints, slot


def _moved(base: Base, start: int, stop: int, at: int, made: Base) -> int:
    """Record that consecutive rows of the old file now begin at byte `at`. Return where they end."""
    if start == stop:
        return at
    by = at - base.starts[start]
    for old, new in ((base.starts, made.starts), (base.stops, made.stops)):
        new.extend(old[start:stop] if not by else array("q", map(by.__add__, old[start:stop])))
    return made.stops[-1]


def _copied(old: FileIO | None, base: Base, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of consecutive rows of the old file."""
    if old is None or start == stop:
        return
    at, end = base.starts[start], base.stops[stop - 1]
    old.seek(at)
    while at < end:
        piece = old.read(min(end - at, _CHUNK))
        if not piece:
            raise OSError(f"{old.name}: it was cut off meanwhile; try again")
        at += len(piece)
        yield piece
