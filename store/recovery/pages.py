"""SQLite's file format, page by page, for files that SQLite itself refuses. Pure.

Headers, b-tree pages, cells and records. Any bytes may be given: what makes no sense is None or left out, never an
exception, and no loop is longer than the bytes that it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack, unpack_from

from msgspec import Struct

MAGIC = b"SQLite format 3\0"
SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
ENCODINGS = {1: "utf-8", 2: "utf-16-le", 3: "utf-16-be"}
# The kinds of b-tree page.
INDEX_INTERIOR = 2
TABLE_INTERIOR = 5
INDEX_LEAF = 10
TABLE_LEAF = 13
LOWEST = -(2**63)
"""The lowest rowid."""
HIGHEST = 2**63 - 1
"""The highest rowid."""
_INTERIOR = (INDEX_INTERIOR, TABLE_INTERIOR)
_WIDTHS = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""Bytes of a value by its serial type, up to 9. Types 10 and 11 are unused, and from 12 on they are blobs and texts."""
Value = None | int | float | str | bytes


class Undecoded(bytes):
    """A TEXT value whose bytes are not valid in the encoding of its file. A BLOB is plain bytes."""


class Header(Struct, frozen=True):
    """The first 100 bytes of a database. `pages` is 0 if the last writer did not keep it up to date."""

    page_size: int
    reserved: int
    pages: int
    freelist: int
    encoding: str
    user_version: int
    application_id: int
    vacuum: int
    """0, 1 for auto_vacuum=FULL, 2 for INCREMENTAL."""


def read_header(data: bytes) -> Header | None:
    """Return the header of a database, None if it cannot be one."""
    if len(data) < 100 or data[:16] != MAGIC or data[21:24] != b"\x40\x20\x20":
        return None
    (size,) = unpack_from(">H", data, 16)
    size = 65536 if size == 1 else size
    changes, pages, freelist, _, _, _, _, largest, encoding, user_version, incremental, application = unpack_from(
        ">IIIIIIIIIiIi", data, 24
    )
    if size not in SIZES or data[20] > size - 480 or encoding not in (0, 1, 2, 3):
        return None
    (valid_for,) = unpack_from(">I", data, 92)
    vacuum = 0 if not largest else 2 if incremental else 1
    return Header(
        size,
        data[20],
        pages if valid_for == changes else 0,
        freelist,
        ENCODINGS[encoding or 1],
        user_version,
        application,
        vacuum,
    )


class BTreePage(Struct, frozen=True):
    """A b-tree page. `cells` are the offsets that lie inside of it, `cells_outside` is how many do not.

    `right` is the last child of an interior page, 0 for a leaf.
    """

    kind: int
    cells: tuple[int, ...]
    cells_outside: int
    right: int


def read_node(page: bytes, usable: int, first: bool = False) -> BTreePage | None:
    """Return a page as a b-tree page, None if it is none. `first` is for page 1, which begins with the header."""
    start = 100 if first else 0
    if len(page) < start + 12:
        return None
    kind, count = page[start], int.from_bytes(page[start + 3 : start + 5], "big")
    if kind not in (*_INTERIOR, INDEX_LEAF, TABLE_LEAF):
        return None
    begin = start + (12 if kind in _INTERIOR else 8)
    end = begin + 2 * count
    if end > usable:
        return None
    offsets = unpack_from(f">{count}H", page, begin)
    cells = tuple(offset for offset in offsets if end <= offset <= usable - 2)
    right = int.from_bytes(page[start + 8 : start + 12], "big") if kind in _INTERIOR else 0
    return BTreePage(kind, cells, count - len(cells), right)


def varint(data: bytes, start: int) -> tuple[int, int] | None:
    """Return a number of one to nine bytes, as SQLite writes it, and where it ends; None if the data ends before."""
    value = 0
    for position in range(start, min(start + 8, len(data))):
        byte = data[position]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position + 1
    if start + 8 >= len(data):
        return None
    value = value << 8 | data[start + 8]
    return (value - (1 << 64) if value >> 63 else value), start + 9


class Cell(Struct, frozen=True):
    """A cell of a leaf or an index page: the part of a record that is in the page, and the page where it continues.

    `rowid` is None in an index. `overflow` is 0 if all of its `size` bytes are here. `stop` is where the cell ends.
    """

    rowid: int | None
    size: int
    local: bytes
    overflow: int
    stop: int


def read_cell(page: bytes, kind: int, start: int, usable: int) -> Cell | None:
    """Return a cell that holds a record, None if it does not fit in its page."""
    if kind == INDEX_INTERIOR:
        start += 4
    sized = varint(page, start)
    if sized is None or not 0 < sized[0] < 1 << 31:
        return None
    size, start = sized
    rowid = None
    if kind == TABLE_LEAF:
        named = varint(page, start)
        if named is None:
            return None
        rowid, start = named
    least = (usable - 12) * 32 // 255 - 23
    most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
    held = size
    if size > most:
        held = least + (size - least) % (usable - 4)
        held = held if held <= most else least
    stop = start + held + (4 if held < size else 0)
    if stop > usable:
        return None
    overflow = int.from_bytes(page[start + held : start + held + 4], "big") if held < size else 0
    return Cell(rowid, size, page[start : start + held], overflow, stop)


def children(page: bytes, node: BTreePage, lowest: int, highest: int) -> Iterator[tuple[int, int, int]]:
    """Yield the children of an interior page of a table, as (page, rowids are above this, highest rowid).

    The page's own rowids are above `lowest` up to `highest`. A cell whose rowid is not, or does not rise, is left out
    with its child.
    """
    last = lowest
    for offset in node.cells:
        key = varint(page, offset + 4)
        if key is not None and last <= key[0] <= highest:
            yield int.from_bytes(page[offset : offset + 4], "big"), last, key[0]
            last = key[0]
    yield node.right, last, highest


def read_types(record: bytes, size: int) -> tuple[tuple[int, ...], int] | None:
    """Return the serial types of a record of `size` bytes and where its values begin, None if they do not fit exactly.

    The beginning of a record is enough as long as it holds the types.
    """
    head = varint(record, 0)
    if head is None or not head[1] <= head[0] <= min(size, len(record)):
        return None
    stop, position = head
    types, total = [], stop
    while position < stop:
        serial_type = record[position]
        if serial_type < 0x80:
            position += 1
        else:
            read = varint(record, position)
            if read is None or read[0] < 0:
                return None
            serial_type, position = read
        if serial_type in (10, 11):
            return None
        total += width(serial_type)
        types.append(serial_type)
    return (tuple(types), stop) if position == stop and total == size else None


def width(kind: int) -> int:
    """Return the bytes of a value with this serial type."""
    return _WIDTHS[kind] if kind < 10 else kind - 12 >> 1


def read_values(record: bytes, types: tuple[int, ...], position: int, encoding: str) -> list[Value]:
    """Return the values of a whole record."""
    values: list[Value] = []
    for kind in types:
        stop = position + width(kind)
        values.append(_value(kind, record[position:stop], encoding))
        position = stop
    return values


def _value(kind: int, data: bytes, encoding: str) -> Value:
    if kind == 0:
        return None
    if kind == 7:
        return float(unpack(">d", data)[0])
    if kind < 7:
        return int.from_bytes(data, "big", signed=True)
    if kind < 10:
        return kind - 8
    if kind % 2 == 0:
        return data
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return Undecoded(data)


def is_full(page: bytes, size: int, reserved: int, first: bool = False) -> bool:
    """Return whether this is a full leaf: its cells make sense and reach exactly to its end.

    Nearly every leaf is. This tells the page size if the header does not.
    """
    usable = size - reserved
    node = read_node(page, usable, first)
    if node is None or node.kind in _INTERIOR or node.cells_outside or not node.cells:
        return False
    cells = [read_cell(page, node.kind, at, usable) for at in node.cells]
    return all(cells) and max(cell.stop for cell in cells if cell) == usable
