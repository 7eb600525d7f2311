"""Reads of a SQLite database that leave its files untouched while another process may write them.

Nothing is held between two reads; each is a burst on its own connection. Before a burst, a non-empty -wal means
`mode=ro` and anything else `immutable=1`: `mode=ro` without a -wal would leave one behind, and `immutable=1` beside one
would miss its rows. An immutable burst during which the file changed is repeated. If neither can work (a hot journal,
or a -wal in a folder that cannot be written), the files are copied to a private folder and the copy is read.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar
from urllib.parse import quote

from sessionscope.store.model.errors import Busy, DamagedPages, NotAnArchive

from .files import PrivateFolder
from .readable import check_readable

T = TypeVar("T")
TRIES = 5
"""How many times a read is tried while the files change."""
PAUSE_S = 0.005
"""Seconds between two tries."""
LOCK_WAIT_S = 0.25
"""Seconds that SQLite waits for a lock."""
TICK_NS = 10_000_000
"""Nanoseconds between two writes from which their modification times differ on any usual kernel."""
SETTLE_TRIES = 20
"""How many times to wait for that."""
Part = tuple[int, int, int, int] | None
"""Inode, size in bytes, modification and change time in nanoseconds; None if the file does not exist.

The change time of a -wal is left out: SQLite sets the owner of one that it opens as root, so our own read changes it.
"""
Parts = tuple[Part, Part, Part]
COPY = "copy.db"
"""The name of the private copy in its folder."""
_SUFFIXES = ("", "-wal", "-journal")
"""What the names of a database's files end with."""


class Read(Protocol):
    """The signature of `SqliteFile.read`."""

    def __call__(self, work: Callable[[sqlite3.Connection], T], /) -> T: ...


class BrokenText(str):
    r"""A TEXT value that is not UTF-8. Undecodable bytes are shown as \xNN; `raw` holds the stored bytes."""

    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> BrokenText:
        text = cls(raw.decode("utf-8", "backslashreplace"))
        text.raw = raw
        return text


class _MovedError(Exception):
    """The files changed while they were copied."""


def decode_text(raw: bytes) -> str:
    """Decode TEXT as a `text_factory` that never raises: invalid UTF-8 becomes a `BrokenText`."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return BrokenText.of(raw)


def require_sqlite() -> None:
    """Raise NotAnArchive if the SQLite library is older than 3.35, the first with everything that is used here."""
    if sqlite3.sqlite_version_info < (3, 35):
        raise NotAnArchive(f"SQLite {sqlite3.sqlite_version} is too old: Python needs to be built with 3.35 or newer.")


class SqliteFile:
    """One database file, opened anew for every read.

    `path` is the real path, `shown` what to call it. `aside` says why a private copy is read instead of the file, None
    if it is not.
    """

    def __init__(self, path: Path) -> None:
        require_sqlite()
        self.shown = str(path)
        self.path = os.path.realpath(path)
        self.aside: str | None = None
        self._copy: PrivateFolder | None = None
        self._copied: Parts | None = None
        self._copying = Lock()
        self._check()

    def _check(self) -> None:
        status = check_readable(self.path, self.shown)
        if status.st_size == 0:
            raise NotAnArchive(f"{self.shown}: is empty, not a database.")

    def parts(self) -> Parts:
        """Return the state of the main file, -wal and -journal. Three `stat` calls; holds nothing."""
        wal = _part(self.path + "-wal")
        return _part(self.path), wal and (*wal[:3], 0), _part(self.path + "-journal")

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a connection in one read transaction and return its result.

        `work` may run more than once and must not keep the connection. Raises Busy if the file stays locked or keeps
        changing, Damaged if its pages are broken, NotAnArchive if it no longer exists or is no database.
        """
        for _ in range(TRIES):
            before = self._settled()
            if before[0] is None:
                raise NotAnArchive(f"{self.shown}: the file is gone.")
            try:
                # The variable keeps the private copy alive while it is read, whatever another thread does.
                uri, copy = self._choose(before)
                with _connect(uri) as conn:
                    result = work(conn)
            except _MovedError:
                pass
            except Exception as error:
                # What was read while the file changed may mix two states, so even an error proves nothing.
                if self._steady(before) and _filled(self.parts()[1]) == _filled(before[1]):
                    if isinstance(error, (sqlite3.Error, OSError)):
                        raise self._explain(error) from error
                    raise
            else:
                if copy or self._steady(before):
                    return result
            finally:
                self._tidy(before)
            time.sleep(PAUSE_S)
        raise Busy(f"{self.shown}: another process keeps changing it; try again in a moment.")

    def _settled(self) -> Parts:
        """Return the state of the files once any further write would change a modification time."""
        for _ in range(SETTLE_TRIES):
            parts = self.parts()
            newest = max((part[2] for part in parts if part), default=0)
            if _filled(parts[1]) or not 0 <= time.time_ns() - newest < TICK_NS:
                break
            time.sleep(PAUSE_S)
        return parts

    def _steady(self, before: Parts) -> bool:
        after = self.parts()
        if not _filled(before[1]):
            return after == before
        # A snapshot of a WAL stays whole whatever is appended, as long as it is the same database.
        return after[0] is not None and before[0] is not None and after[0][0] == before[0][0]

    def _tidy(self, before: Parts) -> None:
        """Remove an empty -wal that a read left, because the writer removed its own at that very moment.

        SQLite does that safely if a connection that may write is the last to close, and does nothing otherwise.
        """
        now = _part(self.path + "-wal")
        # A new -wal cannot be told by its inode, which may be that of the old one. A writer that emptied its own is
        # still connected, and then SQLite removes nothing.
        if _filled(before[1]) and now and not now[1]:
            uri = f"{uri_of(self.path)}?mode=rw"
            with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True, timeout=0)) as conn:
                conn.execute("PRAGMA schema_version")

    def _choose(self, before: Parts) -> tuple[str, PrivateFolder | None]:
        """Return the URI for a burst and the private copy that it names, if it names one."""
        with self._copying:
            copy = self._copy if self._copied == before else None
        if copy is not None:
            return f"{uri_of(str(copy.path / COPY))}?mode=rw", copy
        hot = _filled(before[2]) and self._hot_journal()
        if hot or (_filled(before[1]) and not self._may_share()):
            copy = self._private(before)
            self.aside = "its journal awaits recovery" if hot else "its folder cannot be written"
            return f"{uri_of(str(copy.path / COPY))}?mode=rw", copy
        self.aside = None
        return f"{uri_of(self.path)}?{'mode=ro' if _filled(before[1]) else 'immutable=1'}", None

    def _may_share(self) -> bool:
        shm = self.path + "-shm"
        return os.access(shm, os.W_OK) if os.path.exists(shm) else os.access(os.path.dirname(self.path), os.W_OK)

    def _hot_journal(self) -> bool:
        """Return whether there is a hot journal.

        One whose header is zeroed is only kept for reuse; one of a living writer is removed after a moment.
        """
        for _ in range(3):
            try:
                with open(self.path + "-journal", "rb") as journal:
                    if journal.read(1) in (b"", b"\0"):
                        return False
            except FileNotFoundError:
                return False
            time.sleep(PAUSE_S)
        return True

    def _private(self, before: Parts) -> PrivateFolder:
        """Copy the files to a private folder, unless that was done for this very state.

        An older copy goes with its last reader.
        """
        from shutil import copyfile

        with self._copying:
            if self._copy is None or self._copied != before:
                self._copy = None
                folder = PrivateFolder()
                for suffix, part in zip(_SUFFIXES, before, strict=True):
                    if part is not None:
                        try:
                            copyfile(self.path + suffix, folder.path / f"{COPY}{suffix}")
                        except FileNotFoundError:
                            # Its writer removed it at this very moment.
                            raise _MovedError from None
                if self.parts() != before:
                    raise _MovedError
                self._copy, self._copied = folder, before
            return self._copy

    def _explain(self, error: Exception) -> Exception:
        text = str(error)
        if "not a database" in text:
            return NotAnArchive(f"{self.shown}: is not a SQLite database.")
        if "locked" in text or "busy" in text:
            return Busy(
                f"{self.shown}: another process holds it exclusively (locking_mode=EXCLUSIVE); "
                "close that process, or try again when it is done."
            )
        if "malformed" in text or "disk I/O" in text or "database disk image" in text:
            return DamagedPages(f"{self.shown}: some of its pages are damaged ({text}).")
        if isinstance(error, OSError):
            return NotAnArchive(f"{self.shown}: cannot be read ({_reason(error)}).")
        return DamagedPages(f"{self.shown}: cannot be read ({text}).")

    def close(self) -> None:
        """Remove the private copy, if there is one. Idempotent."""
        if self._copy is not None:
            self._copy.close()
            self._copy = self._copied = None


@contextmanager
def _connect(uri: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_WAIT_S, isolation_level=None)) as conn:
        conn.text_factory = decode_text
        if "mode=rw" not in uri:
            conn.execute("PRAGMA query_only=ON")
        distrust_schema(conn)
        conn.execute("BEGIN")
        yield conn
        conn.execute("COMMIT")


def distrust_schema(conn: sqlite3.Connection) -> None:
    """Let the expressions of a schema call no function that may have an effect, since a schema is content too.

    Some releases of SQLite count harmless functions among these, such as those of JSON in 3.40, and could not read a
    file whose indexes, checks or columns use them. For such a file the schema is trusted: no function that it can name
    here has an effect, and no trigger of it runs, since a layout with triggers is only read.
    """
    conn.execute("PRAGMA trusted_schema=OFF")
    try:
        conn.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.DatabaseError as error:
        if "unsafe use of" not in str(error):
            raise
        conn.execute("PRAGMA trusted_schema=ON")


def uri_of(path: str) -> str:
    """Return a path as the beginning of a URI for SQLite."""
    # With two slashes, a path that begins with two of its own is not taken for a host. A path may be any bytes.
    return f"file://{quote(os.fsencode(path))}"


def _part(path: str) -> Part:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _filled(part: Part) -> bool:
    return part is not None and part[1] > 0


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
