"""`SessionManager`: a drop-in for nanobot 0.2.0's that keeps every row which upstream's would lose.

Source: nanobot 0.2.0, `session/manager.py`. Files have its names and its format, so that either reads what the other
wrote. A session remembers what its file held when it was last read or written; a save compares, and writes what
changed.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any

from sessionscope.store.io.bundle import BundleKind, keep
from sessionscope.store.io.files import replace_file, sync_folder
from sessionscope.store.nanobot.format.file import stat_of
from sessionscope.store.nanobot.format.names import LOCK

from .listed_file import listed_file
from .loading import foreign, head_line, merge, read_rows, read_steadily, stands, sweep, take_head
from .row_lines import Unwritable, line_of, row_line
from .session import FILE_MAX_MESSAGES, Session, SessionChanged, safe_key
from .writing import (
    SAVE,
    Base,
    Own,
    another,
    append_rows,
    base_of,
    nothing,
    own_of,
    remember,
    slot_of,
    whole_file,
    written,
)

__all__ = ["FILE_MAX_MESSAGES", "Session", "SessionChanged", "SessionManager", "Unwritable"]

WAIT_S = 30.0
"""How many seconds to wait for the lock of a sessions folder, which 0.3.5 takes as well."""
POLL_S = 0.005
"""Seconds between two tries."""
_log = logging.getLogger(__name__)


class SessionManager:
    """Sessions of a workspace, one JSONL file each. For any number of threads and processes."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = Path(workspace)
        self.sessions_dir = self.workspace / "sessions"
        self.sessions_dir.mkdir(parents=True, exist_ok=True)
        self.legacy_sessions_dir = Path.home() / ".nanobot" / "sessions"
        self._cache: dict[str, Session] = {}
        self._threads, self._depth, self._swept = RLock(), 0, False

    safe_key = staticmethod(safe_key)

    def _get_session_path(self, key: str) -> Path:
        return self.sessions_dir / f"{safe_key(key)}.jsonl"

    def _get_legacy_session_path(self, key: str) -> Path:
        return self.legacy_sessions_dir / f"{safe_key(key)}.jsonl"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the folder, against other processes and within this one.

        Raises OSError if it stays taken.
        """
        from filelock import FileLock, Timeout

        with self._threads:
            if self._depth:
                yield
                return
            lock = FileLock(self.sessions_dir / LOCK, timeout=WAIT_S)
            try:
                lock.acquire(poll_interval=POLL_S)
            except Timeout:
                raise SessionChanged(
                    f"{self.sessions_dir}: another process has been writing for {WAIT_S:.0f} s; try again."
                ) from None
            self._depth = 1
            try:
                if not self._swept:
                    sweep(self.sessions_dir)
                    self._swept = True
                yield
            finally:
                self._depth = 0
                lock.release()

    # -- reading

    def get_or_create(self, key: str) -> Session:
        """Return the session of a key, from the cache or its file; a new one, not saved yet, if there is none.

        Raises OSError if the file cannot be read now, SessionChanged if it belongs to another key or release.
        """
        session = self._cache.get(key)
        if session is None:
            with self._threads:
                session = self._cache.get(key) or self._load(key)
                if session is None:
                    session, path = Session(key=key), self._get_session_path(key)
                    remember(session, path, self._read(path)[1] if path.exists() else nothing())
                self._cache[key] = session
        return session

    def _load(self, key: str) -> Session | None:
        """Return the session in a key's file, None if there is none or only damage. Raises as `get_or_create` does."""
        path = self._get_session_path(key)
        self._adopt(key, path)
        try:
            rows, base = self._read(path)
        except FileNotFoundError:
            if reason := foreign(self.sessions_dir, key, None):
                raise SessionChanged(f"{key}: {reason}.") from None
            return None
        if reason := foreign(self.sessions_dir, key, base):
            raise SessionChanged(f"{key}: {reason}.")
        if not rows and not base.head and base.harm:
            return None
        session = Session(key, rows, metadata={})
        take_head(session, base.head)
        remember(session, path, base)
        return session

    def _repair(self, key: str) -> Session | None:
        """Do the same as `_load`, which reads what can be read."""
        return self._load(key)

    def _read(self, path: Path) -> tuple[list[dict[str, Any]], Base]:
        """Return the rows of a file and what else it holds, while no save is under way. Raises OSError."""
        found = read_steadily(path)
        if found:
            rows, base = read_rows(found[0])
            base.stat = found[1]
            if not base.unfinished:
                return rows, base
        with self._locked(), open(path, "rb") as file:
            rows, base = read_rows(file.read())
            base.stat = stat_of(os.fstat(file.fileno()))
        return rows, base

    def _adopted(self, key: str) -> bytes | None:
        """Return the bytes of a key's file of the first releases, if it belongs to this workspace."""
        legacy = self._get_legacy_session_path(key)
        if not legacy.is_file() or legacy == self._get_session_path(key):
            return None
        data = legacy.read_bytes()
        stored = read_rows(data)[1].head.get("key")
        default = self.legacy_sessions_dir.parent / "workspace"
        return data if stored == key or (not stored and self.workspace.resolve() == default.resolve()) else None

    def _adopt(self, key: str, path: Path) -> None:
        """Move a session of the first releases to this folder, if it belongs to this workspace."""
        if path.exists() or self._adopted(key) is None:
            return
        with self._locked():
            data = self._adopted(key)
            if data is not None and not path.exists():
                legacy = self._get_legacy_session_path(key)
                replace_file(path, [data], True, stat.S_IMODE(legacy.stat().st_mode))
                legacy.unlink()

    def read_session_file(self, key: str) -> dict[str, Any] | None:
        """Return what a key's file holds now: key, created_at, updated_at, metadata, messages.

        None if there is none.
        """
        try:
            rows, base = self._read(self._get_session_path(key))
        except FileNotFoundError:
            return None
        head, stored, metadata = base.head, base.head.get("key"), base.head.get("metadata")
        if isinstance(stored, str) and stored not in ("", key):
            _log.warning("%s: its file holds the session %r", key, stored)
            return None
        if not rows and not head and base.harm:
            return None
        return {
            "key": stored or key,
            "created_at": head.get("created_at"),
            "updated_at": head.get("updated_at"),
            "metadata": metadata if isinstance(metadata, dict) else {},
            "messages": rows,
        }

    @staticmethod
    def _session_payload(session: Session) -> dict[str, Any]:
        return {
            "key": session.key,
            "created_at": session.created_at.isoformat(),
            "updated_at": session.updated_at.isoformat(),
            "metadata": session.metadata,
            "messages": session.messages,
        }

    def list_sessions(self) -> list[dict[str, Any]]:
        """Return all sessions, the latest first: key, created_at, updated_at, title, preview, path.

        One row for each file.
        """
        listed = [listed_file(path) for path in self.sessions_dir.glob("*.jsonl")]
        sessions = [session for session in listed if session is not None]
        return sorted(sessions, key=lambda session: str(session["updated_at"] or ""), reverse=True)

    # -- writing

    def save(self, session: Session, *, fsync: bool = False) -> None:
        """Write what changed since the session was last read or written: whole, or not at all.

        Rows that were only added are appended; anything else replaces the file. If another writer only added rows too,
        they are merged in before ours. With `fsync` it is safe from a power failure when this returns. Raises
        SessionChanged if both changed the same, with ours backed up, Unwritable (a TypeError) for a value that JSON
        cannot hold, OSError; then the file is unchanged.
        """
        with self._locked():
            path = self._get_session_path(session.key)
            base = base_of(session, path)
            own = own_of(list(session.messages), base or nothing(), head_line(session, base))
            base = self._met(session, path, base, own)
            remember(session, path, base)
            if self._written(session, path, base, own, fsync):
                self._cache[session.key] = session
            else:
                # The last writer is in the cache: it has everything that is in the file.
                self._cache.setdefault(session.key, session)

    def append(self, session: Session, messages: Sequence[dict[str, Any]], *, fsync: bool = False) -> None:
        """Add rows to a session and write only these. Costs what they hold, however long the session is.

        Changes of earlier rows wait for the next `save`. Raises as `save` does; then the session is unchanged.
        """
        added = list(messages)
        if not added:
            return
        with self._locked():
            path, at, before = self._get_session_path(session.key), len(session.messages), session.updated_at
            base = base_of(session, path)
            own = own_of(added, nothing(), {}, at)
            now = datetime.now(before.tzinfo)
            session.updated_at = max(now, before)
            session.messages.extend(added)
            try:
                plain = base and at == len(base.prints) and stands(path, base)
                if not (
                    base
                    and plain
                    and append_rows(
                        path,
                        base,
                        head_line(session, base),
                        [own.fresh[number] for number in own.prints],
                        own.prints,
                        fsync,
                    )
                ):
                    self.save(session, fsync=fsync)
            except BaseException:
                # They are the last ones, whatever was merged in before them.
                del session.messages[len(session.messages) - len(added) :]
                session.updated_at = before
                raise
            self._cache[session.key] = session

    def _written(self, session: Session, path: Path, base: Base, own: Own, sync: bool) -> bool:
        """Write a session over a file that holds what `base` says. Return whether there was anything to write."""
        known = len(base.prints)
        if base.line and own.prints[:known] == base.prints:
            if len(own.rows) == known and written(own.head) == written(base.head):
                if sync:
                    with open(path, "r+b" if os.access(path, os.W_OK) else "rb", buffering=0) as file:
                        os.fsync(file.fileno())
                    sync_folder(path.parent)
                return False
            lines = [own.fresh.get(own.prints[at]) or row_line(own.rows[at], at) for at in range(known, len(own.rows))]
            if append_rows(path, base, own.head, lines, own.prints[known:], sync):
                return True
        if base.harm:
            whole = {path.name: path.read_bytes()}
            keep(self.sessions_dir, BundleKind.QUARANTINE, session.key, "parts of this file could not be read", whole)
        head = another(own.head)
        base.tried = head[SAVE]
        slot = slot_of(head)
        assert slot is not None
        made = nothing()
        made.stat = stat_of(replace_file(path, whole_file(slot, own, base, path, made), sync))
        made.head = json.loads(slot)
        remember(session, path, made)
        return True

    # -- what others wrote meanwhile

    def _met(self, session: Session, path: Path, base: Base | None, own: Own) -> Base:
        """Return what a session's file holds now, with rows that others added merged into the session.

        Raises SessionChanged.
        """
        try:
            with open(path, "rb", buffering=0) as file:
                if base and base.stands(file):
                    return base
                file.seek(0)
                status, data = os.fstat(file.fileno()), file.readall()
        except FileNotFoundError:
            if base and base.stat:
                raise self._changed(session, own, "another writer deleted its file") from None
            if reason := foreign(self.sessions_dir, session.key, None):
                raise self._changed(session, own, reason) from None
            return base or nothing()
        rows, now = read_rows(data)
        now.stat = stat_of(status)
        if reason := foreign(self.sessions_dir, session.key, now):
            raise self._changed(session, own, reason)
        if base and base.tried and base.tried == now.head.get(SAVE):
            # The file is ours, and an error came only after it was written.
            return now
        if base and own.prints == base.prints and base.head and written(own.head) == written(base.head):
            # There is nothing of ours to save, so theirs counts.
            session.messages[:] = rows
            take_head(session, now.head)
            own.prints = now.prints[:]
        elif not merge(session, base, own, rows, now):
            raise self._changed(session, own, "its file holds other rows or metadata than this session was made of")
        own.rows = list(session.messages)
        own.head = head_line(session, now)
        return now

    def _changed(self, session: Session, own: Own, why: str) -> SessionChanged:
        path = self._get_session_path(session.key)
        lines = [line_of(own.head, "metadata"), *(row_line(row, at) for at, row in enumerate(own.rows))]
        kept = keep(self.sessions_dir, BundleKind.CONFLICT, session.key, why, {path.name: b"".join(lines)})
        if self._cache.get(session.key) is session:
            del self._cache[session.key]
        return SessionChanged(f"{session.key}: {why}. The file was left as it is, and this session is kept in {kept}.")

    # -- all of them

    def flush_all(self) -> int:
        """Save every cached session durably, and return how many. What cannot be saved is logged and stops no other."""
        flushed = 0
        for key, session in list(self._cache.items()):
            try:
                self.save(session, fsync=True)
                flushed += 1
            except Exception as error:
                _log.warning("%s was not saved: %s", key, error)
        return flushed

    def invalidate(self, key: str) -> None:
        """Forget the cached session of a key."""
        self._cache.pop(key, None)

    def delete_session(self, key: str) -> bool:
        """Remove the file of a key and its copy of the first releases.

        Return whether there was one of this very key.
        """
        self.invalidate(key)
        found = False
        with self._locked():
            path = self._get_session_path(key)
            with suppress(FileNotFoundError):
                reason = foreign(self.sessions_dir, key, read_rows(path.read_bytes())[1])
                if reason is None:
                    path.unlink()
                    sync_folder(path.parent)
                    found = True
                else:
                    _log.warning("%s was not deleted: %s", key, reason)
            if self._adopted(key) is not None:
                legacy = self._get_legacy_session_path(key)
                legacy.unlink()
                sync_folder(legacy.parent)
                found = True
        return found
