"""Changes of files in a sessions folder, and how what they held is backed up and restored."""

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
from sessionscope.store.nanobot.format.names import ENDING, LOCK

OFFLINE = "A running nanobot would overwrite this."
WAIT_S = 5.0
MODE = 0o600


class Look(Struct, frozen=True):
    """When a file was written, in nanoseconds, and its mode."""

    mtime_ns: int
    mode: int


class FileEdit(Struct, frozen=True):
    """What a file is to hold, None for nothing, and a digest of what it holds now, None if it does not exist.

    `out` are the bytes of the old one, as (start, stop), that the new one lacks. `legacy` says that it is in the folder
    of the first releases. `look` is what a restored file looked like.
    """

    name: str
    before: str | None
    after: bytes | None
    out: tuple[tuple[int, int], ...] = ()
    legacy: bool = False
    look: Look | None = None


def digest(data: bytes | None) -> str | None:
    """Return a digest of what a file holds, None for one that does not exist."""
    return None if data is None else blake2b(data, digest_size=16).hexdigest()


def digest_without_undone(data: bytes | None) -> str | None:
    """Return a digest of what a file holds without compactions that were made here and undone: these leave only log
    entries.
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
        pass
    return digest(line + newline + rest)


class Files:
    """The files of one folder, and of that of the first releases, which may not exist."""

    def __init__(self, folder: Path, legacy: Path | None) -> None:
        self.folder, self.legacy = folder, legacy

    def path(self, name: str, legacy: bool = False) -> Path:
        """Return the path of a file. Raises Refused if a bundle names something that cannot be one."""
        if legacy and self.legacy is None:
            raise Refused(f"{name}: the folder of the first releases is not known here.")
        return (self.legacy if legacy and self.legacy is not None else self.folder) / name

    def data(self, name: str, legacy: bool = False) -> bytes | None:
        """Return what a file holds, None if it does not exist. Raises Damaged."""
        try:
            return self.path(name, legacy).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Damaged(f"{self.path(name, legacy)}: cannot be read ({error.strerror}).") from None

    def check(self, targets: Sequence[FileEdit]) -> None:
        """Raise Refused if a file is not what the plan was made from."""
        for target in targets:
            if digest(self.data(target.name, target.legacy)) != target.before:
                raise Refused(f"{target.name} has changed since this was planned; nothing was changed. Look again.")

    def keep(
        self, targets: Sequence[FileEdit], kind: BundleKind, what: str, why: str, more: dict[str, Any] | None = None
    ) -> Path:
        """Back up all files that change and, separately, what the new ones lack. Synced when this returns."""
        try:
            bundle = Bundle(Path(os.path.realpath(self.folder)), kind, what, why)
        except OSError as error:
            raise self.refusal(error) from None
        try:
            kept: list[list[Any]] = []
            out: list[list[Any]] = []
            for at, target in enumerate(targets):
                data = self.data(target.name, target.legacy)
                if digest(data) != target.before:
                    raise Refused(f"{target.name} has changed since this was planned; nothing was changed. Look again.")
                path = None
                look: list[int] | None = None
                if data is not None:
                    path = bundle.add(f"{at}-{target.name}" if target.legacy else target.name, (data,))
                    status = self.path(target.name, target.legacy).stat()
                    look = [status.st_mtime_ns, stat.S_IMODE(status.st_mode)]
                kept.append(
                    [
                        target.name,
                        path.name if path else None,
                        target.before,
                        digest(target.after),
                        target.legacy,
                        look,
                        digest_without_undone(target.after),
                    ]
                )
                if data is not None and target.out:
                    bundle.add(f"{target.name}.quarantine", (data[start:stop] for start, stop in target.out))
                    out += [[target.name, start, stop] for start, stop in target.out]
            return bundle.seal({"archive": "nanobot", "targets": kept, "quarantined": out} | (more or {}))
        except OSError as error:
            bundle.discard()
            raise self.refusal(error) from None
        except BaseException:
            bundle.discard()
            raise

    def replace(self, targets: Sequence[FileEdit], bundle: Path | None, progress: Progress, changed: list[str]) -> None:
        """Write or remove files: all of them, or none if one fails or an interrupt comes.

        What others changed since `check` is left alone. Raises Refused; if something could not be put back, it says
        what each file holds now, and that the old contents are in `bundle`. However it ends, `changed` gets the names
        of the files that are not what they were.
        """
        began: list[tuple[FileEdit, bytes | None, Look | None]] = []
        try:
            for at, target in enumerate(sorted(targets, key=lambda target: target.after is None)):
                progress("files", at, len(targets))
                data, look = self._held(target)
                if digest(data) != target.before:
                    raise Refused(f"{target.name} has changed since this was planned; nothing was changed. Look again.")
                # Noted before it is true, since an interrupt may come between any two steps.
                began.append((target, data, look))
                self._put(target)
            changed[:] = [target.name for target in targets]
        except BaseException as error:
            left = [target.name for target, data, look in reversed(began) if not self._put_back(target, data, look)]
            changed[:] = left
            if isinstance(error, OSError):
                raise Refused(self._failed(error, targets, left, bundle)) from None
            if left and isinstance(error, StoreError):
                raise Refused(self._states(targets, bundle)) from None
            raise
        progress("files", len(targets), len(targets))

    def _failed(self, error: OSError, targets: Sequence[FileEdit], left: Sequence[str], bundle: Path | None) -> str:
        said = f"{self.folder}: cannot be written ({error.strerror or error})"
        return f"{said}. {self._states(targets, bundle)}" if left else f"{said}; nothing was changed."

    def _states(self, targets: Sequence[FileEdit], bundle: Path | None) -> str:
        """Return what each file holds now, in words, if some could not be put back."""
        words: list[str] = []
        for target in targets:
            found = self._digest_now(target)
            state = "as before" if found == target.before else "changed" if found == digest(target.after) else "unknown"
            words.append(f"{target.name} is {'removed' if state == 'changed' and target.after is None else state}")
        kept = f" What they held is backed up in {bundle}." if bundle is not None else ""
        return f"Not all files could be put back: {', '.join(words)}.{kept}"

    def _digest_now(self, target: FileEdit) -> str | None:
        try:
            return digest(self.data(target.name, target.legacy))
        except Damaged:
            return ""

    def _held(self, target: FileEdit) -> tuple[bytes | None, Look | None]:
        """Return what a file holds and looks like now."""
        data = self.data(target.name, target.legacy)
        if data is None:
            return None, None
        status = self.path(target.name, target.legacy).stat()
        return data, Look(status.st_mtime_ns, stat.S_IMODE(status.st_mode))

    def _put_back(self, target: FileEdit, data: bytes | None, look: Look | None) -> bool:
        """Make a file what it was before `replace` came to it. Return whether it is that now."""
        if self._digest_now(target) == target.before:
            return True
        if self._digest_now(target) != digest(target.after):
            return False
        with suppress(OSError, Refused):
            self._put(FileEdit(target.name, digest(target.after), data, legacy=target.legacy, look=look))
        return self._digest_now(target) == target.before

    def _put(self, target: FileEdit) -> None:
        """Write or remove a file. Raises OSError."""
        path = self.path(target.name, target.legacy)
        if target.after is None:
            path.unlink(missing_ok=True)
            sync_folder(path.parent)
            return
        status = path.stat() if path.exists() else None
        look = target.look
        replace_file(path, [target.after], True, (look.mode if look else MODE) if status is None else None)
        if look is not None:
            os.utime(path, ns=(look.mtime_ns, look.mtime_ns))
        elif status is not None and path.with_name(f"{path.name.removesuffix(ENDING)}.checkpoint.json").exists():
            # 0.3.5 ignores a checkpoint that is older than its session.
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def refusal(self, error: OSError) -> Refused:
        """Return the error for a backup that cannot be made."""
        return Refused(wording.cannot_back_up(self.folder, error))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Take our own lock, and that of 0.3.5 and our own manager.

        The file of that lock is made if it is missing, and stays: a later writer must find the same one. Raises Refused
        if another holds either for too long, or if it cannot be taken.
        """
        from filelock import FileLock, Timeout

        folder, file = FolderLock(), FileLock(self.path(LOCK))
        try:
            try:
                folder.acquire(self.folder, WAIT_S)
                file.acquire(timeout=WAIT_S)
            except (TimeoutError, Timeout):
                raise self._taken() from None
            except OSError as error:
                why = error.strerror or error
                raise Refused(f"{self.path(LOCK)}: cannot be locked ({why}); nothing was changed.") from None
            yield
        finally:
            try:
                file.release()
            finally:
                folder.release()

    def _taken(self) -> Refused:
        return Refused(f"{self.folder}: another process holds its lock; stop it, or try again.")
