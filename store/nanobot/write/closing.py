"""Plans for closing nanobot's sessions, and for restoring what was closed or repaired."""

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

from .file_edits import OFFLINE, FileAttributes, FileEdit, Files, digest, digest_without_undone


class CloseInputs(Protocol):
    """The reads of a folder that closing its sessions needs."""

    def file_of(self, ref: Ref) -> str | None: ...
    def session(self, ref: Ref) -> SessionDetail: ...
    def session_table(self) -> SessionTable: ...
    def summaries(self, keys: Sequence[int]) -> list[SessionSummary]: ...


def legacy_folder(folder: Folder) -> Path | None:
    """Return the folder in which the first releases kept the sessions of all workspaces.

    None if it does not exist, or if it is `folder` itself.
    """
    path = Path(os.path.abspath(folder.path))
    legacy = _nanobot_home(path) / SESSIONS
    return legacy if legacy != path and legacy.is_dir() else None


def _nanobot_home(folder: Path) -> Path:
    """Return the `.nanobot` folder that is nearest above a folder, or that of the user."""
    return next((parent for parent in folder.parents if parent.name == HOME), Path.home() / HOME)


# -- closing


def plan_close(reader: CloseInputs, folder: Folder, files: Files, action: Close) -> Plan:
    """Return the plan for closing sessions. Raises UnknownSession."""
    members: list[Member] = []
    edits: dict[tuple[bool, str], FileEdit] = {}
    kept_files: list[str] = []
    asked_ids = {ref.id for ref in action.refs}
    for ref in dict.fromkeys(action.refs):
        session_file = reader.file_of(ref)
        if session_file is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        detail = reader.session(Ref(ref.layout, ref.id, session_file))
        members.append(_closed_member(detail))
        members += _forks(reader, detail, asked_ids)
        for legacy, name in _files_of(folder, files, detail, session_file):
            edits[legacy, name] = FileEdit(name, digest(files.read(name, legacy)), None, legacy=legacy)
        kept_files += _kept_files(folder, detail.summary.ref.id)
    closed = [member for member in members if member.fate is Fate.DELETED]
    messages = sum(member.messages for member in closed)
    sentence = (
        f"{len(closed)} {'session' if len(closed) == 1 else 'sessions'} and {messages:,} "
        f"{'message goes' if messages == 1 else 'messages go'} to the trash, in {len(edits)} "
        f"{'file' if len(edits) == 1 else 'files'}."
    )
    return Plan(
        action,
        len(closed),
        (sentence, *kept_files),
        tuple(f"{member.ref.id}: {reason}" for member in closed for reason in member.against),
        tuple(Change(Spot(file=edit.name), "a file", edit.name, None) for edit in edits.values()),
        offline=OFFLINE,
        work=tuple(edits.values()),
        members=tuple(members),
    )


def _closed_member(detail: SessionDetail) -> Member:
    summary = detail.summary
    against = []
    if detail.pending or any(label == "open turn" for label, _ in detail.extras):
        against.append(wording.TURN_IS_OPEN)
    if detail.unanswered:
        against.append(wording.calls_without_result(len(detail.unanswered)))
    return Member(
        summary.ref,
        Fate.DELETED,
        "asked for",
        kind=summary.kind,
        title=summary.title,
        preview=summary.preview,
        messages=summary.message_count.value,
        against=tuple(against),
    )


def _forks(reader: CloseInputs, detail: SessionDetail, asked_ids: set[str]) -> Iterator[Member]:
    """Yield the forks of a session that are not closed themselves. They are kept; no file stores a link to cut."""
    session_table = reader.session_table()
    index = session_table.find(detail.summary.key)
    if index is None:
        return
    for child in session_table.children(index):
        for summary in reader.summaries([session_table.keys[child]]):
            if summary.kind == "fork" and summary.ref.id not in asked_ids:
                yield Member(
                    summary.ref,
                    Fate.DETACHED,
                    "is a fork of it: stays",
                    depth=1,
                    kind=summary.kind,
                    title=summary.title,
                    preview=summary.preview,
                    messages=summary.message_count.value,
                )


def _files_of(folder: Folder, files: Files, detail: SessionDetail, session_file: str) -> Iterator[tuple[bool, str]]:
    """Yield the files of a session as (legacy, name).

    These are its own file, its checkpoint, the temporary files of interrupted saves, and its copy in the folder of the
    first releases.
    """
    yield False, session_file
    stem = folder.name_of(session_file).stem
    for name in sorted(os.listdir(folder.path)):
        parsed = file_name(name)
        is_temporary = parsed is not None and parsed.temporary and parsed.stem == stem
        if name != session_file and (is_temporary or name == f"{stem}{CHECKPOINT}"):
            yield False, name
    legacy_name = f"{safe_name(detail.summary.ref.id)}{ENDING}"
    if files.legacy is not None and files.read(legacy_name, legacy=True) is not None:
        yield True, legacy_name


def _kept_files(folder: Folder, key: str) -> Iterator[str]:
    """Yield a sentence for each place outside the folder where nanobot keeps data of a session. None is touched."""
    path = Path(os.path.abspath(folder.path))
    name = safe_name(key.replace(":", "_"))
    tool_results = path.parent / HOME / "tool-results" / name
    web_transcript = _nanobot_home(path) / "webui" / f"{name}{ENDING}"
    for kept_path in (tool_results, web_transcript):
        if kept_path.exists():
            yield f"{kept_path} stays."


# -- restoring


def plan_restore(files: Files, action: Restore) -> Plan:
    """Return the plan for restoring files from a backup or from the trash.

    Raises Misused if the bundle is not of nanobot's files, NotAnArchive if it cannot be read, and Refused if a file of
    a backup has changed since, or if there is nothing to restore.
    """
    bundle = Path(action.bundle)
    manifest = read_manifest(bundle)
    if manifest.kind not in (BundleKind.BACKUP, BundleKind.TRASH) or manifest.more.get("archive") != "nanobot":
        raise Misused(f"{bundle}: was not kept from a folder of nanobot's sessions.")
    from_trash = manifest.kind is BundleKind.TRASH
    edits: list[FileEdit] = []
    notes: list[str] = []
    try:
        for name, kept_name, before, after, legacy, attributes, after_without_undone in manifest.more["targets"]:
            _check_file_names(name, kept_name)
            present = files.read(name, legacy)
            is_known = digest(present) in (before, after) or digest_without_undone(present) == after_without_undone
            if not is_known:
                if not from_trash:
                    raise Refused(f"{name} has changed since; nothing was done.")
                notes.append(wording.is_not_overwritten(name))
                continue
            kept = (bundle / kept_name).read_bytes() if kept_name is not None else None
            if digest(kept) != before:
                raise NotAnArchive(f"{bundle / str(kept_name)}: is not what was kept there.")
            if present != kept:
                restored = _kept_attributes(attributes) if present is None else None
                edits.append(FileEdit(name, digest(present), kept, legacy=bool(legacy), attributes=restored))
        entries = manifest.more.get("sessions", ())
        members = tuple(_restored_member(entry) for entry in entries if entry.get("fate") == Fate.DELETED)
    except (KeyError, TypeError, ValueError, OSError, AttributeError) as error:
        raise NotAnArchive(f"{bundle}: what it keeps cannot be read ({error}).") from None
    if not edits:
        reason = notes[0] if notes else "was put back already"
        raise Refused(f"{bundle}: {reason}; nothing was done.")
    return Plan(
        action,
        len(edits),
        (_restore_sentence(len(edits), from_trash, manifest.why),),
        tuple(notes),
        tuple(_restore_change(files, edit) for edit in edits),
        offline=OFFLINE,
        work=tuple(edits),
        members=members if from_trash else (),
    )


def _check_file_names(name: str, kept_name: str | None) -> None:
    """Raise ValueError unless both are plain file names: a bundle must not lead to a file elsewhere."""
    for candidate in (name, kept_name):
        if candidate is not None and (os.path.basename(candidate) != candidate or candidate in ("", ".", "..")):
            raise ValueError(f"{candidate} is no name of a file")


def _kept_attributes(stored: Any) -> FileAttributes | None:
    """Return the attributes in a manifest's entry, (nanoseconds, mode). Of the mode, only permission bits count."""
    return FileAttributes(int(stored[0]), int(stored[1]) & 0o777) if stored is not None else None


def _restored_member(entry: dict[str, Any]) -> Member:
    title = entry.get("title")
    return Member(
        Ref("", str(entry.get("id"))),
        Fate.DELETED,
        "comes back",
        title=title if isinstance(title, str) else None,
        preview=str(entry.get("preview", "")),
        messages=int(entry.get("messages", 0)),
    )


def _restore_sentence(count: int, from_trash: bool, why: str) -> str:
    files = "1 file" if count == 1 else f"{count} files"
    if not from_trash:
        return f"{files} as before: {why}"
    return f"{files} {'comes' if count == 1 else 'come'} back."


def _restore_change(files: Files, edit: FileEdit) -> Change:
    before = _size_text(files.read(edit.name, edit.legacy))
    return Change(Spot(file=edit.name), "a file", before, _size_text(edit.after))


def _size_text(data: bytes | None) -> str | None:
    return None if data is None else f"{len(data):,} bytes"
