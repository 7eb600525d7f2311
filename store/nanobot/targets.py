"""Files of a sessions folder that get other bytes or go, and how what they held is kept and comes back."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from msgspec import Struct

from sessionscope.store.bundle import Bundle, Kind
from sessionscope.store.errors import Busy, Damaged, Refused
from sessionscope.store.files import folder_lock, replace_file, sync_folder

from .names import ENDING
from .session_manager import LOCK

WAIT_S = 5.0
MODE = 0o600


class Look(Struct, frozen=True):
    """When a file was written, in nanoseconds, and its mode."""

    mtime_ns: int
    mode: int


class Target(Struct, frozen=True):
    """What a file is to hold, None for nothing, and what it holds now, as a digest; None where it is not there.

    `out` are the bytes of the old one, as (start, stop), that the new one lacks. `legacy` says that it stands in the
    folder of the first releases. `look` is what a file that comes back looked like.
    """

    name: str
    before: str | None
    after: bytes | None
    out: tuple[tuple[int, int], ...] = ()
    legacy: bool = False
    look: Look | None = None


def digest(data: bytes | None) -> str | None:
    """Tells what a file holds; None for one that is not there."""
    return None if data is None else blake2b(data, digest_size=16).hexdigest()


class Files:
    """The files of one folder, and of that of the first releases, which may be gone."""

    def __init__(self, folder: Path, legacy: Path | None) -> None:
        self.folder, self.legacy = folder, legacy

    def path(self, name: str, legacy: bool = False) -> Path:
        """Where a file stands. Raises Refused where a bundle names what cannot be."""
        if legacy and self.legacy is None:
            raise Refused(f"{name}: the folder of the first releases is not known here.")
        return (self.legacy if legacy and self.legacy is not None else self.folder) / name

    def data(self, name: str, legacy: bool = False) -> bytes | None:
        """What a file holds, None where it is not there. Raises Damaged."""
        try:
            return self.path(name, legacy).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Damaged(f"{self.path(name, legacy)}: cannot be read ({error.strerror}).") from None

    def check(self, targets: Sequence[Target]) -> None:
        """Raises Refused where a file is not what was planned on."""
        for target in targets:
            if digest(self.data(target.name, target.legacy)) != target.before:
                raise Refused(f"{target.name} has changed since this was planned; nothing was done. Look again.")

    def keep(
        self, targets: Sequence[Target], kind: Kind, what: str, why: str, more: dict[str, Any] | None = None
    ) -> Path:
        """Keeps all files that change as they are, and by itself what the new ones lack; safe when this returns."""
        try:
            bundle = Bundle(Path(os.path.realpath(self.folder)), kind, what, why)
        except OSError as error:
            raise self.refusal(error) from None
        try:
            kept: list[list[Any]] = []
            out: list[list[Any]] = []
            for at, target in enumerate(targets):
                data = self.data(target.name, target.legacy)
                path = None
                look: list[int] | None = None
                if data is not None:
                    path = bundle.add(f"{at}-{target.name}" if target.legacy else target.name, (data,))
                    status = self.path(target.name, target.legacy).stat()
                    look = [status.st_mtime_ns, stat.S_IMODE(status.st_mode)]
                kept.append(
                    [target.name, path.name if path else None, target.before, digest(target.after), target.legacy, look]
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

    def put(self, target: Target, bundle: Path | None) -> None:
        """Makes a file what it is to be. Raises Refused."""
        path = self.path(target.name, target.legacy)
        try:
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
                # To 0.3.5 a checkpoint that is older than its session is none.
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        except OSError as error:
            more = f"; what was there is kept in {bundle}" if bundle is not None else ""
            raise Refused(f"{path}: cannot be written ({error.strerror or error}){more}.") from None

    def refusal(self, error: OSError) -> Refused:
        """Why nothing can be kept aside."""
        return Refused(
            f"{self.folder}: what is changed has to be kept beside it, and that cannot be "
            f"({error.strerror or error}); nothing was done."
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps out everybody who writes with this, and takes the lock of 0.3.5 and our own manager if it is there.

        Raises Refused where another holds either for too long, Busy where the latter cannot be taken.
        """
        path = self.path(LOCK)
        with ExitStack() as held:
            try:
                held.enter_context(folder_lock(self.folder, WAIT_S))
            except TimeoutError:
                raise self._taken() from None
            if path.exists():
                from filelock import FileLock, Timeout

                try:
                    held.enter_context(FileLock(path, timeout=WAIT_S))
                except Timeout:
                    raise self._taken() from None
                except OSError as error:
                    raise Busy(f"{path}: cannot be locked ({error.strerror or error}).") from None
            yield

    def _taken(self) -> Refused:
        return Refused(f"{self.folder}: another process holds its lock; stop it, or try again.")
