"""The rows of a damaged database: those that its b-trees still lead to, and leaves that nothing leads to any longer.

Each page belongs to one tree at most and is read a bounded number of times, so no cycle and no nonsense makes it slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from sessionscope.store.model.errors import Cancelled
from sessionscope.store.model.plans import Progress, silent
from sessionscope.store.protocols import Cancel, never

from .image import Image
from .pages import (
    HIGHEST,
    INDEX_INTERIOR,
    INDEX_LEAF,
    LOWEST,
    TABLE_INTERIOR,
    TABLE_LEAF,
    BTreePage,
    Cell,
    Value,
    children,
    read_cell,
    read_node,
    read_types,
    read_values,
)

# What a page is used for.
_FREE = 1
_TREE = 2
_OVERFLOW = 3
_BURST = 64
"""How many pages are read between two calls of `cancel`."""
_VISITS = 8
"""How many visits of pages are allowed, for each page of the file."""
Fits = Callable[[tuple[int, ...]], bool]
"""Returns whether a record with these serial types could be a row of a table."""


class TableRow(Struct, frozen=True):
    """A row as it is stored. `values` may be fewer than its table has columns."""

    rowid: int
    values: list[Value]


class TreeReport(Struct):
    """What was found of one table's tree.

    `gaps` are ranges of rowids (above the first, up to the second) whose pages were not found. `unreadable` counts the
    cells of its leaves that make no sense. `displaced_leaves` are leaves that hold rows of other rowids, with their
    range.
    """

    gaps: list[tuple[int, int]]
    unreadable: int = 0
    displaced_leaves: list[tuple[int, int, int]] = []

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return not (self.gaps or self.unreadable)

    def lacks(self, rowid: int) -> bool:
        """Return whether a row may have been on a page that was not found."""
        return any(lowest < rowid <= highest or rowid == LOWEST == lowest for lowest, highest in self.gaps)


class Trees:
    """The pages of an image, and the trees that they belong to."""

    def __init__(self, image: Image, progress: Progress = silent, cancel: Cancel = never) -> None:
        self.image, self._progress, self._cancel = image, progress, cancel
        self._owner, self._done = bytearray(image.count + 1), 0
        self._budget = _VISITS * image.count + 1000
        self._bad = bytearray(image.count + 1)
        for number in image.layer.broken if image.layer else ():
            if self._exists(number):
                self._bad[number] = 1
        if image.torn and self._exists(image.count):
            self._bad[image.count] = 1
        self._free_pages()

    def damaged(self) -> Iterator[tuple[int, int]]:
        """Yield runs of pages that should be readable but are not, so far, as first and last page."""
        start = self._bad.find(1)
        while start >= 0:
            stop = self._bad.find(0, start)
            stop = len(self._bad) if stop < 0 else stop
            yield start, stop - 1
            start = self._bad.find(1, stop)

    def _step(self) -> None:
        self._done += 1
        if self._done % _BURST == 0:
            if self._cancel():
                raise Cancelled("stopped.")
            self._progress("pages", min(self._done, self.image.count), self.image.count)

    def _exists(self, number: int) -> bool:
        return 1 <= number <= self.image.count

    def _free_pages(self) -> None:
        """Mark the pages of the free list. Without a header, any page that could only be a part of that list counts."""
        if self.image.header:
            number = self.image.header.freelist
            while self._exists(number) and not self._owner[number]:
                self._owner[number] = _FREE
                number = self._trunk(self.image.page(number), number)
        else:
            for number in range(2, self.image.count + 1):
                page = self.image.page(number)
                if not self._owner[number] and self._is_trunk(page):
                    self._trunk(page, number)

    def _trunk(self, page: bytes, number: int) -> int:
        """Mark the pages that a trunk of the free list names, and return the next trunk."""
        self._owner[number] = _FREE
        for leaf in _words(page, min(_word(page, 4), self.image.usable // 4 - 2)):
            if self._exists(leaf) and leaf > 1:
                self._owner[leaf] = _FREE
        return _word(page, 0)

    def _is_trunk(self, page: bytes) -> bool:
        count = _word(page, 4)
        if not 0 < count <= self.image.usable // 4 - 2 or not (_word(page, 0) == 0 or self._exists(_word(page, 0))):
            return False
        leaves = _words(page, count)
        return len(set(leaves)) == count and all(leaf > 1 and self._exists(leaf) for leaf in leaves)

    # -- tables

    def rows(self, root: int, fits: Fits, report: TreeReport) -> Iterator[list[TableRow]]:
        """Yield the rows of a table's tree, a leaf at a time in order of their rowids.

        `report` is filled on the way.
        """
        stack = [(root, LOWEST, HIGHEST)]
        while stack:
            number, lowest, highest = stack.pop()
            self._step()
            node, page = self._node(number, (TABLE_INTERIOR, TABLE_LEAF))
            if node is None:
                report.gaps.append((lowest, highest))
            elif node.kind == TABLE_INTERIOR:
                below = list(children(page, node, lowest, highest))
                if len(below) <= len(node.cells) or node.cells_outside:
                    self._bad[number] = 1
                    report.gaps.append((lowest, highest))
                self._owner[number] = _TREE
                stack += reversed(below)
            else:
                rows = self._leaf(page, node, fits)
                inside = [row for row in rows if lowest < row.rowid <= highest or row.rowid == LOWEST == lowest]
                if not inside and (node.cells or node.cells_outside or number != root):
                    if not rows:
                        self._bad[number] = 1
                    report.gaps.append((lowest, highest))
                    continue
                self._owner[number] = _TREE
                if lost := len(node.cells) + node.cells_outside - len(inside):
                    self._bad[number] = 1
                    report.unreadable += lost
                if len(rows) > len(inside):
                    report.displaced_leaves.append((number, lowest, highest))
                yield inside

    def displaced_rows(self, report: TreeReport, fits: Fits) -> Iterator[list[TableRow]]:
        """Yield the rows whose rowid cannot be right, since it does not belong on their page."""
        for number, lowest, highest in report.displaced_leaves:
            page = self.image.page(number)
            if node := read_node(page, self.image.usable, number == 1):
                yield [row for row in self._leaf(page, node, fits) if not lowest < row.rowid <= highest]

    def adrift(self) -> Iterator[tuple[int, Callable[[Fits], list[TableRow]]]]:
        """Yield the leaves of tables that no tree leads to and that are not free.

        Each is a page number and a function that returns its rows.
        """
        for number in range(1, self.image.count + 1):
            self._step()
            if self._owner[number]:
                continue
            page = self.image.page(number)
            node = read_node(page, self.image.usable, number == 1)
            if node and node.kind == TABLE_LEAF and node.cells:
                yield number, lambda fits, page=page, node=node: self._leaf(page, node, fits)  # type: ignore[misc]

    def claim(self, number: int) -> None:
        """Record that an unowned page belongs to a table."""
        self._owner[number] = _TREE

    def _node(self, number: int, kinds: tuple[int, int]) -> tuple[BTreePage | None, bytes]:
        if not self._exists(number) or self._owner[number] not in (0, _FREE):
            return None, b""
        page = self.image.page(number)
        node = read_node(page, self.image.usable, number == 1)
        if node is None:
            self._bad[number] = 1
        return (node if node and node.kind in kinds else None), page

    def _leaf(self, page: bytes, node: BTreePage, fits: Fits) -> list[TableRow]:
        rows = []
        for at in node.cells:
            cell = read_cell(page, TABLE_LEAF, at, self.image.usable)
            if cell is None or cell.rowid is None:
                continue
            values = self._record(cell, fits)
            if values is not None:
                rows.append(TableRow(cell.rowid, values))
        return rows

    def _record(self, cell: Cell, fits: Fits | None) -> list[Value] | None:
        read = read_types(cell.local, cell.size)
        if read is None or (fits and not fits(read[0])):
            return None
        record = self._whole(cell)
        return None if record is None else read_values(record, *read, self.image.encoding)

    def _whole(self, cell: Cell) -> bytes | None:
        """Return all bytes of a record, None if its chain of pages is broken.

        A broken chain runs in a cycle or into the end of another.
        """
        left, number = cell.size - len(cell.local), cell.overflow
        if not left:
            return cell.local
        each = self.image.usable - 4
        if -(-left // each) > self.image.count:
            return None
        pieces, chain = [cell.local], set[int]()
        while left > 0:
            if not self._exists(number) or number in chain or self._owner[number] == _TREE or self._budget <= 0:
                return None
            self._budget -= 1
            self._step()
            chain.add(number)
            page = self.image.page(number)
            pieces.append(page[4 : 4 + min(each, left)])
            left -= each
            number = _word(page, 0)
        if self._exists(number):
            return None
        for one in chain:
            self._owner[one] = _OVERFLOW
        return b"".join(pieces)

    # -- indexes

    def entries(self, root: int) -> Iterator[list[Value]]:
        """Yield the records of an index, in no order, as far as its pages can be read."""
        stack = [root]
        while stack:
            number = stack.pop()
            self._step()
            node, page = self._node(number, (INDEX_INTERIOR, INDEX_LEAF))
            if node is None:
                continue
            self._owner[number] = _TREE
            if node.kind == INDEX_INTERIOR:
                stack += [node.right, *(_word(page, offset) for offset in node.cells)]
            for offset in node.cells:
                cell = read_cell(page, node.kind, offset, self.image.usable)
                values = self._record(cell, None) if cell else None
                if values is not None:
                    yield values
                else:
                    self._bad[number] = 1


def _word(page: bytes, at: int) -> int:
    return int.from_bytes(page[at : at + 4], "big")


def _words(page: bytes, count: int) -> list[int]:
    return [_word(page, 8 + 4 * at) for at in range(count)]
