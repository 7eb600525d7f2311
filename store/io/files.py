"""Folders and files that only their owner can read, and files that are replaced whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from threading import Thread

_NOT_SYNCED = {errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOTSUP, errno.EISDIR, errno.EBADF, errno.ENOSYS}
PAUSE_S = 0.005
PATIENCE_S = 1.0
"""How long a lock is tried for that others hold only while they look whether it is held."""
_LONGEST_NAME, _LARGE = 255, 1 << 20
"""Bytes that a file's name may have on any system, and of a file that it takes long to free."""


class PrivateFolder:
    """A folder of mode 0700 that is gone when it is closed, forgotten, or when the process ends."""

    def __init__(self) -> None:
        # Rarely needed, and costlier to import than the rest of a read.
        import shutil
        import tempfile

        self.path = Path(tempfile.mkdtemp(prefix="sessionscope-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def close(self) -> None:
        """Removes the folder and what is in it. Idempotent."""
        self._remove()


def write_private(path: Path, data: bytes) -> None:
    """Writes a file of mode 0600, making its folder (0700) if need be. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A link that somebody put there must not lead the write elsewhere; where the system has no such flag, so be it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        path.chmod(0o600)
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Makes what was created, renamed or removed in a folder safe from a power failure, where the system does that.

    Raises OSError where it does, and failed.
    """
    try:
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        # Windows opens no folder, and some network file systems sync none.
        if error.errno not in _NOT_SYNCED:
            raise


class FolderLock:
    """The lock of a folder, held until it is released or forgotten. For other processes, and for this one.

    It needs no file of its own. An interrupt may come at any moment, so whoever loses sight of it lets it go.
    """

    _fd = -1

    def acquire(self, folder: Path, wait_s: float) -> None:
        """Take the lock where the system has such a thing. Raises TimeoutError if another holds it for too long."""
        try:
            import fcntl
        except ImportError:
            return
        until = time.monotonic() + wait_s
        try:
            self._fd = os.open(folder, os.O_RDONLY)
        except OSError:
            return
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(PAUSE_S)
                    continue
                self.release()
                raise TimeoutError(f"{folder} is locked") from None
            except OSError:
                # Some network file systems have none.
                self.release()
            return

    def release(self) -> None:
        """Let the lock go. Idempotent."""
        if self._fd >= 0:
            import fcntl

            # First, so that an interrupt before the descriptor is closed leaves no lock behind.
            with suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            fd, self._fd = self._fd, -1
            os.close(fd)

    __del__ = release


@contextmanager
def folder_lock(folder: Path, wait_s: float) -> Iterator[None]:
    """Keeps out every other process that asks for the same, where the system can do that.

    Raises TimeoutError where one holds it for longer than so many seconds.
    """
    lock = FolderLock()
    try:
        lock.acquire(folder, wait_s)
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Return whether another process, or this one, holds a folder's lock."""
    try:
        with folder_lock(folder, 0.0):
            return False
    except TimeoutError:
        return True


def replace_file(path: Path, pieces: Iterable[bytes], sync: bool, mode: int | None = None) -> os.stat_result:
    """Puts a file of these pieces in the place of another, or where none is: all of it or, whatever happens, none.

    A link stays and what it leads to is replaced; the mode and, as far as one may, the owner of what was there stay
    too. A new file gets `mode`, else what the process gives its files. With `sync` it is safe from a power failure
    when this returns. What is returned is the status of the new file. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    name = f".{target.name}.{token_hex(8)}.tmp"
    beside = target.with_name(name if len(os.fsencode(name)) <= _LONGEST_NAME else f".{token_hex(8)}.tmp")
    try:
        old = os.stat(target)
    except FileNotFoundError:
        old = None
    if old:
        mode = stat.S_IMODE(old.st_mode)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    # Until it is complete nobody may read what few could before.
    fd = os.open(beside, flags, 0o666 if mode is None else 0o600)
    try:
        with open(fd, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            status = os.fstat(fd)
            if old and (status.st_uid, status.st_gid) != (old.st_uid, old.st_gid):
                with suppress(OSError):
                    os.chown(beside, old.st_uid, old.st_gid)
            if mode is not None:
                os.chmod(beside, mode)
            if sync:
                os.fsync(fd)
        with _held(target, old):
            os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(target.parent)
    return status


@contextmanager
def _held(path: Path, status: os.stat_result | None) -> Iterator[None]:
    """Keeps a large file meanwhile. To free it takes as long as to write it, which nobody has to wait for."""
    held = -1
    if status and status.st_size > _LARGE and os.name == "posix":
        with suppress(OSError):
            held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        if held >= 0:
            try:
                Thread(target=os.close, args=(held,), daemon=True).start()
            except RuntimeError:
                # No thread can be had, as when the interpreter ends.
                os.close(held)
