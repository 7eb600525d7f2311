"""Repair, settling, and taking either back for a folder of session files: what each file becomes, as bytes.

Whatever is planned comes down to files that get other bytes, another name, or go. All that they held is kept aside
first; then each is replaced whole. A running nanobot would write its own copy over that; only a person can rule it out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ..archive import Cancel, never
from ..bundle import Bundle, Kind, read_manifest
from ..errors import Busy, Cancelled, Damaged, Misused, NotAnArchive, Refused, UnknownSession
from ..files import replace_file, sync_folder
from ..plans import Action, Plan, Progress, Receipt, Repair, Restore, Settle, silent
from ..repair import Change, Finding, wanted
from ..rows import Ref, Spot
from . import detail
from .ailments import Patient, head_of
from .doctor import checkpoint_name, findings, main_of, patient_of
from .exam import Exam, examined
from .file import Held
from .head import head_of as head_in
from .mending import ROUNDS, follow_ups, mend, wanted_of
from .names import ENDING, encoded, safe_name
from .session_manager import LOCK
from .settling import settle

if TYPE_CHECKING:
    from .reader import NanobotArchive

WAIT_S = 5.0
_OF_FILES = {"leftover-temporary", "stale-sidecar", "invisible", "key-disagrees"}
_NOTHING = "There is nothing to put right."


class Target(Struct, frozen=True):
    """What a file is to hold, None for nothing, and what it holds now, as a digest; None where it is not there.

    `out` are the bytes of the old one, as (start, stop), that the new one lacks; `kept` says that its time stays.
    """

    name: str
    before: str | None
    after: bytes | None
    out: tuple[tuple[int, int], ...] = ()
    kept: bool = False


class NanobotActions:
    """What can be done to one folder of session files. For any thread."""

    def __init__(self, archive: NanobotArchive) -> None:
        self._archive, self._folder = archive, archive.folder

    def _path(self, name: str) -> Path:
        return Path(self._folder.path) / name

    def _data(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Damaged(f"{self._path(name)}: cannot be read ({error.strerror}).") from None

    def plan(self, action: Action, progress: Progress = silent, cancel: Cancel = never) -> Plan:
        """See `store.archive.Actions`."""
        if isinstance(action, Restore):
            return self._plan_restore(action)
        if isinstance(action, Settle):
            return self._plan_settle(action, cancel)
        if isinstance(action, Repair):
            return self._plan_repair(action, progress, cancel)
        raise Misused(f"nanobot's sessions know no {type(action).__name__.lower()}.")

    def _name(self, ref: Ref) -> str:
        name = self._archive.file_of(ref)
        if name is None:
            raise UnknownSession(f"session {ref.id!r} is gone.")
        return name

    # -- repair

    def _plan_repair(self, action: Repair, progress: Progress, cancel: Cancel) -> Plan:
        name = self._name(action.ref) if action.ref is not None else None
        found = list(findings(self._folder, name, progress, cancel))
        taken = wanted(found, action.only, dict(action.choose), action.place)
        by_file: dict[str, list[tuple[Finding, str]]] = {}
        for one, choice in taken:
            by_file.setdefault(one.place.file or "", []).append((one, choice))
        targets: dict[str, Target] = {}
        changes: list[Change] = []
        rows = 0
        for file, some in by_file.items():
            if cancel():
                raise Cancelled("stopped")
            inside = [pair for pair in some if not _of_a_file(*pair)]
            if inside:
                target, found_changes = self._mended(file, inside, action)
                targets[file] = target
                changes += found_changes
                rows += len(found_changes)
            for one, choice in some:
                if _of_a_file(one, choice):
                    made = self._beside(one, choice, targets)
                    changes += made
                    rows += len(made)
        work = tuple(target for target in targets.values() if target.before != _digest(target.after))
        return Plan(action, rows if work else 0, tuple(_reasons(taken)) or (_NOTHING,), (), tuple(changes),
                    tuple(one for one, _ in taken), offline=bool(work), work=work)

    def _mended(
        self, file: str, taken: Sequence[tuple[Finding, str]], action: Repair
    ) -> tuple[Target, list[Change]]:
        """A file with all that is wanted of it put right, and then what only shows now."""
        before = self._data(file)
        if before is None:
            raise UnknownSession(f"{file}: the file is gone.")
        mtime_ns = self._path(file).stat().st_mtime_ns
        patient, _ = self._patient(file, before)
        first = mend(patient, before, wanted_of(taken), mtime_ns)
        data, changes = first.data, list(first.changes)
        for _ in range(ROUNDS if action.place is None else 0):
            patient, exam = self._patient(file, data)
            more = follow_ups(patient, exam, action.only)
            if not more:
                break
            mended = mend(patient, data, more, mtime_ns)
            if mended.data == data:
                break
            data = mended.data
            changes += mended.changes
        return Target(file, _digest(before), data, first.out), changes

    def _patient(self, file: str, data: bytes) -> tuple[Patient, Exam]:
        held = Held(data)
        exam = examined(held)
        return patient_of(self._folder, file, held, exam), exam

    def _beside(self, one: Finding, choice: str, targets: dict[str, Target]) -> list[Change]:
        """What becomes of whole files."""
        file = one.place.file or ""
        data = self._data(file)
        before = _digest(data)
        main = main_of(self._folder.name_of(file))
        if one.code == "leftover-temporary" and choice in ("", "use") and self._data(main) != data:
            targets[main] = Target(main, _digest(self._data(main)), data)
            targets[file] = Target(file, before, None)
            return [Change(one.place, "a file", file, main)]
        if choice == "rename":
            patient, exam = self._patient(file, data or b"")
            key = str(exam.values.get("key") or patient.ref.id)
            new = f"{encoded(key) if one.code == 'invisible' else safe_name(key)}{ENDING}"
            if self._data(new) is not None or new in targets:
                raise Refused(f"{new}: is there already, so {file} cannot get this name.")
            content = targets[file].after if file in targets else data
            targets[new] = Target(new, None, content, kept=True)
            targets[file] = Target(file, before, None)
            return [Change(one.place, "a file", file, new)]
        targets[file] = Target(file, before, None)
        return [Change(one.place, "a file", file, None)]

    # -- settle

    def _plan_settle(self, action: Settle, cancel: Cancel) -> Plan:
        file = self._name(action.ref)
        data = self._data(file)
        if data is None:
            raise UnknownSession(f"session {action.ref.id!r} is gone.")
        patient, exam = self._patient(file, data)
        head = head_in(self._folder.name_of(file), data[:65_536], len(data) <= 65_536, preview=False)
        beside = detail.sidecar(self._folder.path, head, head_of(exam), len(exam.rows),
                                self._path(file).stat().st_mtime_ns)
        held = beside.values.get("checkpoint") if beside is not None and not beside.stale else None
        mended, said = settle(patient, exam, data, held if isinstance(held, dict) else None, action.reason,
                              datetime.now())
        targets = [Target(file, _digest(data), mended.data)] if mended.data != data else []
        changes = list(mended.changes)
        if held is not None:
            name = checkpoint_name(patient)
            targets.append(Target(name, _digest(self._data(name)), None))
            changes.append(Change(Spot(patient.ref, file=name), "a file", name, None))
        return Plan(action, len(changes), tuple(said) or ("No call is open in it, and no turn.",), (), tuple(changes),
                    offline=bool(targets), work=tuple(targets))

    # -- restore

    def _plan_restore(self, action: Restore) -> Plan:
        folder = Path(action.bundle)
        found = read_manifest(folder)
        if found.kind is not Kind.BACKUP or found.more.get("archive") != "nanobot":
            raise Misused(f"{folder}: was not kept from a folder of nanobot's sessions.")
        targets, changes = [], []
        try:
            for name, kept, before, after in found.more["targets"]:
                if os.path.basename(name) != name or (kept is not None and os.path.basename(kept) != kept):
                    raise ValueError(f"{name} is no name of a file")
                data = self._data(name)
                if _digest(data) not in (before, after):
                    raise Refused(f"{name} has changed since; nothing was done.")
                old = (folder / kept).read_bytes() if kept is not None else None
                if _digest(old) != before:
                    raise NotAnArchive(f"{folder / str(kept)}: is not what was kept there.")
                if data != old:
                    targets.append(Target(name, _digest(data), old))
                    changes.append(Change(Spot(file=name), "a file", _size(data), _size(old)))
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise NotAnArchive(f"{folder}: what it keeps cannot be read ({error}).") from None
        if not targets:
            raise Refused(f"{folder}: was put back already; nothing was done.")
        return Plan(action, len(targets), (f"{_files(targets)} as before: "
                    f"{found.why}",), (), tuple(changes), offline=True, work=tuple(targets))

    # -- carrying out

    def apply(
        self, plan: Plan, progress: Progress = silent, cancel: Cancel = never, offline: bool = False
    ) -> Receipt:
        """See `store.archive.Actions`."""
        if plan.empty:
            return Receipt("Nothing was done.", 0)
        if plan.offline and not offline:
            raise Misused(f"{self._folder.path}: a nanobot that runs would write its own copy over this; make sure "
                          "that none does, and say so with --offline.")
        targets: Sequence[Target] = plan.work
        with self._locked():
            self._recheck(targets)
            if cancel():
                raise Cancelled("stopped before anything was changed.")
            undoing = isinstance(plan.action, Restore)
            bundle = None if undoing else self._keep(plan, targets)
            for at, target in enumerate(sorted(targets, key=lambda target: target.after is None)):
                progress("files", at, len(targets))
                self._put(target, bundle)
            progress("files", len(targets), len(targets))
        if bundle is None:
            return Receipt(f"{_files(targets)} as before.", len(targets))
        said = " ".join(plan.reasons) if isinstance(plan.action, Settle) else (
            f"{plan.rows:,} {'change was' if plan.rows == 1 else 'changes were'} made.")
        return Receipt(said, plan.rows, Restore(str(bundle)), str(bundle))

    def _recheck(self, targets: Sequence[Target]) -> None:
        for target in targets:
            if _digest(self._data(target.name)) != target.before:
                raise Refused(f"{target.name} has changed since this was planned; nothing was done. Look again.")

    def _keep(self, plan: Plan, targets: Sequence[Target]) -> Path:
        """Keeps all files that change as they are, and by itself what the new ones lack; safe when this returns."""
        folder = Path(os.path.realpath(self._folder.path))
        what = targets[0].name if len(targets) == 1 else f"{len(targets)} files"
        try:
            bundle = Bundle(folder, Kind.BACKUP, what, " ".join(plan.reasons)[:2_000])
        except OSError as error:
            raise self._refused(error) from None
        try:
            kept: list[list[Any]] = []
            out: list[list[Any]] = []
            for target in targets:
                data = self._data(target.name)
                path = bundle.add(target.name, (data,)) if data is not None else None
                kept.append([target.name, path.name if path else None, target.before, _digest(target.after)])
                if data is not None and target.out:
                    bundle.add(f"{target.name}.quarantine", (data[start:stop] for start, stop in target.out))
                    out += [[target.name, start, stop] for start, stop in target.out]
            return bundle.seal({"archive": "nanobot", "targets": kept, "quarantined": out})
        except OSError as error:
            bundle.discard()
            raise self._refused(error) from None
        except BaseException:
            bundle.discard()
            raise

    def _put(self, target: Target, bundle: Path | None) -> None:
        path = self._path(target.name)
        try:
            if target.after is None:
                path.unlink(missing_ok=True)
                sync_folder(path.parent)
                return
            status = path.stat() if path.exists() else None
            replace_file(path, [target.after], True, 0o600 if status is None else None)
            sidecar = path.with_name(f"{path.name.removesuffix(ENDING)}.checkpoint.json")
            if status is not None and sidecar.exists():
                # To 0.3.5 a checkpoint that is older than its session is none.
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        except OSError as error:
            more = f"; what was there is kept in {bundle}" if bundle is not None else ""
            raise Refused(f"{path}: cannot be written ({error.strerror or error}){more}.") from None

    def _refused(self, error: OSError) -> Refused:
        return Refused(f"{self._folder.path}: what is changed has to be kept beside it, and that cannot be "
                       f"({error.strerror or error}); nothing was done.")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The lock that 0.3.5 and our own manager take, where such a one is there."""
        path = self._path(LOCK)
        if not path.exists():
            yield
            return
        from filelock import FileLock, Timeout

        lock = FileLock(path, timeout=WAIT_S)
        try:
            lock.acquire()
        except Timeout:
            raise Refused(f"{self._folder.path}: another process holds its lock; stop it, or try again.") from None
        except OSError as error:
            raise Busy(f"{path}: cannot be locked ({error.strerror or error}).") from None
        try:
            yield
        finally:
            lock.release()


def _of_a_file(one: Finding, choice: str) -> bool:
    """Whether a finding is put right by what becomes of a whole file."""
    return one.code in _OF_FILES and choice != "take-name"


def _files(targets: Sequence[Target]) -> str:
    return "1 file is" if len(targets) == 1 else f"{len(targets)} files are"


def _digest(data: bytes | None) -> str | None:
    return None if data is None else blake2b(data, digest_size=16).hexdigest()


def _size(data: bytes | None) -> str | None:
    return None if data is None else f"{len(data):,} bytes"


def _reasons(taken: Sequence[tuple[Finding, str]]) -> Iterator[str]:
    """What is done and how often, one sentence for each."""
    counts: dict[str, int] = {}
    for one, name in taken:
        said = one.fix if not name else next(choice.about for choice in one.choices if choice.name == name)
        text = f"{one.code}: {said}"
        counts[text] = counts.get(text, 0) + 1
    for text, many in counts.items():
        yield text if many == 1 else f"{text} ({many:,} times)"


