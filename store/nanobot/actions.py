"""The actions on a folder of session files: repair, settle, close, compact and restore.

Every plan comes down to files that get other bytes, another name, or are removed. All that they held is backed up
first; then each is replaced whole. A running nanobot would write its own copy over that, so the user must confirm that
none is running.
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
from .doctor.checkup import checkpoint_name, findings, main_of, subject_of
from .format.discovery import Folder
from .format.file import Held
from .format.file_head import read_file_head
from .format.names import ENDING, encoded, safe_name
from .read import detail
from .read.message_scan import MessageScan, scan_messages
from .write import closing
from .write import compaction as compacting
from .write.file_edits import OFFLINE, FileEdit, Files, digest
from .write.fixes import ROUNDS, apply_fixes, follow_ups, wanted_of
from .write.settle_turn import settle

_OF_FILES = {"leftover-temporary", "stale-sidecar", "invisible", "key-disagrees"}


class NanobotActions:
    """Changes one folder of session files. Can be used in any thread."""

    def __init__(self, folder: Folder, reader: Callable[[], closing.CloseInputs]) -> None:
        self._folder, self._reader = folder, reader
        self._files = Files(Path(self._folder.path), closing.legacy_folder(self._folder))

    def plan(self, action: Action, progress: Progress = silent, cancel: Cancel = never) -> Plan:
        """See `sessionscope.store.protocols.Actions`."""
        if isinstance(action, Restore):
            return closing.plan_restore(self._files, action)
        if isinstance(action, Close):
            return closing.plan_close(self._reader(), self._folder, self._files, action)
        if isinstance(action, Settle):
            return self._plan_settle(action, cancel)
        if isinstance(action, Repair):
            return self._plan_repair(action, progress, cancel)
        if isinstance(action, (Compact, Uncompact)):
            return self._plan_compaction(action)
        raise Misused(f"nanobot's sessions know no {type(action).__name__.lower()}.")

    def _name(self, ref: Ref) -> str:
        name = self._reader().file_of(ref)
        if name is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        return name

    def _session_data(self, ref: Ref) -> tuple[str, bytes]:
        """Return the file of a session and its bytes. Raises UnknownSession, and Refused for what no agent loads."""
        file = self._name(ref)
        data = self._files.data(file)
        if data is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        if self._folder.name_of(file).temporary:
            raise Refused(f"{file}: is a leftover of an interrupted save. Repair it first.")
        return file, data

    # -- repair

    def _plan_repair(self, action: Repair, progress: Progress, cancel: Cancel) -> Plan:
        name = self._name(action.ref) if action.ref is not None else None
        found = list(findings(self._folder, name, progress, cancel))
        taken = wanted(found, action.only, dict(action.choose), action.place)
        by_file: dict[str, list[tuple[Finding, str]]] = {}
        for finding, choice in taken:
            by_file.setdefault(finding.place.file or "", []).append((finding, choice))
        targets: dict[str, FileEdit] = {}
        changes: list[Change] = []
        for file, taken_in_file in by_file.items():
            if cancel():
                raise Cancelled("stopped")
            inside = [pair for pair in taken_in_file if not _changes_whole_file(*pair)]
            if inside:
                targets[file], fixes = self._fixed(file, inside, action)
                changes += fixes
            for finding, choice in taken_in_file:
                if _changes_whole_file(finding, choice):
                    changes.append(self._change_whole_file(finding, choice, targets))
        work = tuple(target for target in targets.values() if target.before != digest(target.after))
        return Plan(
            action,
            len(changes) if work else 0,
            tuple(reasons(taken)) or (wording.NOTHING_TO_REPAIR,),
            (),
            tuple(changes),
            tuple(finding for finding, _ in taken),
            offline=OFFLINE if work else "",
            work=work,
        )

    def _fixed(self, file: str, taken: Sequence[tuple[Finding, str]], action: Repair) -> tuple[FileEdit, list[Change]]:
        """Return a file with the wanted findings fixed, and then those that only the first fixes reveal."""
        before = self._files.data(file)
        if before is None:
            raise UnknownSession(f"{file}: the file is gone.")
        mtime_ns = self._files.path(file).stat().st_mtime_ns
        subject, _ = self._scanned(file, before)
        first = apply_fixes(subject, before, wanted_of(taken), mtime_ns)
        data, changes = first.data, list(first.changes)
        for _ in range(ROUNDS if action.place is None else 0):
            subject, scanned = self._scanned(file, data)
            more = follow_ups(subject, scanned, action.only)
            if not more:
                break
            fixed = apply_fixes(subject, data, more, mtime_ns)
            if fixed.data == data:
                break
            data = fixed.data
            changes += fixed.changes
        return FileEdit(file, digest(before), data, first.out), changes

    def _scanned(self, file: str, data: bytes) -> tuple[Subject, MessageScan]:
        held = Held(data)
        scanned = scan_messages(held)
        return subject_of(self._folder, file, held, scanned), scanned

    def _change_whole_file(self, finding: Finding, choice: str, targets: dict[str, FileEdit]) -> Change:
        """Use, rename or remove the file of a finding: add that to `targets`, and return it as a change."""
        file = finding.place.file or ""
        data = self._files.data(file)
        targets_file = targets.get(file)
        removed = FileEdit(file, digest(data), None)
        new_name: str | None = None
        if finding.code == "leftover-temporary" and choice in ("", "use"):
            main = main_of(self._folder.name_of(file))
            main_data = self._files.data(main)
            if main_data != data:
                new_name, targets[main] = main, FileEdit(main, digest(main_data), data)
        elif choice == "rename":
            new_name = self._proper_name(finding, file, data or b"")
            if self._files.data(new_name) is not None or new_name in targets:
                raise Refused(f"{new_name}: is there already, so {file} cannot get this name.")
            content = targets_file.after if targets_file is not None else data
            targets[new_name] = FileEdit(new_name, None, content)
        targets[file] = removed
        return Change(finding.place, "a file", file, new_name)

    def _proper_name(self, finding: Finding, file: str, data: bytes) -> str:
        """Return the name that a file should have by the key that it stores."""
        subject, scanned = self._scanned(file, data)
        key = str(scanned.values.get("key") or subject.ref.id)
        return f"{encoded(key) if finding.code == 'invisible' else safe_name(key)}{ENDING}"

    # -- settle

    def _plan_settle(self, action: Settle, cancel: Cancel) -> Plan:
        file, data = self._session_data(action.ref)
        subject, scanned = self._scanned(file, data)
        held = self._checkpoint(file, data, scanned)
        fixed, said = settle(subject, scanned, data, held, action.reason, datetime.now())
        targets = [FileEdit(file, digest(data), fixed.data)] if fixed.data != data else []
        changes = list(fixed.changes)
        if held is not None:
            name = checkpoint_name(subject)
            targets.append(FileEdit(name, digest(self._files.data(name)), None))
            changes.append(Change(Spot(subject.ref, file=name), "a file", name, None))
        return Plan(
            action,
            len(changes),
            tuple(said) or (wording.NOTHING_TO_SETTLE,),
            (),
            tuple(changes),
            offline=OFFLINE if targets else "",
            work=tuple(targets),
        )

    # -- compactions

    def _plan_compaction(self, action: Compact | Uncompact) -> Plan:
        file, data = self._session_data(action.ref)
        subject, scanned = self._scanned(file, data)
        waits = self._checkpoint(file, data, scanned) is not None
        now = datetime.now()
        if isinstance(action, Uncompact):
            fixed, rows, said = compacting.plan_undo(subject, scanned, data, action, waits, now)
            compaction = None
        else:
            fixed, compaction, said = compacting.plan_compaction(subject, scanned, data, action, waits, now)
            rows = len(compaction.cut.leaves)
        return Plan(
            action,
            rows,
            tuple(said),
            (),
            fixed.changes,
            offline=OFFLINE,
            work=(FileEdit(file, digest(data), fixed.data),),
            compaction=compaction,
        )

    def _checkpoint(self, file: str, data: bytes, scanned: MessageScan) -> dict[str, Any] | None:
        """Return what a sidecar in force holds, None without one."""
        head = read_file_head(self._folder.name_of(file), data[:65_536], len(data) <= 65_536, preview=False)
        beside = detail.sidecar(
            self._folder.path,
            head,
            metadata_of_scan(scanned),
            len(scanned.rows),
            self._files.path(file).stat().st_mtime_ns,
        )
        held = beside.values.get("checkpoint") if beside is not None and not beside.stale else None
        return held if isinstance(held, dict) else None

    # -- applying

    def apply(self, plan: Plan, progress: Progress = silent, cancel: Cancel = never, offline: bool = False) -> Receipt:
        """See `sessionscope.store.protocols.Actions`."""
        if plan.empty:
            return Receipt(wording.NOTHING_DONE, 0)
        self._check(plan, offline)
        bundle = self._write(plan, progress, cancel)
        return self._receipt(plan, bundle)

    def _check(self, plan: Plan, offline: bool) -> None:
        """Raise Misused or Refused if a plan may not be applied as it is."""
        action = plan.action
        if plan.offline and not offline:
            raise Misused(f"{self._folder.path}: {plan.offline} Make sure that none is running, then confirm.")
        if isinstance(action, Compact) and not action.note.strip():
            raise Misused(wording.NOTE_IS_MISSING)
        if isinstance(action, Close) and plan.warnings and not action.anyway:
            raise Refused(wording.close_anyway(plan.warnings))

    def _write(self, plan: Plan, progress: Progress, cancel: Cancel) -> Path | None:
        """Back up and replace the files of a plan. Return the bundle, None if its undo needs none."""
        targets: Sequence[FileEdit] = plan.work
        # A restore comes from a bundle, and a compaction is undone by its log.
        needs_bundle = not isinstance(plan.action, (Restore, Compact, Uncompact))
        with self._files.locked():
            self._files.check(targets)
            if cancel():
                raise Cancelled(wording.STOPPED)
            bundle: Path | None = None
            changed: list[str] = []
            try:
                bundle = self._keep(plan, targets) if needs_bundle else None
                self._files.replace(targets, bundle, progress, changed)
            except BaseException:
                if bundle is not None and not changed:
                    discard_restored(bundle)
                raise
        return bundle

    def _receipt(self, plan: Plan, bundle: Path | None) -> Receipt:
        """Return what was done, and the action that undoes it."""
        action = plan.action
        if isinstance(action, Restore):
            return self._restored(plan, action)
        if isinstance(action, (Compact, Uncompact)):
            number = plan.compaction.number if plan.compaction is not None else None
            return Receipt(plan.reasons[0], plan.rows, Uncompact(action.ref, number) if number is not None else None)
        said = " ".join(plan.reasons)
        if isinstance(action, Repair):
            said = f"{plan.rows:,} {'change was' if plan.rows == 1 else 'changes were'} made."
        return Receipt(said, plan.rows, Restore(str(bundle)), str(bundle))

    def _keep(self, plan: Plan, targets: Sequence[FileEdit]) -> Path:
        if isinstance(plan.action, Close):
            return self._files.keep(
                targets,
                BundleKind.TRASH,
                plan.deleted[0].title or plan.deleted[0].ref.id,
                plan.reasons[0],
                {"sessions": [trash_entry(member) for member in plan.members]},
            )
        what = targets[0].name if len(targets) == 1 else f"{len(targets)} files"
        return self._files.keep(targets, BundleKind.BACKUP, what, " ".join(plan.reasons)[:2_000])

    def _restored(self, plan: Plan, action: Restore) -> Receipt:
        notes: list[str] = []
        if plan.members and not plan.warnings:
            # All of it is restored, so nothing needs to be kept.
            notes = discard_restored(Path(action.bundle))
        refs = tuple(member.ref for member in plan.members)
        undo = Close(refs, anyway=True) if refs else None
        return Receipt(plan.reasons[0], plan.rows, undo, notes=(*plan.warnings, *notes))


def _changes_whole_file(finding: Finding, choice: str) -> bool:
    """Return whether a finding is fixed by a change of a whole file."""
    return finding.code in _OF_FILES and choice != "take-name"
