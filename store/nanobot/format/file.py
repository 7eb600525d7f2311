"""Bounded reads of a session's file. Each read opens the file anew and keeps nothing open afterwards."""

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
"""The flags of os.open. O_NONBLOCK keeps a named pipe from blocking."""


class Stat(Struct, frozen=True, gc=False):
    """The file status by which a change is noticed."""

    inode: int
    size: int
    """In bytes."""
    mtime_ns: int
    """The modification time in nanoseconds."""


def stat_of(status: os.stat_result) -> Stat:
    """Return what is kept of an operating system's file status."""
    return Stat(status.st_ino, status.st_size, status.st_mtime_ns)


def stat_or_none(path: str) -> Stat | None:
    """Return the status of a file, or None if the system does not give it."""
    try:
        return stat_of(os.stat(path))
    except OSError:
        return None


class OpenFile:
    """An open file. `size` is its size in bytes when it was opened; bytes that are appended later are not read."""

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self._fd, self.stat = fd, stat_of(status)
        self.size = status.st_size

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes `start` to `stop`, fewer if the file ends before that."""
        position, stop = max(0, start), min(stop, self.size)
        pieces = []
        os.lseek(self._fd, position, os.SEEK_SET)
        while position < stop:
            piece = os.read(self._fd, stop - position)
            if not piece:
                break
            pieces.append(piece)
            position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Held(OpenFile):
    """Bytes in memory that are read like a file."""

    def __init__(self, data: bytes, mtime_ns: int = 0) -> None:
        self.stat, self.size, self.data = Stat(0, len(data), mtime_ns), len(data), data

    def read(self, start: int, stop: int) -> bytes:
        return self.data[max(0, start) : stop]


@contextmanager
def opening(path: str) -> Iterator[OpenFile]:
    """Open a file for the time of a `with` block.

    Raises UnknownSession if it does not exist, Damaged if it may not be read or is not a regular file, Busy if the
    system cannot read it now.
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
    """Return the first `size` bytes of a file and its status, in as few system calls as possible.

    If `folder` is given, it is the descriptor of an open folder, and `path` a name in it. Raises as `opening` does.
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
    """Open a file and return the result of `work` on it. Raises as `opening` does."""
    with opening(path) as file:
        return work(file)


def trouble(path: str, error: OSError) -> UnknownSession | Damaged | Busy:
    """Return the error to raise for a failed system call on a file."""
    reason = (error.strerror or str(error)).lower()
    if isinstance(error, FileNotFoundError):
        return UnknownSession(f"{path}: the file is gone.")
    if isinstance(error, (PermissionError, IsADirectoryError)):
        return Damaged(f"{path}: cannot be read ({reason}).")
    return Busy(f"{path}: cannot be read now ({reason}); try again.")
