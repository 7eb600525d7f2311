"""A database file as numbered pages, overlaid with what its -wal or its journal holds. Reads only.

SQLite is not involved, so it works if the header is overwritten or pages are missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from struct import unpack, unpack_from
from typing import BinaryIO

from msgspec import Struct

from .pages import ENCODINGS, SIZES, Header, is_full, read_header

_SAMPLE = 256
_WAL_MAGIC = 0x377F0682
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


class Layer(Struct):
    """Pages of a -wal or a journal: page -> offset, and how many pages the database has with them, 0 if unchanged.

    `broken` are the pages of frames whose checksum is wrong. Older versions are read instead of them.
    """

    file: BinaryIO
    page_size: int
    pages: dict[int, int]
    count: int
    broken: set[int]


class Image:
    """The pages of one database file. Raises OSError if it cannot be read.

    `page_size` is None if nothing in the file looks like a page, and `header` is None if it makes no sense. `missing`
    is how many of the pages that the header announces are not in the file, `torn` how many bytes of a last page there
    are.
    """

    def __init__(self, path: str) -> None:
        self._files: list[BinaryIO] = []
        try:
            self._file = self._open(path)
            self.bytes = self._file.seek(0, os.SEEK_END)
            wal, journal = self._beside(f"{path}-wal"), self._beside(f"{path}-journal")
            self.layer = (_read_wal(wal) if wal else None) or (_read_journal(journal) if journal else None)
            self.from_wal = self.layer is not None and wal is not None and self.layer.file is wal
            self._settle()
        except BaseException:
            self.close()
            raise

    def _open(self, path: str) -> BinaryIO:
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)), "rb")
        self._files.append(file)
        return file

    def _beside(self, path: str) -> BinaryIO | None:
        with suppress(OSError):
            return self._open(path)
        return None

    def _settle(self) -> None:
        """Find the page size, and with it everything else."""
        self.page_size: int | None = self.layer.page_size if self.layer else None
        first = self.beginning = self._raw(0, 100)
        if self.layer and 1 in self.layer.pages:
            first = _at(self.layer.file, self.layer.pages[1], 100)
        self.header: Header | None = read_header(first)
        if self.page_size is None:
            self.page_size = self._guess()
        if self.header and self.header.page_size != self.page_size:
            self.header = None
        self.encoding = self.header.encoding if self.header else ENCODINGS[1]
        size = self.page_size or SIZES[-1]
        self.usable = size - (self.header.reserved if self.header else 0)
        whole, self.torn = divmod(self.bytes, size)
        present = whole + bool(self.torn)
        if self.layer and self.layer.count:
            # A -wal may make a database shorter than its file. A header cannot be trusted that far.
            present = self.layer.count
        self.missing = 0
        if self.header and not self.layer:
            self.missing = max(0, self.header.pages - present + bool(self.torn))
        self.count = present if self.page_size else 0

    def _guess(self) -> int | None:
        header, scores = self.header, {}
        for size in SIZES:
            pages = -(-self.bytes // size)
            reserved = header.reserved if header and header.page_size == size else 0
            step = max(1, pages // _SAMPLE)
            scores[size] = (
                sum(is_full(self._raw(at * size, size), size, reserved, at == 0) for at in range(0, pages, step)) * size
            )
        best = max(SIZES, key=lambda size: (scores[size], header is not None and header.page_size == size))
        return best if scores[best] or header else None

    def _raw(self, offset: int, size: int) -> bytes:
        return _at(self._file, offset, size)

    def page(self, number: int) -> bytes:
        """Return a page by its number from 1, filled up with zeros if the file ends too early."""
        assert self.page_size is not None
        layer = self.layer
        if layer is not None and (offset := layer.pages.get(number)) is not None:
            data = _at(layer.file, offset, self.page_size)
        else:
            data = self._raw((number - 1) * self.page_size, self.page_size)
        return data.ljust(self.page_size, b"\0")

    def close(self) -> None:
        """Close the files. Idempotent."""
        for file in self._files:
            file.close()


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _read_wal(file: BinaryIO) -> Layer | None:
    """Return the frames of a -wal up to the last commit whose checksums are right, None without any.

    Each frame is checked by itself, from the checksum in the one before. SQLite stops at the first wrong one; here only
    that frame is left out.
    """
    head = _at(file, 0, 32)
    if len(head) < 32:
        return None
    magic, _, size = unpack_from(">III", head)
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _WAL_MAGIC or size not in SIZES or _checksum(head[:24], order, (0, 0)) != unpack(">II", head[24:]):
        return None
    layer = Layer(file, size, {}, 0, set())
    waiting: dict[int, int] = {}
    broken: set[int] = set()
    last: tuple[int, int] = unpack(">II", head[24:])
    for offset, frame in _frames(file, size):
        number, commit = unpack_from(">II", frame)
        if frame[8:16] != head[16:24] or not number:
            break
        stored: tuple[int, int] = unpack_from(">II", frame, 16)
        if _checksum(frame[24:], order, _checksum(frame[:8], order, last)) == stored:
            waiting[number] = offset + 24
            broken.discard(number)
            if commit:
                layer.pages.update(waiting)
                layer.broken = (layer.broken - waiting.keys()) | broken
                layer.count, waiting, broken = commit, {}, set()
        else:
            broken.add(number)
        last = stored
    layer.pages = {number: offset for number, offset in layer.pages.items() if number <= layer.count}
    return layer if layer.pages else None


def _frames(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    offset = 32
    while len(frame := _at(file, offset, size + 24)) == size + 24:
        yield offset, frame
        offset += size + 24


def _checksum(data: bytes, order: str, seed: tuple[int, int]) -> tuple[int, int]:
    one, two = seed
    words = iter(unpack(f"{order}{len(data) // 4}I", data))
    for first, second in zip(words, words, strict=True):
        one = one + first + two & 0xFFFFFFFF
        two = two + second + one & 0xFFFFFFFF
    return one, two


def _read_journal(file: BinaryIO) -> Layer | None:
    """Return the pages as they were before the transaction of a journal, None if the journal is not in force."""
    layer, offset, end = None, 0, file.seek(0, os.SEEK_END)
    while len(head := _at(file, offset, 28)) == 28 and head[:8] == _JOURNAL_MAGIC:
        records, nonce, count, sector, size = unpack_from(">IIIII", head, 8)
        if size not in SIZES or not 32 <= sector <= 65536:
            break
        layer = layer or Layer(file, size, {}, count, set())
        offset += sector
        if records == 0xFFFFFFFF:
            records = end // (size + 8)
        for _ in range(records):
            record = _at(file, offset, size + 8)
            if len(record) < size + 8:
                return layer
            number, data = int.from_bytes(record[:4], "big"), record[4:-4]
            if not number or (nonce + sum(data[size - 200 : 0 : -200])) & 0xFFFFFFFF != int.from_bytes(
                record[-4:], "big"
            ):
                return layer
            layer.pages.setdefault(number, offset + 4)
            offset += size + 8
        offset = -(-offset // sector) * sector
    return layer
