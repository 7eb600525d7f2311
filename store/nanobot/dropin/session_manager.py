"""A drop-in for nanobot 0.2.0's `SessionManager` that keeps every row which the original would lose.

Source: nanobot 0.2.0, `session/manager.py`. Files have the same names and the same form, so that each reads what the
other wrote. A save compares a session with what its file held when it was last read or written, and writes what
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

from . import loading, writing
from .listed_file import listed_file
from .row_lines import Unwritable, line_of, row_line
from .session import FILE_MAX_MESSAGES, Session, SessionChanged, safe_key
from .writing import SAVE, Base, Snapshot

__all__ = ["FILE_MAX_MESSAGES", "Session", "SessionChanged", "SessionManager", "Unwritable"]

WAIT_S = 30.0
"""How many seconds the lock of a sessions folder is waited for. nanobot 0.3.5 takes the same lock."""
POLL_S = 0.005
"""After how many seconds the lock is tried again."""
_log = logging.getLogger(__name__)


class SessionManager:
    """The sessions of a workspace, one JSONL file each. May be used by any number of threads and processes."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = Path(workspace)
        self.sessions_dir = self.workspace / "sessions"
        self.sessions_dir.mkdir(parents=True, exist_ok=True)
        self.legacy_sessions_dir = Path.home() / ".nanobot" / "sessions"
        self._cache: dict[str, Session] = {}
        self._thread_lock = RLock()
        self._holds_lock = False
        self._leftovers_removed = False

    safe_key = staticmethod(safe_key)

    def _get_session_path(self, key: str) -> Path:
        return self.sessions_dir / f"{safe_key(key)}.jsonl"

    def _get_legacy_session_path(self, key: str) -> Path:
        return self.legacy_sessions_dir / f"{safe_key(key)}.jsonl"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock, which may be taken again meanwhile. Raises SessionChanged after `WAIT_S`."""
        from filelock import FileLock, Timeout

        with self._thread_lock:
            if self._holds_lock:
                yield
                return
            lock = FileLock(self.sessions_dir / LOCK, timeout=WAIT_S)
            try:
                lock.acquire(poll_interval=POLL_S)
            except Timeout:
                raise SessionChanged(
                    f"{self.sessions_dir}: another process has been writing for {WAIT_S:.0f} s; try again."
                ) from None
            self._holds_lock = True
            try:
                if not self._leftovers_removed:
                    loading.remove_leftovers(self.sessions_dir)
                    self._leftovers_removed = True
                yield
            finally:
                self._holds_lock = False
                lock.release()

    # -- reading

    def get_or_create(self, key: str) -> Session:
        """Return the session of a key, from the cache or its file. If there is none, return a new, unsaved one.

        Raises OSError if the file cannot be read, SessionChanged if it is that of another key or release.
        """
        session = self._cache.get(key)
        if session is None:
            with self._thread_lock:
                session = self._cache.get(key) or self._load(key)
                if session is None:
                    session, path = Session(key=key), self._get_session_path(key)
                    writing.remember(session, path, self._read(path)[1] if path.exists() else writing.empty_base())
                self._cache[key] = session
        return session

    def _load(self, key: str) -> Session | None:
        """Return the session in a key's file, or None if there is no file or only damage. Raises as `get_or_create`."""
        path = self._get_session_path(key)
        self._move_legacy_file(key, path)
        try:
            rows, base = self._read(path)
        except FileNotFoundError:
            if reason := loading.reason_against_file(self.sessions_dir, key, None):
                raise SessionChanged(f"{key}: {reason}.") from None
            return None
        if reason := loading.reason_against_file(self.sessions_dir, key, base):
            raise SessionChanged(f"{key}: {reason}.")
        if not rows and not base.head and base.incomplete:
            return None
        session = Session(key, rows, metadata={})
        loading.take_head(session, base.head)
        writing.remember(session, path, base)
        return session

    def _repair(self, key: str) -> Session | None:
        """Return what `_load` returns, which is all that can be read."""
        return self._load(key)

    def _read(self, path: Path) -> tuple[list[dict[str, Any]], Base]:
        """Return the rows of a file and what else it holds, outside of any save. Raises OSError."""
        unchanged = loading.read_unchanged(path)
        if unchanged is not None:
            data, file_stat = unchanged
            rows, base = loading.read_rows(data)
            base.stat = file_stat
            if not base.unfinished:
                return rows, base
        # Others are writing. Under the lock, an unfinished save is one that never ended.
        with self._locked(), open(path, "rb") as file:
            rows, base = loading.read_rows(file.read())
            base.stat = stat_of(os.fstat(file.fileno()))
        return rows, base

    def _legacy_data(self, key: str) -> bytes | None:
        """Return the bytes of a key's file of the first releases, or None if it is not of this workspace."""
        legacy = self._get_legacy_session_path(key)
        if not legacy.is_file() or legacy == self._get_session_path(key):
            return None
        data = legacy.read_bytes()
        stored_key = loading.read_rows(data)[1].head.get("key")
        if stored_key == key:
            return data
        # A file without a key belongs to the default workspace.
        default_workspace = self.legacy_sessions_dir.parent / "workspace"
        return data if not stored_key and self.workspace.resolve() == default_workspace.resolve() else None

    def _move_legacy_file(self, key: str, path: Path) -> None:
        """Move a session of the first releases to `path`, if it is of this workspace and has no file there."""
        if path.exists() or self._legacy_data(key) is None:
            return
        with self._locked():
            data = self._legacy_data(key)
            if data is not None and not path.exists():
                legacy = self._get_legacy_session_path(key)
                replace_file(path, [data], True, stat.S_IMODE(legacy.stat().st_mode))
                legacy.unlink()

    def read_session_file(self, key: str) -> dict[str, Any] | None:
        """Return key, created_at, updated_at, metadata and messages of a key's file, or None if it does not exist."""
        try:
            rows, base = self._read(self._get_session_path(key))
        except FileNotFoundError:
            return None
        head, stored_key, metadata = base.head, base.head.get("key"), base.head.get("metadata")
        if isinstance(stored_key, str) and stored_key not in ("", key):
            _log.warning("%s: its file holds the session %r", key, stored_key)
            return None
        if not rows and not head and base.incomplete:
            return None
        return {
            "key": stored_key or key,
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
        """Return key, created_at, updated_at, title, preview and path of each file's session, last updated first."""
        entries = [listed_file(path) for path in self.sessions_dir.glob("*.jsonl")]
        sessions = [entry for entry in entries if entry is not None]
        return sorted(sessions, key=lambda session: str(session["updated_at"] or ""), reverse=True)

    # -- writing

    def save(self, session: Session, *, fsync: bool = False) -> None:
        """Write what changed since the session was last read or saved, all of it or nothing.

        If rows were only added, they are appended; otherwise the file is replaced. If another writer only added rows
        too, they are taken into the session before ours. With `fsync`, the file survives a power failure. Raises
        SessionChanged if both changed the same, with ours kept in a bundle, Unwritable (a TypeError) for a value that
        JSON cannot hold, and OSError. The file is then as before.
        """
        with self._locked():
            path = self._get_session_path(session.key)
            base = writing.base_of(session, path)
            head = loading.head_of(session, base)
            own = writing.snapshot_of(list(session.messages), base or writing.empty_base(), head)
            base = self._take_others_changes(session, path, base, own)
            writing.remember(session, path, base)
            if self._write_changes(session, path, base, own, fsync):
                self._cache[session.key] = session
            else:
                # The session that was last written is in the cache, since it holds all that is in the file.
                self._cache.setdefault(session.key, session)

    def append(self, session: Session, messages: Sequence[dict[str, Any]], *, fsync: bool = False) -> None:
        """Add rows to a session and write only these. The cost does not depend on the length of the session.

        Changes of earlier rows are written by the next `save`. Raises as `save` does; the session is then as before.
        """
        added = list(messages)
        if not added:
            return
        with self._locked():
            path, before = self._get_session_path(session.key), session.updated_at
            base = writing.base_of(session, path)
            added_snapshot = writing.snapshot_of(added, writing.empty_base(), {}, len(session.messages))
            # If the session has other new rows, too, it is saved as a whole.
            only_these = base is not None and len(session.messages) == len(base.hashes)
            session.updated_at = max(datetime.now(before.tzinfo), before)
            session.messages.extend(added)
            try:
                appended = False
                if base is not None and only_these and loading.is_unchanged(path, base):
                    lines = [added_snapshot.new_lines[row_hash] for row_hash in added_snapshot.hashes]
                    head = loading.head_of(session, base)
                    appended = writing.append_rows(path, base, head, lines, added_snapshot.hashes, fsync)
                if not appended:
                    self.save(session, fsync=fsync)
            except BaseException:
                # A save may have inserted rows of others before the added ones.
                del session.messages[len(session.messages) - len(added) :]
                session.updated_at = before
                raise
            self._cache[session.key] = session

    def _write_changes(self, session: Session, path: Path, base: Base, own: Snapshot, sync: bool) -> bool:
        """Write a session to a file that holds what `base` says. Return whether there was anything to write."""
        stored = len(base.hashes)
        if base.head_line and own.hashes[:stored] == base.hashes:
            if own.is_same_as(base):
                if sync:
                    with open(path, "r+b" if os.access(path, os.W_OK) else "rb", buffering=0) as file:
                        os.fsync(file.fileno())
                    sync_folder(path.parent)
                return False
            lines = [
                own.new_lines.get(own.hashes[index]) or row_line(own.rows[index], index)
                for index in range(stored, len(own.rows))
            ]
            if writing.append_rows(path, base, own.head, lines, own.hashes[stored:], sync):
                return True
        if base.incomplete:
            files = {path.name: path.read_bytes()}
            keep(self.sessions_dir, BundleKind.QUARANTINE, session.key, "parts of this file could not be read", files)
        head = writing.with_new_save_id(own.head)
        base.last_save_id = head[SAVE]
        head_line = writing.padded_line(head)
        assert head_line is not None
        made = writing.empty_base()
        made.stat = stat_of(replace_file(path, writing.whole_file(head_line, own, base, path, made), sync))
        made.head = json.loads(head_line)
        writing.remember(session, path, made)
        return True

    # -- what others wrote meanwhile

    def _take_others_changes(self, session: Session, path: Path, base: Base | None, own: Snapshot) -> Base:
        """Take rows and metadata that others wrote into a session. Return what its file holds now.

        Raises SessionChanged if that is not possible.
        """
        try:
            with open(path, "rb", buffering=0) as file:
                if base is not None and base.matches(file):
                    return base
                file.seek(0)
                status, data = os.fstat(file.fileno()), file.readall()
        except FileNotFoundError:
            if base is not None and base.stat is not None:
                raise self._conflict(session, own, "another writer deleted its file") from None
            if reason := loading.reason_against_file(self.sessions_dir, session.key, None):
                raise self._conflict(session, own, reason) from None
            return base or writing.empty_base()
        rows, now = loading.read_rows(data)
        now.stat = stat_of(status)
        if reason := loading.reason_against_file(self.sessions_dir, session.key, now):
            raise self._conflict(session, own, reason)
        if base is not None and base.last_save_id and base.last_save_id == now.head.get(SAVE):
            # Our own last save wrote this, and failed only afterwards.
            return now
        if base is not None and own.is_same_as(base):
            session.messages[:] = rows
            loading.take_head(session, now.head)
            own.hashes = now.hashes[:]
        elif not loading.merge(session, base, own, rows, now):
            raise self._conflict(session, own, "its file holds other rows or metadata than this session was made of")
        own.rows = list(session.messages)
        own.head = loading.head_of(session, now)
        return now

    def _conflict(self, session: Session, own: Snapshot, reason: str) -> SessionChanged:
        """Write a session that cannot be saved to a bundle, and return the error that names it."""
        path = self._get_session_path(session.key)
        lines = [line_of(own.head, "metadata"), *(row_line(row, index) for index, row in enumerate(own.rows))]
        bundle = keep(self.sessions_dir, BundleKind.CONFLICT, session.key, reason, {path.name: b"".join(lines)})
        if self._cache.get(session.key) is session:
            del self._cache[session.key]
        return SessionChanged(
            f"{session.key}: {reason}. The file was left as it is, and this session is kept in {bundle}."
        )

    # -- cache and files

    def flush_all(self) -> int:
        """Save every cached session durably, and return how many. One that cannot be saved is logged."""
        flushed = 0
        for key, session in list(self._cache.items()):
            try:
                self.save(session, fsync=True)
                flushed += 1
            except Exception as error:
                _log.warning("%s was not saved: %s", key, error)
        return flushed

    def invalidate(self, key: str) -> None:
        """Remove a key's session from the cache."""
        self._cache.pop(key, None)

    def delete_session(self, key: str) -> bool:
        """Delete the file of a key, and its copy of the first releases. Return whether there was one of this key."""
        self.invalidate(key)
        deleted = False
        with self._locked():
            path = self._get_session_path(key)
            with suppress(FileNotFoundError):
                reason = loading.reason_against_file(self.sessions_dir, key, loading.read_rows(path.read_bytes())[1])
                if reason is None:
                    path.unlink()
                    sync_folder(path.parent)
                    deleted = True
                else:
                    _log.warning("%s was not deleted: %s", key, reason)
            if self._legacy_data(key) is not None:
                legacy = self._get_legacy_session_path(key)
                legacy.unlink()
                sync_folder(legacy.parent)
                deleted = True
        return deleted
