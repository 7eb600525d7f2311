"""Private files and folders, folder locks, and files that are replaced whole or not at all."""

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
"""Seconds between two tries for a lock."""
PATIENCE_S = 1.0
"""How many seconds to try for a lock that others hold only while they check whether it is free."""
_LONGEST_NAME = 255
"""The longest file name on any system, in bytes."""
_LARGE = 1 << 20
"""The size in bytes from which freeing a file takes long."""


class PrivateFolder:
    """A temporary folder of mode 0700 that is removed on close, on garbage collection, or when the process ends."""

    def __init__(self) -> None:
        # Rarely needed, and slower to import than everything else that a read needs.
        import shutil
        import tempfile

        self.path = Path(tempfile.mkdtemp(prefix="sessionscope-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder and what is in it. Idempotent."""
        self._remove()


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 and, if needed, make its folder (0700). Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A symbolic link at that path must not redirect the write. Some systems have no such flag.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        path.chmod(0o600)
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder safe from a power failure, if the system can do that.

    Raises OSError if that fails.
    """
    try:
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        # Windows opens no folders, and some network file systems sync none.
        if error.errno not in _NOT_SYNCED:
            raise


class FolderLock:
    """An exclusive lock on a folder, against other processes and within this one.

    It needs no lock file. It is released on garbage collection too, since an interrupt may come at any moment.
    """

    _fd = -1

    def acquire(self, folder: Path, wait_s: float) -> None:
        """Take the lock, if the system has such locks.

        Raises TimeoutError if another holds it for longer than `wait_s` seconds.
        """
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
                # Some network file systems have no locks.
                self.release()
            return

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if self._fd >= 0:
            import fcntl

            # Unlock first: an interrupt before the descriptor is closed then leaves no lock behind.
            with suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            fd, self._fd = self._fd, -1
            os.close(fd)

    __del__ = release


@contextmanager
def folder_lock(folder: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock of a folder for the body of a `with` statement, if the system has such locks.

    Raises TimeoutError if another process holds it for longer than `wait_s` seconds.
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
    """Replace or create a file, whole or not at all. Return the status of the new file.

    A symbolic link stays, and its target is replaced. Mode and, if permitted, owner of the old file are kept. A new
    file gets `mode`, else the process's default. With `sync` it is safe from a power failure when this returns. Raises
    OSError.
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
    # Until it is complete, nobody else may read it.
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
    """Keep a large file open while it is replaced, and close it in a thread.

    Freeing it takes as long as writing it, and nobody has to wait for that.
    """
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
                # No thread can be started, for example while the interpreter ends.
                os.close(held)
