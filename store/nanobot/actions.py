"""Actions on a folder of session files. Each is planned first: the plan holds the new bytes of every file it changes.

To apply a plan, all files that change are backed up, except for a compaction or a restore, which need no backup to be
undone. Then each file is replaced as a whole. A running nanobot would overwrite the change with its own copy, so a
person has to confirm that none is running.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sessionscope.store.io.bundle import BundleKind, discard_restored, trash_entry
from sessionscope.store.model import wording
from sessionscope.store.model.errors import Cancelled, Misused, Refused, UnknownSession
from sessionscope.store.model.findings import Change, Finding, reasons, wanted
from sessionscope.store.model.plans import (
    Action,
    Close,
    Compact,
    Plan,
    Progress,
    Receipt,
    Repair,
    Restore,
    Settle,
    Uncompact,
    silent,
)
from sessionscope.store.model.rows import Ref, Spot
from sessionscope.store.protocols import Cancel, never

from .doctor.checks import Subject, metadata_of_scan
from .doctor.checkup import findings, head_of, main_file_name, sidecar_name, subject_of
from .format.discovery import Folder
from .format.file import Held
from .format.names import ENDING, encoded, safe_name
from .read import detail
from .read.message_scan import MessageScan, scan_messages
from .write import closing
from .write import compaction as compacting
from .write.file_edits import OFFLINE, FileEdit, Files, digest
from .write.fixes import MAX_ROUNDS, apply_fixes, fixes_of, follow_ups
from .write.settle_turn import settle

MANIFEST_CHARS = 2_000
"""To how many characters the reasons of a plan are cut in the manifest of its bundle."""
_WHOLE_FILE_CODES = {"leftover-temporary", "stale-sidecar", "invisible", "key-disagrees"}
"""The findings that are fixed by renaming, replacing or removing a file."""

ChosenFindings = Sequence[tuple[Finding, str]]
"""Findings that are fixed, each with the choice taken, empty for its default fix."""


class NanobotActions:
    """The actions on one folder of session files. May be used from any thread."""

    def __init__(self, folder: Folder, reader: Callable[[], closing.CloseInputs]) -> None:
        self._folder, self._reader = folder, reader
        self._files = Files(Path(self._folder.path), closing.legacy_folder(self._folder))

    # -- plans

    def plan(self, action: Action, progress: Progress = silent, cancel: Cancel = never) -> Plan:
        """See `sessionscope.store.protocols.Actions`."""
        match action:
            case Restore():
                return closing.plan_restore(self._files, action)
            case Close():
                return closing.plan_close(self._reader(), self._folder, self._files, action)
            case Settle():
                return self._plan_settle(action)
            case Repair():
                return self._plan_repair(action, progress, cancel)
            case Compact():
                return self._plan_compaction(action)
            case Uncompact():
                return self._plan_undo(action)
        raise Misused(f"nanobot's sessions know no {type(action).__name__.lower()}.")

    def _file_name(self, ref: Ref) -> str:
        """Return the name of a session's file. Raises UnknownSession."""
        name = self._reader().file_of(ref)
        if name is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        return name

    def _session_data(self, ref: Ref) -> tuple[str, bytes]:
        """Return the name of a session's file and its bytes.

        Raises UnknownSession, and Refused for a temporary file, which no agent loads.
        """
        name = self._file_name(ref)
        data = self._files.read(name)
        if data is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        if self._folder.name_of(name).temporary:
            raise Refused(f"{name}: is a leftover of an interrupted save. Repair it first.")
        return name, data

    def _scan(self, name: str, data: bytes) -> tuple[Subject, MessageScan]:
        file = Held(data)
        scanned = scan_messages(file)
        return subject_of(self._folder, name, file, scanned), scanned

    def _mtime_ns(self, name: str) -> int:
        return self._files.path(name).stat().st_mtime_ns

    def _checkpoint(self, name: str, data: bytes, scanned: MessageScan) -> dict[str, Any] | None:
        """Return the checkpoint of a session's sidecar, or None if there is none or nanobot would not use it."""
        sidecar = detail.sidecar(
            self._folder.path,
            head_of(self._folder, name, Held(data)),
            metadata_of_scan(scanned),
            len(scanned.rows),
            self._mtime_ns(name),
        )
        if sidecar is None or sidecar.stale:
            return None
        checkpoint = sidecar.values.get("checkpoint")
        return checkpoint if isinstance(checkpoint, dict) else None

    # -- repair

    def _plan_repair(self, action: Repair, progress: Progress, cancel: Cancel) -> Plan:
        name = self._file_name(action.ref) if action.ref is not None else None
        found = list(findings(self._folder, name, progress, cancel))
        chosen = wanted(found, action.only, dict(action.choose), action.spot)
        chosen_by_file: dict[str, list[tuple[Finding, str]]] = {}
        for finding, choice in chosen:
            chosen_by_file.setdefault(finding.spot.file or "", []).append((finding, choice))
        edits: dict[str, FileEdit] = {}
        changes: list[Change] = []
        for file, chosen_here in chosen_by_file.items():
            if cancel():
                raise Cancelled("stopped")
            in_content = [pair for pair in chosen_here if not _concerns_whole_file(*pair)]
            if in_content:
                edits[file], content_changes = self._fix_content(file, in_content, action)
                changes += content_changes
            # These come last: a file that is renamed takes its new content along.
            for finding, choice in chosen_here:
                if _concerns_whole_file(finding, choice):
                    changes.append(self._fix_whole_file(finding, choice, edits))
        work = tuple(edit for edit in edits.values() if edit.before != digest(edit.after))
        return Plan(
            action,
            len(changes) if work else 0,
            tuple(reasons(chosen)) or (wording.NOTHING_TO_REPAIR,),
            (),
            tuple(changes),
            tuple(finding for finding, _ in chosen),
            offline=OFFLINE if work else "",
            work=work,
        )

    def _fix_content(self, name: str, chosen: ChosenFindings, action: Repair) -> tuple[FileEdit, list[Change]]:
        """Return the edit that fixes the content of a file.

        If a repair is not for one place alone, the result is checked and fixed again, until nothing more is found.
        Raises UnknownSession if the file does not exist.
        """
        before = self._files.read(name)
        if before is None:
            raise UnknownSession(f"{name}: the file is gone.")
        mtime_ns = self._mtime_ns(name)
        subject, _ = self._scan(name, before)
        first = apply_fixes(subject, before, fixes_of(chosen), mtime_ns)
        data, changes = first.data, list(first.changes)
        for _ in range(MAX_ROUNDS if action.spot is None else 0):
            subject, scanned = self._scan(name, data)
            fixes = follow_ups(subject, scanned, action.only)
            if not fixes:
                break
            fixed = apply_fixes(subject, data, fixes, mtime_ns)
            if fixed.data == data:
                break
            data = fixed.data
            changes += fixed.changes
        return FileEdit(name, digest(before), data, first.removed_spans), changes

    def _fix_whole_file(self, finding: Finding, choice: str, edits: dict[str, FileEdit]) -> Change:
        """Add the edits to `edits` that replace, rename or remove a file. Raises Refused if a name is taken."""
        name = finding.spot.file or ""
        data = self._files.read(name)
        main = main_file_name(self._folder.name_of(name))
        if finding.code == "leftover-temporary" and choice in ("", "use") and self._files.read(main) != data:
            edits[main] = FileEdit(main, digest(self._files.read(main)), data)
            new_name = main
        elif choice == "rename":
            new_name = self._new_name(finding, data or b"")
            if self._files.read(new_name) is not None or new_name in edits:
                raise Refused(f"{new_name}: is there already, so {name} cannot get this name.")
            edits[new_name] = FileEdit(new_name, None, edits[name].after if name in edits else data)
        else:
            new_name = None
        edits[name] = FileEdit(name, digest(data), None)
        return Change(finding.spot, "a file", name, new_name)

    def _new_name(self, finding: Finding, data: bytes) -> str:
        """Return a file's name by its key: for an invisible file in the naming of 0.3, else in that of 0.2."""
        subject, scanned = self._scan(finding.spot.file or "", data)
        key = str(scanned.values.get("key") or subject.ref.id)
        return f"{encoded(key) if finding.code == 'invisible' else safe_name(key)}{ENDING}"

    # -- settle

    def _plan_settle(self, action: Settle) -> Plan:
        name, data = self._session_data(action.ref)
        subject, scanned = self._scan(name, data)
        checkpoint = self._checkpoint(name, data, scanned)
        fixed, sentences = settle(subject, scanned, data, checkpoint, action.reason, datetime.now())
        edits = [FileEdit(name, digest(data), fixed.data)] if fixed.data != data else []
        changes = list(fixed.changes)
        if checkpoint is not None:
            sidecar = sidecar_name(subject)
            edits.append(FileEdit(sidecar, digest(self._files.read(sidecar)), None))
            changes.append(Change(Spot(subject.ref, file=sidecar), "a file", sidecar, None))
        return Plan(
            action,
            len(changes),
            tuple(sentences) or (wording.NOTHING_TO_SETTLE,),
            (),
            tuple(changes),
            offline=OFFLINE if edits else "",
            work=tuple(edits),
        )

    # -- compactions

    def _plan_compaction(self, action: Compact) -> Plan:
        name, data = self._session_data(action.ref)
        subject, scanned = self._scan(name, data)
        has_checkpoint = self._checkpoint(name, data, scanned) is not None
        fixed, compaction, sentences = compacting.plan_compaction(
            subject, scanned, data, action, has_checkpoint, datetime.now()
        )
        return Plan(
            action,
            len(compaction.cut.leaves),
            tuple(sentences),
            (),
            fixed.changes,
            offline=OFFLINE,
            work=(FileEdit(name, digest(data), fixed.data),),
            compaction=compaction,
        )

    def _plan_undo(self, action: Uncompact) -> Plan:
        name, data = self._session_data(action.ref)
        subject, scanned = self._scan(name, data)
        has_checkpoint = self._checkpoint(name, data, scanned) is not None
        fixed, messages, sentences = compacting.plan_undo(
            subject, scanned, data, action, has_checkpoint, datetime.now()
        )
        return Plan(
            action,
            messages,
            tuple(sentences),
            (),
            fixed.changes,
            offline=OFFLINE,
            work=(FileEdit(name, digest(data), fixed.data),),
        )

    # -- applying

    def apply(self, plan: Plan, progress: Progress = silent, cancel: Cancel = never, offline: bool = False) -> Receipt:
        """See `sessionscope.store.protocols.Actions`."""
        if plan.empty:
            return Receipt(wording.NOTHING_DONE, 0)
        self._check_confirmed(plan, offline)
        bundle = self._write(plan, progress, cancel)
        match plan.action:
            case Restore() as restore:
                return self._receipt_of_restore(plan, restore)
            case Compact() | Uncompact() as action:
                number = plan.compaction.number if plan.compaction is not None else None
                undo = Uncompact(action.ref, number) if number is not None else None
                return Receipt(plan.reasons[0], plan.rows, undo)
            case Repair():
                result = f"{plan.rows:,} {'change was' if plan.rows == 1 else 'changes were'} made."
            case _:
                result = " ".join(plan.reasons)
        return Receipt(result, plan.rows, Restore(str(bundle)), str(bundle))

    def _check_confirmed(self, plan: Plan, offline: bool) -> None:
        """Raise Misused or Refused if a plan lacks a confirmation or a note that it needs."""
        action = plan.action
        if plan.offline and not offline:
            raise Misused(f"{self._folder.path}: {plan.offline} Make sure that none is running, then confirm.")
        if isinstance(action, Compact) and not action.note.strip():
            raise Misused(wording.NOTE_IS_MISSING)
        if isinstance(action, Close) and plan.warnings and not action.anyway:
            raise Refused(wording.close_anyway(plan.warnings))

    def _write(self, plan: Plan, progress: Progress, cancel: Cancel) -> Path | None:
        """Back up and write the files of a plan under their locks. Return the bundle, or None if none is needed.

        The bundle is discarded if nothing was changed. Raises Refused, and Cancelled before the first change.
        """
        edits: Sequence[FileEdit] = plan.work
        needs_backup = not isinstance(plan.action, (Restore, Compact, Uncompact))
        with self._files.locked():
            self._files.check(edits)
            if cancel():
                raise Cancelled(wording.STOPPED)
            bundle: Path | None = None
            changed: list[str] = []
            try:
                if needs_backup:
                    bundle = self._back_up(plan, edits)
                self._files.apply(edits, bundle, progress, changed)
            except BaseException:
                if bundle is not None and not changed:
                    discard_restored(bundle)
                raise
        return bundle

    def _back_up(self, plan: Plan, edits: Sequence[FileEdit]) -> Path:
        if isinstance(plan.action, Close):
            first = plan.deleted[0]
            sessions = [trash_entry(member) for member in plan.members]
            title = first.title or first.ref.id
            return self._files.back_up(edits, BundleKind.TRASH, title, plan.reasons[0], {"sessions": sessions})
        title = edits[0].name if len(edits) == 1 else f"{len(edits)} files"
        return self._files.back_up(edits, BundleKind.BACKUP, title, " ".join(plan.reasons)[:MANIFEST_CHARS])

    def _receipt_of_restore(self, plan: Plan, action: Restore) -> Receipt:
        """Return the receipt. A trash bundle of which everything was restored is discarded."""
        notes: list[str] = []
        if plan.members and not plan.warnings:
            notes = discard_restored(Path(action.bundle))
        refs = tuple(member.ref for member in plan.members)
        undo = Close(refs, anyway=True) if refs else None
        return Receipt(plan.reasons[0], plan.rows, undo, notes=(*plan.warnings, *notes))


def _concerns_whole_file(finding: Finding, choice: str) -> bool:
    """Return whether a finding is fixed by renaming, replacing or removing a file."""
    return finding.code in _WHOLE_FILE_CODES and choice != "take-name"
