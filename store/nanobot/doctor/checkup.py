"""The doctor's pass over a folder of session files: each file with its sidecar, then keys that several files store.

It only reads.
"""

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
from sessionscope.store.nanobot.format.file_head import FileHead, read_file_head
from sessionscope.store.nanobot.format.line_scan import CHUNK
from sessionscope.store.nanobot.format.names import CHECKPOINT, ENDING, FileName, Naming, encoded
from sessionscope.store.nanobot.read import detail
from sessionscope.store.nanobot.read.message_scan import MessageScan, scan_messages
from sessionscope.store.protocols import Cancel

from .checks import Subject, check_file, finding, metadata_of_scan

HEAD_BYTES = 65_536
"""How many bytes of a file are read for its head."""
WORKSPACE_ID_CHARS = 32
"""How many characters the id of a workspace has, by which nanobot 0.3.5 names its folder of sessions."""
REMOVE = Choice("remove", "delete it; it is kept aside")


class ScannedFile(Struct):
    """A session file after its scan."""

    subject: Subject
    scanned: MessageScan
    mtime_ns: int

    @property
    def key(self) -> str | None:
        """The key that the metadata line stores, or None."""
        key = self.scanned.values.get("key")
        return key if isinstance(key, str) and key else None


def findings(folder: Folder, name: str | None, progress: Progress, cancel: Cancel) -> Iterator[Finding]:
    """Yield the findings about all files of a folder, or about the file called `name`. Raises Cancelled."""
    all_names = sorted(entry.name for entry in folder.files())
    checked_names = [file_name for file_name in all_names if name is None or file_name == name]
    files_by_key: dict[str, list[ScannedFile]] = {}
    for index, file_name in enumerate(checked_names):
        progress("sessions", index, len(checked_names))
        if cancel():
            raise Cancelled("stopped")
        try:
            with opening(os.path.join(folder.path, file_name)) as file:
                if name is None and is_log(folder, file_name, file):
                    continue
                scanned_file = scan_file(folder, file_name, file, cancel)
                yield from check_scanned_file(folder, scanned_file, file, all_names)
        except Cancelled:
            raise
        except StoreError as error:
            yield finding("unreadable", Severity.ERROR, Spot(file=file_name), str(error))
            continue
        if scanned_file.key is not None and not folder.name_of(file_name).temporary:
            files_by_key.setdefault(scanned_file.key, []).append(scanned_file)
    progress("sessions", len(checked_names), len(checked_names))
    for key, files in files_by_key.items():
        if len(files) > 1:
            yield from _check_shared_key(key, files)


def head_of(folder: Folder, name: str, file: OpenFile) -> FileHead:
    """Return the head of a file, without its preview."""
    return read_file_head(folder.name_of(name), file.read(0, HEAD_BYTES), file.size <= HEAD_BYTES, preview=False)


def is_log(folder: Folder, name: str, file: OpenFile) -> bool:
    """Return whether a file is nanobot's log of summaries, which is no session."""
    return head_of(folder, name, file).log


def scan_file(folder: Folder, name: str, file: OpenFile, cancel: Cancel) -> ScannedFile:
    """Read a whole file. Raises Cancelled, and Busy if the file shrinks meanwhile."""
    scanned = scan_messages(file, cancel)
    return ScannedFile(subject_of(folder, name, file, scanned), scanned, file.stat.mtime_ns)


def subject_of(folder: Folder, name: str, file: OpenFile, scanned: MessageScan) -> Subject:
    """Return the identity of a file. The key in the metadata that counts takes precedence over the file's name."""
    head = head_of(folder, name, file)
    key = scanned.values.get("key")
    session_id = key if isinstance(key, str) and key else head.key
    return Subject(Ref(folder.layout, session_id, name), name, head.name.stem, head.naming, head.later)


def check_scanned_file(
    folder: Folder, scanned_file: ScannedFile, file: OpenFile, names: list[str]
) -> Iterator[Finding]:
    """Yield the findings about one file and its sidecar. `names` are the session files of the folder."""
    name = folder.name_of(scanned_file.subject.file)
    if name.temporary:
        yield _check_temporary(folder, scanned_file, name, names)
        return
    if not scanned_file.scanned.items:
        yield finding(
            "empty-file",
            Severity.WARNING,
            scanned_file.subject.spot(),
            "It holds nothing: either nothing was ever saved, or all of it was cut off.",
        )
    yield from check_file(scanned_file.subject, scanned_file.scanned)
    yield from _check_sidecar(folder, scanned_file, file)
    yield from _check_unlisted_name(folder, scanned_file, names)


# -- temporary files


def is_complete_save(scanned: MessageScan) -> bool:
    """Return whether a temporary file holds a whole save: it begins with the metadata line, and nothing is broken."""
    items = scanned.items
    return bool(items) and items[0] is scanned.head and all(not item.code for item in items)


def main_file_name(name: FileName) -> str:
    """Return the name of the session file that a temporary file was written for."""
    return f"{name.stem}{ENDING}"


def _check_temporary(folder: Folder, scanned_file: ScannedFile, name: FileName, names: list[str]) -> Finding:
    """Return the finding about what an interrupted save left: it may hold the newest save, or half of one."""
    spot = scanned_file.subject.spot()
    main = main_file_name(name)
    description = f"A save left it that was cut off. It holds {len(scanned_file.scanned.rows)} messages"
    if not is_complete_save(scanned_file.scanned):
        return finding(
            "leftover-temporary", Severity.WARNING, spot, f"{description}, but is broken.", choices=(REMOVE,)
        )
    main_size = _content_size(folder, main) if main in names else 0
    if not main_size:
        return finding(
            "leftover-temporary",
            Severity.ERROR,
            spot,
            f"{description}, whole, and {main} is {'empty' if main in names else 'gone'}.",
            "It becomes that file.",
        )
    if _have_same_content(folder, main, scanned_file.subject.file):
        return finding(
            "leftover-temporary",
            Severity.WARNING,
            spot,
            f"A save left it that was cut off. It holds just what {main} holds.",
            "It is deleted.",
        )
    return finding(
        "leftover-temporary",
        Severity.WARNING,
        spot,
        f"{description}, whole; {main} has {main_size:,} bytes.",
        choices=(Choice("use", f"let it take the place of {main}, which is kept aside"), REMOVE),
    )


def _have_same_content(folder: Folder, name: str, other_name: str) -> bool:
    """Return whether two files hold the same bytes. They are read in chunks."""
    with (
        opening(os.path.join(folder.path, name)) as file,
        opening(os.path.join(folder.path, other_name)) as other_file,
    ):
        return file.size == other_file.size and all(
            file.read(start, start + CHUNK) == other_file.read(start, start + CHUNK)
            for start in range(0, file.size, CHUNK)
        )


def _content_size(folder: Folder, name: str) -> int:
    """Return the size of a file in bytes, or 0 if it begins with `HEAD_BYTES` blanks or NULs, or cannot be read."""
    try:
        with opening(os.path.join(folder.path, name)) as file:
            return file.size if file.read(0, HEAD_BYTES).strip(b"\0 \t\r\n") else 0
    except StoreError:
        return 0


# -- sidecars and names


def sidecar_name(subject: Subject) -> str:
    """Return the name of the checkpoint file of a session."""
    return f"{subject.stem}{CHECKPOINT}"


def _check_sidecar(folder: Folder, scanned_file: ScannedFile, file: OpenFile) -> Iterator[Finding]:
    subject, scanned = scanned_file.subject, scanned_file.scanned
    head = head_of(folder, subject.file, file)
    metadata = metadata_of_scan(scanned)
    sidecar = detail.sidecar(folder.path, head, metadata, len(scanned.rows), scanned_file.mtime_ns)
    if sidecar is None:
        return
    spot = Spot(subject.ref, file=sidecar.name)
    if sidecar.stale:
        yield finding(
            "stale-sidecar",
            Severity.INFO,
            spot,
            f"nanobot does not use this checkpoint: {sidecar.stale}.",
            choices=(REMOVE,),
        )
    else:
        yield finding(
            "open-turn",
            Severity.INFO,
            spot,
            "A turn is open: a checkpoint of it stands beside the session. Its agent may go on with it; if it never "
            "will, settle ends it.",
        )


def _check_unlisted_name(folder: Folder, scanned_file: ScannedFile, names: list[str]) -> Iterator[Finding]:
    """Yield a finding if nanobot 0.3.5 moved the file to its own folder, but does not list its name there."""
    moved = len(folder.layout) == WORKSPACE_ID_CHARS or (Path(folder.path) / ".workspace").is_file()
    if not moved or scanned_file.subject.naming is not Naming.LOSSY or folder.only is not None:
        return
    new_name = f"{encoded(scanned_file.subject.ref.id)}{ENDING}"
    choices = () if new_name in names else (Choice("rename", f"name it {new_name[:80]}, so that 0.3.5 shows it"),)
    yield finding(
        "invisible",
        Severity.WARNING,
        scanned_file.subject.spot(),
        "nanobot 0.3.5 does not show it: it moved the file here under its old name, and lists only names in base64.",
        choices=choices,
    )


def _check_shared_key(key: str, files: list[ScannedFile]) -> Iterator[Finding]:
    newest = max(files, key=lambda file: (str(file.scanned.values.get("updated_at") or ""), file.mtime_ns))
    for file in files:
        others = ", ".join(other.subject.file for other in files if other is not file)
        updated_last = "this one" if file is newest else newest.subject.file
        yield finding(
            "two-files-one-key",
            Severity.WARNING,
            file.subject.spot(),
            f"{others} stores the key {key[:60]!r} too; {updated_last} was updated last.",
        )
