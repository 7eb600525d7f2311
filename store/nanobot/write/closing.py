"""Closing nanobot's sessions: which files are moved to the trash, what speaks against it, and what is left
elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from sessionscope.store.io.bundle import BundleKind, read_manifest
from sessionscope.store.model import wording
from sessionscope.store.model.errors import Misused, NotAnArchive, Refused, UnknownSession
from sessionscope.store.model.findings import Change
from sessionscope.store.model.plans import Close, Fate, Member, Plan, Restore
from sessionscope.store.model.rows import Ref, SessionDetail, SessionSummary, Spot
from sessionscope.store.model.session_table import SessionTable
from sessionscope.store.nanobot.format.discovery import HOME, SESSIONS, Folder
from sessionscope.store.nanobot.format.names import CHECKPOINT, ENDING, file_name, safe_name

from .file_edits import OFFLINE, FileEdit, Files, Look, digest, digest_without_undone


class CloseInputs(Protocol):
    """What is read of a folder to close sessions in it."""

    def file_of(self, ref: Ref) -> str | None: ...
    def session(self, ref: Ref) -> SessionDetail: ...
    def session_table(self) -> SessionTable: ...
    def summaries(self, keys: Sequence[int]) -> list[SessionSummary]: ...


def legacy_folder(folder: Folder) -> Path | None:
    """Return where the first releases kept the sessions of all workspaces, None for that folder itself or a single
    file.
    """
    path = Path(os.path.abspath(folder.path))
    home = next((above for above in path.parents if above.name == HOME), Path.home() / HOME)
    legacy = home / SESSIONS
    return legacy if legacy != path and legacy.is_dir() else None


def plan_close(reading: CloseInputs, folder: Folder, files: Files, action: Close) -> Plan:
    """Return what closing sessions would do. Raises UnknownSession."""
    members: list[Member] = []
    targets: dict[tuple[bool, str], FileEdit] = {}
    left: list[str] = []
    for ref in dict.fromkeys(action.refs):
        name = reading.file_of(ref)
        if name is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        detail = reading.session(Ref(ref.layout, ref.id, name))
        members.append(_member(detail))
        members += _forks(reading, detail, {one.id for one in action.refs})
        for legacy, one in _files_of(folder, files, detail, name):
            targets[legacy, one] = FileEdit(one, digest(files.data(one, legacy)), None, legacy=legacy)
        left += _left(folder, detail.summary.ref.id)
    gone = [member for member in members if member.fate is Fate.DELETED]
    count = sum(member.messages for member in gone)
    said = [
        f"{len(gone)} {'session' if len(gone) == 1 else 'sessions'} and {count:,} "
        f"{'message goes' if count == 1 else 'messages go'} to the trash, in {len(targets)} "
        f"{'file' if len(targets) == 1 else 'files'}.",
        *left,
    ]
    warnings = tuple(f"{member.ref.id}: {text}" for member in gone for text in member.against)
    return Plan(
        action,
        len(gone),
        tuple(said),
        warnings,
        tuple(Change(Spot(file=target.name), "a file", target.name, None) for target in targets.values()),
        offline=OFFLINE,
        work=tuple(targets.values()),
        members=tuple(members),
    )


def _member(detail: SessionDetail) -> Member:
    summary = detail.summary
    against = [wording.TURN_IS_OPEN] if detail.pending or any(what == "open turn" for what, _ in detail.extras) else []
    if detail.unanswered:
        against.append(wording.calls_without_result(len(detail.unanswered)))
    return Member(
        summary.ref,
        Fate.DELETED,
        "asked for",
        0,
        "",
        summary.kind,
        summary.title,
        summary.preview,
        summary.message_count.value,
        tuple(against),
    )


def _forks(reading: CloseInputs, detail: SessionDetail, asked: set[str]) -> Iterator[Member]:
    """Yield the forks of a session. They stay as they are, since no file records a link to cut."""
    session_table = reading.session_table()
    at = session_table.find(detail.summary.key)
    for child in session_table.children(at) if at is not None else ():
        for one in reading.summaries([session_table.keys[child]]):
            if one.kind == "fork" and one.ref.id not in asked:
                yield Member(
                    one.ref,
                    Fate.DETACHED,
                    "is a fork of it: stays",
                    1,
                    "",
                    one.kind,
                    one.title,
                    one.preview,
                    one.message_count.value,
                )


def _files_of(folder: Folder, files: Files, detail: SessionDetail, name: str) -> Iterator[tuple[bool, str]]:
    """Yield the files of a session: its own, a checkpoint, what killed saves left, and a copy of the first releases."""
    yield False, name
    stem = folder.name_of(name).stem
    for other in sorted(os.listdir(folder.path)):
        found = file_name(other)
        left = found is not None and found.temporary and found.stem == stem
        if other != name and (left or other == f"{stem}{CHECKPOINT}"):
            yield False, other
    legacy = f"{safe_name(detail.summary.ref.id)}{ENDING}"
    if files.legacy is not None and files.data(legacy, legacy=True) is not None:
        yield True, legacy


def _left(folder: Folder, key: str) -> Iterator[str]:
    """Yield, in words, what a session has elsewhere. That is only reported."""
    path = Path(os.path.abspath(folder.path))
    results = path.parent / HOME / "tool-results" / safe_name(key.replace(":", "_"))
    home = next((above for above in path.parents if above.name == HOME), Path.home() / HOME)
    for place in (results, home / "webui" / f"{safe_name(key.replace(':', '_'))}{ENDING}"):
        if place.exists():
            yield f"{place} stays."


# -- back again


def plan_restore(files: Files, action: Restore) -> Plan:
    """Return what a repair or the trash would restore.

    Raises Refused if nothing can be restored, Misused, NotAnArchive.
    """
    folder = Path(action.bundle)
    found = read_manifest(folder)
    if found.kind not in (BundleKind.BACKUP, BundleKind.TRASH) or found.more.get("archive") != "nanobot":
        raise Misused(f"{folder}: was not kept from a folder of nanobot's sessions.")
    closed = found.kind is BundleKind.TRASH
    targets: list[FileEdit] = []
    notes: list[str] = []
    try:
        for name, kept, before, after, legacy, look, settled in found.more["targets"]:
            _check_names(name, kept)
            data = files.data(name, legacy)
            if digest(data) not in (before, after) and digest_without_undone(data) != settled:
                if not closed:
                    raise Refused(f"{name} has changed since; nothing was done.")
                notes.append(wording.is_not_overwritten(name))
                continue
            old = (folder / kept).read_bytes() if kept is not None else None
            if digest(old) != before:
                raise NotAnArchive(f"{folder / str(kept)}: is not what was kept there.")
            if data != old:
                shown = Look(int(look[0]), int(look[1]) & 0o777) if look is not None and data is None else None
                targets.append(FileEdit(name, digest(data), old, legacy=bool(legacy), look=shown))
        members = tuple(_back(one) for one in found.more.get("sessions", ()) if one.get("fate") == Fate.DELETED)
    except (KeyError, TypeError, ValueError, OSError, AttributeError) as error:
        raise NotAnArchive(f"{folder}: what it keeps cannot be read ({error}).") from None
    if not targets:
        raise Refused(
            f"{folder}: was put back already; nothing was done."
            if not notes
            else f"{folder}: {notes[0]}; nothing was done."
        )
    many = "1 file" if len(targets) == 1 else f"{len(targets)} files"
    said = f"{many} {'comes' if len(targets) == 1 else 'come'} back." if closed else f"{many} as before: {found.why}"
    return Plan(
        action,
        len(targets),
        (said,),
        tuple(notes),
        tuple(
            Change(Spot(file=target.name), "a file", _size(files.data(target.name, target.legacy)), _size(target.after))
            for target in targets
        ),
        offline=OFFLINE,
        work=tuple(targets),
        members=members if closed else (),
    )


def _check_names(name: str, kept: str | None) -> None:
    """Raise for a name from a bundle that is a path: only names of files are accepted."""
    for one in (name, kept):
        if one is not None and (os.path.basename(one) != one or one in ("", ".", "..")):
            raise ValueError(f"{one} is no name of a file")


def _back(one: dict[str, Any]) -> Member:
    title = one.get("title")
    return Member(
        Ref("", str(one.get("id"))),
        Fate.DELETED,
        "comes back",
        title=title if isinstance(title, str) else None,
        preview=str(one.get("preview", "")),
        messages=int(one.get("messages", 0)),
    )


def _size(data: bytes | None) -> str | None:
    return None if data is None else f"{len(data):,} bytes"
