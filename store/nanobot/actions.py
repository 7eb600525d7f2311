"""Repair, settling, and taking either back for a folder of session files: what each file becomes, as bytes.

Whatever is planned comes down to files that get other bytes, another name, or go. All that they held is kept aside
first; then each is replaced whole. A running nanobot would write its own copy over that; only a person can rule it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sessionscope.store.io.bundle import BundleKind, discard_restored, trash_entry
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
from .doctor.checkup import findings, main_file_name, sidecar_name, subject_of
from .format.discovery import Folder
from .format.file import Held
from .format.file_head import read_file_head
from .format.names import ENDING, encoded, safe_name
from .read import detail
from .read.message_scan import MessageScan, scan_messages
from .write import closing
from .write import compaction as compacting
from .write.file_edits import OFFLINE, FileEdit, Files, digest
from .write.fixes import MAX_ROUNDS, apply_fixes, fixes_of, follow_ups
from .write.settle_turn import settle

_OF_FILES = {"leftover-temporary", "stale-sidecar", "invisible", "key-disagrees"}
_NOTHING = "There is nothing to put right."


class NanobotActions:
    """What can be done to one folder of session files. For any thread."""

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
            raise UnknownSession(f"session {ref.id!r} is gone.")
        return name

    def _session_data(self, ref: Ref) -> tuple[str, bytes]:
        """Return the file of a session and its bytes. Raises UnknownSession, and Refused for what no agent loads."""
        file = self._name(ref)
        data = self._files.read(file)
        if data is None:
            raise UnknownSession(f"session {ref.id!r} is gone.")
        if self._folder.name_of(file).temporary:
            raise Refused(f"{file}: is a leftover of an interrupted save. Repair it first.")
        return file, data

    # -- repair

    def _plan_repair(self, action: Repair, progress: Progress, cancel: Cancel) -> Plan:
        name = self._name(action.ref) if action.ref is not None else None
        found = list(findings(self._folder, name, progress, cancel))
        taken = wanted(found, action.only, dict(action.choose), action.place)
        by_file: dict[str, list[tuple[Finding, str]]] = {}
        for one, choice in taken:
            by_file.setdefault(one.place.file or "", []).append((one, choice))
        targets: dict[str, FileEdit] = {}
        changes: list[Change] = []
        rows = 0
        for file, some in by_file.items():
            if cancel():
                raise Cancelled("stopped")
            inside = [pair for pair in some if not _of_a_file(*pair)]
            if inside:
                target, found_changes = self._fixed(file, inside, action)
                targets[file] = target
                changes += found_changes
                rows += len(found_changes)
            for one, choice in some:
                if _of_a_file(one, choice):
                    made = self._beside(one, choice, targets)
                    changes += made
                    rows += len(made)
        work = tuple(target for target in targets.values() if target.before != digest(target.after))
        return Plan(
            action,
            rows if work else 0,
            tuple(reasons(taken)) or (_NOTHING,),
            (),
            tuple(changes),
            tuple(one for one, _ in taken),
            offline=OFFLINE if work else "",
            work=work,
        )

    def _fixed(self, file: str, taken: Sequence[tuple[Finding, str]], action: Repair) -> tuple[FileEdit, list[Change]]:
        """A file with all that is wanted of it put right, and then what only shows now."""
        before = self._files.read(file)
        if before is None:
            raise UnknownSession(f"{file}: the file is gone.")
        mtime_ns = self._files.path(file).stat().st_mtime_ns
        subject, _ = self._patient(file, before)
        first = apply_fixes(subject, before, fixes_of(taken), mtime_ns)
        data, changes = first.data, list(first.changes)
        for _ in range(MAX_ROUNDS if action.place is None else 0):
            subject, scanned = self._patient(file, data)
            more = follow_ups(subject, scanned, action.only)
            if not more:
                break
            fixed = apply_fixes(subject, data, more, mtime_ns)
            if fixed.data == data:
                break
            data = fixed.data
            changes += fixed.changes
        return FileEdit(file, digest(before), data, first.removed_spans), changes

    def _patient(self, file: str, data: bytes) -> tuple[Subject, MessageScan]:
        held = Held(data)
        scanned = scan_messages(held)
        return subject_of(self._folder, file, held, scanned), scanned

    def _beside(self, one: Finding, choice: str, targets: dict[str, FileEdit]) -> list[Change]:
        """What becomes of whole files."""
        file = one.place.file or ""
        data = self._files.read(file)
        before = digest(data)
        main = main_file_name(self._folder.name_of(file))
        if one.code == "leftover-temporary" and choice in ("", "use") and self._files.read(main) != data:
            targets[main] = FileEdit(main, digest(self._files.read(main)), data)
            targets[file] = FileEdit(file, before, None)
            return [Change(one.place, "a file", file, main)]
        if choice == "rename":
            subject, scanned = self._patient(file, data or b"")
            key = str(scanned.values.get("key") or subject.ref.id)
            new = f"{encoded(key) if one.code == 'invisible' else safe_name(key)}{ENDING}"
            if self._files.read(new) is not None or new in targets:
                raise Refused(f"{new}: is there already, so {file} cannot get this name.")
            content = targets[file].after if file in targets else data
            targets[new] = FileEdit(new, None, content)
            targets[file] = FileEdit(file, before, None)
            return [Change(one.place, "a file", file, new)]
        targets[file] = FileEdit(file, before, None)
        return [Change(one.place, "a file", file, None)]

    # -- settle

    def _plan_settle(self, action: Settle, cancel: Cancel) -> Plan:
        file, data = self._session_data(action.ref)
        subject, scanned = self._patient(file, data)
        held = self._checkpoint(file, data, scanned)
        fixed, said = settle(subject, scanned, data, held, action.reason, datetime.now())
        targets = [FileEdit(file, digest(data), fixed.data)] if fixed.data != data else []
        changes = list(fixed.changes)
        if held is not None:
            name = sidecar_name(subject)
            targets.append(FileEdit(name, digest(self._files.read(name)), None))
            changes.append(Change(Spot(subject.ref, file=name), "a file", name, None))
        return Plan(
            action,
            len(changes),
            tuple(said) or ("No call is open in it, and no turn.",),
            (),
            tuple(changes),
            offline=OFFLINE if targets else "",
            work=tuple(targets),
        )

    # -- compactions

    def _plan_compaction(self, action: Compact | Uncompact) -> Plan:
        file, data = self._session_data(action.ref)
        subject, scanned = self._patient(file, data)
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
        """What a sidecar in force holds, None without one."""
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

    # -- carrying out

    def apply(self, plan: Plan, progress: Progress = silent, cancel: Cancel = never, offline: bool = False) -> Receipt:
        """See `sessionscope.store.protocols.Actions`."""
        if plan.empty:
            return Receipt("Nothing was done.", 0)
        if plan.offline and not offline:
            raise Misused(f"{self._folder.path}: {plan.offline} Make sure that none is running, then confirm.")
        action = plan.action
        if isinstance(action, Compact) and not action.note.strip():
            raise Misused("a compaction needs a note, which is all that the model will know of what leaves.")
        if isinstance(action, Close) and plan.warnings and not action.anyway:
            raise Refused(f"{'; '.join(plan.warnings[:3])}. Close it anyway, or settle it first.")
        targets: Sequence[FileEdit] = plan.work
        with self._files.locked():
            self._files.check(targets)
            if cancel():
                raise Cancelled("stopped before anything was changed.")
            # A compaction is taken back exactly without anything that was kept.
            bare = isinstance(action, (Restore, Compact, Uncompact))
            bundle: Path | None = None
            changed: list[str] = []
            try:
                bundle = None if bare else self._keep(plan, targets)
                self._files.apply(targets, bundle, progress, changed)
            except BaseException:
                if bundle is not None and not changed:
                    discard_restored(bundle)
                raise
        if isinstance(action, Restore):
            return self._restored(plan, action)
        if isinstance(action, (Compact, Uncompact)):
            made = plan.compaction.number if plan.compaction is not None else None
            return Receipt(plan.reasons[0], plan.rows, Uncompact(action.ref, made) if made is not None else None)
        said = f"{plan.rows:,} {'change was' if plan.rows == 1 else 'changes were'} made."
        return Receipt(
            said if isinstance(action, Repair) else " ".join(plan.reasons), plan.rows, Restore(str(bundle)), str(bundle)
        )

    def _keep(self, plan: Plan, targets: Sequence[FileEdit]) -> Path:
        if isinstance(plan.action, Close):
            return self._files.back_up(
                targets,
                BundleKind.TRASH,
                plan.deleted[0].title or plan.deleted[0].ref.id,
                plan.reasons[0],
                {"sessions": [trash_entry(member) for member in plan.members]},
            )
        what = targets[0].name if len(targets) == 1 else f"{len(targets)} files"
        return self._files.back_up(targets, BundleKind.BACKUP, what, " ".join(plan.reasons)[:2_000])

    def _restored(self, plan: Plan, action: Restore) -> Receipt:
        notes: list[str] = []
        if plan.members and not plan.warnings:
            # All of it is back, so nothing is left to be kept.
            notes = discard_restored(Path(action.bundle))
        refs = tuple(member.ref for member in plan.members)
        undo = Close(refs, anyway=True) if refs else None
        return Receipt(plan.reasons[0], plan.rows, undo, notes=(*plan.warnings, *notes))


def _of_a_file(one: Finding, choice: str) -> bool:
    """Whether a finding is put right by what becomes of a whole file."""
    return one.code in _OF_FILES and choice != "take-name"
