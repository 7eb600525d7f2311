"""Reads of a session's file in bounded pieces. Each read opens it anew and holds nothing afterwards."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from msgspec import Struct

from sessionscope.store.model.errors import Busy, Damaged, UnknownSession

T = TypeVar("T")
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Stat(Struct, frozen=True, gc=False):
    """The status of a file: inode, size in bytes, modification time in nanoseconds."""

    inode: int
    size: int
    mtime_ns: int


def stat_of(found: os.stat_result) -> Stat:
    return Stat(found.st_ino, found.st_size, found.st_mtime_ns)


class OpenFile:
    """A file while it is read. `size` in bytes is that of when it was opened; what is appended later is not seen."""

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self._fd, self.stat = fd, stat_of(status)
        self.size = status.st_size

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes `start` to `stop`, fewer if the file ends before that."""
        at, stop = max(0, start), min(stop, self.size)
        pieces = []
        os.lseek(self._fd, at, os.SEEK_SET)
        while at < stop:
            piece = os.read(self._fd, stop - at)
            if not piece:
                break
            pieces.append(piece)
            at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Held(OpenFile):
    """Bytes that are read as if they were a file."""

    def __init__(self, data: bytes, mtime_ns: int = 0) -> None:
        self.stat, self.size, self.data = Stat(0, len(data), mtime_ns), len(data), data

    def read(self, start: int, stop: int) -> bytes:
        return self.data[max(0, start) : stop]


@contextmanager
def opening(path: str) -> Iterator[OpenFile]:
    """Open a file for one read.

    Raises UnknownSession if it does not exist, Damaged if it may not be read or is no regular file, Busy if the system
    cannot read it now.
    """
    try:
        fd = os.open(path, _FLAGS)
    except OSError as error:
        raise trouble(path, error) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(f"{path}: is not a regular file.")
        yield OpenFile(fd, status)
    except OSError as error:
        raise trouble(path, error) from error
    finally:
        os.close(fd)


def beginning(path: str, size: int, folder: int | None = None) -> tuple[bytes, Stat]:
    """Return the first `size` bytes of a file and its status, with as few system calls as possible. Raises as `opening`
    does.

    With the descriptor of an open `folder`, `path` is the name of a file in it, which saves a look-up.
    """
    try:
        fd = os.open(path, _FLAGS, dir_fd=folder)
        try:
            return os.read(fd, size), stat_of(os.fstat(fd))
        finally:
            os.close(fd)
    except OSError as error:
        raise trouble(path, error) from error


def read(path: str, work: Callable[[OpenFile], T]) -> T:
    """Return the result of `work` on the file. Raises as `opening` does."""
    with opening(path) as file:
        return work(file)


def trouble(path: str, error: OSError) -> UnknownSession | Damaged | Busy:
    """Return the error of the store for an error of the system."""
    reason = (error.strerror or str(error)).lower()
    if isinstance(error, FileNotFoundError):
        return UnknownSession(f"{path}: the file is gone.")
    if isinstance(error, (PermissionError, IsADirectoryError)):
        return Damaged(f"{path}: cannot be read ({reason}).")
    return Busy(f"{path}: cannot be read now ({reason}); try again.")
