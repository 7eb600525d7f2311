"""Checks of a folder of session files: each file by itself, then the files next to it. Reads only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from sessionscope.store.model.errors import Cancelled, StoreError
from sessionscope.store.model.findings import Choice, Finding, Severity
from sessionscope.store.model.plans import Progress
from sessionscope.store.model.rows import Ref, Spot
from sessionscope.store.nanobot.format.discovery import Folder
from sessionscope.store.nanobot.format.file import OpenFile, opening
from sessionscope.store.nanobot.format.file_head import read_file_head
from sessionscope.store.nanobot.format.line_scan import CHUNK
from sessionscope.store.nanobot.format.names import CHECKPOINT, ENDING, FileName, Naming, encoded
from sessionscope.store.nanobot.read import detail
from sessionscope.store.nanobot.read.message_scan import MessageScan, scan_messages
from sessionscope.store.protocols import Cancel

from .checks import Subject, check_file, finding, metadata_of_scan

HEAD_BYTES, ID_CHARS = 65_536, 32


class Looked(Struct):
    """A file that was scanned: its subject, its contents, and when it was written last."""

    subject: Subject
    scanned: MessageScan
    mtime_ns: int

    @property
    def key(self) -> str | None:
        """The key that it stores."""
        found = self.scanned.values.get("key")
        return found if isinstance(found, str) and found else None


def findings(folder: Folder, name: str | None, progress: Progress, cancel: Cancel) -> Iterator[Finding]:
    """Yield what is wrong with all files of a folder, or with one by its name. Raises Cancelled."""
    names = sorted(entry.name for entry in folder.files())
    keys: dict[str, list[Looked]] = {}
    wanted = [one for one in names if name is None or one == name]
    for at, one in enumerate(wanted):
        progress("sessions", at, len(wanted))
        if cancel():
            raise Cancelled("stopped")
        try:
            with opening(os.path.join(folder.path, one)) as file:
                if name is None and is_log(folder, one, file):
                    continue
                found = look(folder, one, file, cancel)
                yield from of_file(folder, found, file, names)
        except Cancelled:
            raise
        except StoreError as error:
            yield finding("unreadable", Severity.ERROR, Spot(file=one), str(error))
            continue
        if found.key is not None and not folder.name_of(one).temporary:
            keys.setdefault(found.key, []).append(found)
    progress("sessions", len(wanted), len(wanted))
    for key, some in keys.items():
        if len(some) > 1:
            yield from _one_key(key, some)


def is_log(folder: Folder, name: str, file: OpenFile) -> bool:
    """Return whether a file is nanobot's log of summaries, which is no session."""
    return read_file_head(folder.name_of(name), file.read(0, HEAD_BYTES), file.size <= HEAD_BYTES, preview=False).log


def look(folder: Folder, name: str, file: OpenFile, cancel: Cancel) -> Looked:
    """Scan a file."""
    scanned = scan_messages(file, cancel)
    return Looked(subject_of(folder, name, file, scanned), scanned, file.stat.mtime_ns)


def subject_of(folder: Folder, name: str, file: OpenFile, scanned: MessageScan) -> Subject:
    """Return the subject for a file."""
    head = read_file_head(folder.name_of(name), file.read(0, HEAD_BYTES), file.size <= HEAD_BYTES, preview=False)
    key = scanned.values.get("key")
    id_ = key if isinstance(key, str) and key else head.key
    return Subject(Ref(folder.layout, id_, name), name, head.name.stem, head.naming, head.later)


def of_file(folder: Folder, found: Looked, file: OpenFile, names: list[str]) -> Iterator[Finding]:
    """Yield what is wrong with one file, and with the files next to it."""
    name = folder.name_of(found.subject.file)
    if name.temporary:
        yield from _temporary(folder, found, name, names)
        return
    if not found.scanned.items:
        yield finding(
            "empty-file",
            Severity.WARNING,
            found.subject.spot(),
            "It holds nothing: either nothing was ever saved, or all of it was cut off.",
        )
    yield from check_file(found.subject, found.scanned)
    yield from _sidecar(folder, found, file)
    yield from _invisible(folder, found, names)


# -- beside it


def complete(scanned: MessageScan) -> bool:
    """Return whether a temporary file is a whole save: a metadata line, and nothing that is broken."""
    items = scanned.items
    return bool(items) and items[0] is scanned.head and all(not item.code for item in items)


def main_of(name: FileName) -> str:
    """Return the file that a temporary one was meant to become."""
    return f"{name.stem}{ENDING}"


def _temporary(folder: Folder, found: Looked, name: FileName, names: list[str]) -> Iterator[Finding]:
    """Yield what is wrong with a save that was cut off: it may hold the newest save, or half of one."""
    main, whole, many = main_of(name), complete(found.scanned), len(found.scanned.rows)
    place = found.subject.spot()
    size = _size(folder, main) if main in names else 0
    remove = Choice("remove", "delete it; it is kept aside")
    what = f"A save left it that was cut off. It holds {many} messages" + (", whole" if whole else ", but is broken")
    if whole and size and _same(folder, main, found.subject.file):
        yield finding(
            "leftover-temporary",
            Severity.WARNING,
            place,
            f"A save left it that was cut off. It holds just what {main} holds.",
            "It is deleted.",
        )
    elif whole and not size:
        yield finding(
            "leftover-temporary",
            Severity.ERROR,
            place,
            f"{what}, and {main} is {'empty' if main in names else 'gone'}.",
            "It becomes that file.",
        )
    elif whole:
        yield finding(
            "leftover-temporary",
            Severity.WARNING,
            place,
            f"{what}; {main} has {size:,} bytes.",
            "",
            (Choice("use", f"let it take the place of {main}, which is kept aside"), remove),
        )
    else:
        yield finding("leftover-temporary", Severity.WARNING, place, f"{what}.", "", (remove,))


def _same(folder: Folder, one: str, other: str) -> bool:
    """Return whether two files hold the same bytes. Reads in windows."""
    with opening(os.path.join(folder.path, one)) as first, opening(os.path.join(folder.path, other)) as second:
        return first.size == second.size and all(
            first.read(at, at + CHUNK) == second.read(at, at + CHUNK) for at in range(0, first.size, CHUNK)
        )


def _size(folder: Folder, name: str) -> int:
    """Return the bytes of a file, 0 if it holds only blanks."""
    try:
        with opening(os.path.join(folder.path, name)) as file:
            return file.size if file.read(0, HEAD_BYTES).strip(b"\0 \t\r\n") else 0
    except StoreError:
        return 0


def _sidecar(folder: Folder, found: Looked, file: OpenFile) -> Iterator[Finding]:
    scanned = found.scanned
    head = read_file_head(
        folder.name_of(found.subject.file), file.read(0, HEAD_BYTES), file.size <= HEAD_BYTES, preview=False
    )
    beside = detail.sidecar(folder.path, head, metadata_of_scan(scanned), len(scanned.rows), found.mtime_ns)
    if beside is None:
        return
    place = Spot(found.subject.ref, file=beside.name)
    if beside.stale:
        yield finding(
            "stale-sidecar",
            Severity.INFO,
            place,
            f"nanobot does not use this checkpoint: {beside.stale}.",
            "",
            (Choice("remove", "delete it; it is kept aside"),),
        )
    else:
        yield finding(
            "open-turn",
            Severity.INFO,
            place,
            "A turn is open: a checkpoint of it stands beside the "
            "session. Its agent may go on with it; if it never will, settle ends it.",
        )


def _invisible(folder: Folder, found: Looked, names: list[str]) -> Iterator[Finding]:
    """Yield a finding for a session that 0.3.5 moved to its own folder under a name that it does not list."""
    moved = len(folder.layout) == ID_CHARS or (Path(folder.path) / ".workspace").is_file()
    if not moved or found.subject.naming is not Naming.LOSSY or folder.only is not None:
        return
    new = f"{encoded(found.subject.ref.id)}{ENDING}"
    choices = () if new in names else (Choice("rename", f"name it {new[:80]}, so that 0.3.5 shows it"),)
    yield finding(
        "invisible",
        Severity.WARNING,
        found.subject.spot(),
        "nanobot 0.3.5 does not show it: it moved the file here under its old name, and lists only names in base64.",
        "",
        choices,
    )


def _one_key(key: str, some: list[Looked]) -> Iterator[Finding]:
    newest = max(some, key=lambda one: (str(one.scanned.values.get("updated_at") or ""), one.mtime_ns))
    for one in some:
        others = ", ".join(other.subject.file for other in some if other is not one)
        yield finding(
            "two-files-one-key",
            Severity.WARNING,
            one.subject.spot(),
            f"{others} stores the key "
            f"{key[:60]!r} too; {'this one' if one is newest else newest.subject.file} was updated last.",
        )


def checkpoint_name(subject: Subject) -> str:
    """Return the name of the sidecar of a file."""
    return f"{subject.stem}{CHECKPOINT}"
