"""Edits of files in a sessions folder: how they are checked, backed up and written, all of them or none."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from msgspec import Struct

from sessionscope.store.io.bundle import Bundle, BundleKind
from sessionscope.store.io.files import FolderLock, replace_file, sync_folder
from sessionscope.store.model import wording
from sessionscope.store.model.errors import Damaged, Refused, StoreError
from sessionscope.store.model.plans import Progress
from sessionscope.store.nanobot.format.compaction_log import COMPACTION_LOG, read_compaction_log
from sessionscope.store.nanobot.format.names import CHECKPOINT, ENDING, LOCK

OFFLINE = "A running nanobot would overwrite this."
"""Why a plan has to be confirmed before it is applied."""
WAIT_S = 5.0
"""How many seconds each lock is waited for."""
NEW_FILE_MODE = 0o600
"""The permission bits of a file that did not exist before."""


class FileAttributes(Struct, frozen=True):
    """The attributes that a file gets back together with its content."""

    mtime_ns: int
    """The time of modification, in nanoseconds since the epoch."""
    mode: int
    """The permission bits."""


class FileEdit(Struct, frozen=True):
    """New content for one file, or its removal."""

    name: str
    before: str | None
    """The digest of the present content, or None if the file does not exist."""
    after: bytes | None
    """The new content, or None if the file is removed."""
    removed_spans: tuple[tuple[int, int], ...] = ()
    """The bytes of the present content that the new content lacks, as (start, stop)."""
    legacy: bool = False
    """Whether the file is in the sessions folder of the first releases."""
    attributes: FileAttributes | None = None
    """The attributes of a file that is restored."""


def digest(data: bytes | None) -> str | None:
    """Return a digest of a file's content, or None for a file that does not exist."""
    return None if data is None else blake2b(data, digest_size=16).hexdigest()


def digest_without_undone(data: bytes | None) -> str | None:
    """Return a digest of a file's content that is the same before a compaction and after its undo.

    An undone compaction leaves only its entry in our log in the metadata. So the log is left out of the digest, unless
    it holds a compaction that is not undone.
    """
    if data is None:
        return None
    line, newline, rest = data.partition(b"\n")
    try:
        values = json.loads(line)
        metadata = values["metadata"]
        if not any(compaction.undone is None for compaction in read_compaction_log(metadata)):
            metadata.pop(COMPACTION_LOG, None)
        if not metadata:
            del values["metadata"]
        line = json.dumps(values, sort_keys=True).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # The first line is no metadata line, so it counts byte for byte.
        pass
    return digest(line + newline + rest)


class Files:
    """The files of a sessions folder and of the sessions folder of the first releases, which may not exist."""

    def __init__(self, folder: Path, legacy: Path | None) -> None:
        self.folder, self.legacy = folder, legacy

    def path(self, name: str, legacy: bool = False) -> Path:
        """Return the path of a file. Raises Refused if it is a legacy file and there is no such folder."""
        if not legacy:
            return self.folder / name
        if self.legacy is None:
            raise Refused(f"{name}: the folder of the first releases is not known here.")
        return self.legacy / name

    def read(self, name: str, legacy: bool = False) -> bytes | None:
        """Return the content of a file, or None if it does not exist. Raises Damaged if it cannot be read."""
        path = self.path(name, legacy)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Damaged(f"{path}: cannot be read ({error.strerror}).") from None

    def _attributes(self, edit: FileEdit) -> FileAttributes:
        status = self.path(edit.name, edit.legacy).stat()
        return FileAttributes(status.st_mtime_ns, stat.S_IMODE(status.st_mode))

    def _read_unchanged(self, edit: FileEdit) -> bytes | None:
        """Return the present content of an edit's file. Raises Refused if it is not what the edit was planned on."""
        data = self.read(edit.name, edit.legacy)
        if digest(data) != edit.before:
            raise Refused(f"{edit.name} has changed since this was planned; nothing was changed. Look again.")
        return data

    def check(self, edits: Sequence[FileEdit]) -> None:
        """Raise Refused if a file is not what its edit was planned on."""
        for edit in edits:
            self._read_unchanged(edit)

    # -- backup

    def back_up(
        self, edits: Sequence[FileEdit], kind: BundleKind, what: str, why: str, more: dict[str, Any] | None = None
    ) -> Path:
        """Copy all files that change to a new bundle, and return its path. It is durably on disk then.

        The bytes that a new content lacks are also kept in a file of their own. Raises Refused if a file has changed
        or if the bundle cannot be written; then there is no bundle.
        """
        try:
            bundle = Bundle(Path(os.path.realpath(self.folder)), kind, what, why)
        except OSError as error:
            raise self._backup_failed(error) from None
        try:
            entries: list[list[Any]] = []
            quarantined: list[list[Any]] = []
            for index, edit in enumerate(edits):
                data = self._read_unchanged(edit)
                entries.append(self._add_file(bundle, index, edit, data))
                if data is not None and edit.removed_spans:
                    bundle.add(f"{edit.name}.quarantine", (data[start:stop] for start, stop in edit.removed_spans))
                    quarantined += [[edit.name, start, stop] for start, stop in edit.removed_spans]
            return bundle.seal({"archive": "nanobot", "targets": entries, "quarantined": quarantined} | (more or {}))
        except OSError as error:
            bundle.discard()
            raise self._backup_failed(error) from None
        except BaseException:
            bundle.discard()
            raise

    def _add_file(self, bundle: Bundle, index: int, edit: FileEdit, data: bytes | None) -> list[Any]:
        """Copy a file to a bundle, if it exists. Return its entry for the manifest."""
        kept_name = None
        attributes: list[int] | None = None
        if data is not None:
            # A legacy file may have the name of another file in the bundle.
            kept_name = bundle.add(f"{index}-{edit.name}" if edit.legacy else edit.name, (data,)).name
            present = self._attributes(edit)
            attributes = [present.mtime_ns, present.mode]
        return [
            edit.name,
            kept_name,
            edit.before,
            digest(edit.after),
            edit.legacy,
            attributes,
            digest_without_undone(edit.after),
        ]

    def _backup_failed(self, error: OSError) -> Refused:
        return Refused(wording.cannot_back_up(self.folder, error))

    # -- writing

    def apply(self, edits: Sequence[FileEdit], bundle: Path | None, progress: Progress, changed: list[str]) -> None:
        """Write all edits. If one fails or an interrupt comes, put the files that were already written back.

        A file that others changed since `check` is left as it is. Whether this returns or raises, `changed` gets the
        names of the files that are not as before. Raises Refused; if a file could not be put back, the error says what
        each file holds, and that the old contents are in `bundle`.
        """
        started: list[tuple[FileEdit, bytes | None, FileAttributes | None]] = []
        try:
            for index, edit in enumerate(sorted(edits, key=lambda edit: edit.after is None)):
                progress("files", index, len(edits))
                data = self._read_unchanged(edit)
                attributes = self._attributes(edit) if data is not None else None
                # It is noted before it is written, since an interrupt may come between any two steps.
                started.append((edit, data, attributes))
                self._write(edit)
            changed[:] = [edit.name for edit in edits]
        except BaseException as error:
            not_restored = [
                edit.name for edit, data, attributes in reversed(started) if not self._put_back(edit, data, attributes)
            ]
            changed[:] = not_restored
            if isinstance(error, OSError):
                raise Refused(self._write_failed(error, edits, not_restored, bundle)) from None
            if not_restored and isinstance(error, StoreError):
                raise Refused(self._states(edits, bundle)) from None
            raise
        progress("files", len(edits), len(edits))

    def _write(self, edit: FileEdit) -> None:
        """Write or remove the file of an edit. Raises OSError."""
        path = self.path(edit.name, edit.legacy)
        if edit.after is None:
            path.unlink(missing_ok=True)
            sync_folder(path.parent)
            return
        status = path.stat() if path.exists() else None
        attributes = edit.attributes
        mode = None
        if status is None:
            mode = attributes.mode if attributes is not None else NEW_FILE_MODE
        replace_file(path, [edit.after], True, mode)
        if attributes is not None:
            os.utime(path, ns=(attributes.mtime_ns, attributes.mtime_ns))
        elif status is not None and path.with_name(f"{path.name.removesuffix(ENDING)}{CHECKPOINT}").exists():
            # nanobot 0.3.5 ignores a checkpoint that is older than its session file.
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _put_back(self, edit: FileEdit, data: bytes | None, attributes: FileAttributes | None) -> bool:
        """Write the old content of an edit's file again. Return whether the file holds it now.

        A file that holds neither the old nor the new content was written by others, and is left as it is.
        """
        present = self._present_digest(edit)
        if present == edit.before:
            return True
        if present != digest(edit.after):
            return False
        with suppress(OSError, Refused):
            self._write(FileEdit(edit.name, digest(edit.after), data, legacy=edit.legacy, attributes=attributes))
        return self._present_digest(edit) == edit.before

    def _present_digest(self, edit: FileEdit) -> str | None:
        """Return the digest of what an edit's file holds, None if it does not exist, "" if it cannot be read."""
        try:
            return digest(self.read(edit.name, edit.legacy))
        except Damaged:
            return ""

    def _write_failed(
        self, error: OSError, edits: Sequence[FileEdit], not_restored: Sequence[str], bundle: Path | None
    ) -> str:
        message = f"{self.folder}: cannot be written ({error.strerror or error})"
        return f"{message}. {self._states(edits, bundle)}" if not_restored else f"{message}; nothing was changed."

    def _states(self, edits: Sequence[FileEdit], bundle: Path | None) -> str:
        """Return what each file holds after some could not be put back, as sentences."""
        states = ", ".join(f"{edit.name} is {self._state(edit)}" for edit in edits)
        backup = f" What they held is backed up in {bundle}." if bundle is not None else ""
        return f"Not all files could be put back: {states}.{backup}"

    def _state(self, edit: FileEdit) -> str:
        present = self._present_digest(edit)
        if present == edit.before:
            return "as before"
        if present != digest(edit.after):
            return "unknown"
        return "removed" if edit.after is None else "changed"

    # -- locks

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of our own processes, and the lock file of nanobot 0.3.5 and of our session manager.

        The lock file is created if it is missing. It is never removed, since every later writer must find the same
        file. Raises Refused if another process holds one of the two for too long, or if it cannot be taken.
        """
        from filelock import FileLock, Timeout

        folder_lock, file_lock = FolderLock(), FileLock(self.path(LOCK))
        try:
            try:
                folder_lock.acquire(self.folder, WAIT_S)
                file_lock.acquire(timeout=WAIT_S)
            except (TimeoutError, Timeout):
                raise Refused(f"{self.folder}: another process holds its lock; stop it, or try again.") from None
            except OSError as error:
                reason = error.strerror or error
                raise Refused(f"{self.path(LOCK)}: cannot be locked ({reason}); nothing was changed.") from None
            yield
        finally:
            try:
                file_lock.release()
            finally:
                folder_lock.release()
