"""Actions on a power-loop database. Each is planned first, and then applied in one transaction.

What an action changes is backed up before, except for compactions, whose undo is exact without a backup. A repair does
what the doctor proposes. It is applied only if the doctor, run again in the transaction, proposes the same edits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from sessionscope.store.io.bundle import Bundle, BundleKind, discard_restored, trash_entry
from sessionscope.store.io.clock import now_ms
from sessionscope.store.model import wording
from sessionscope.store.model.errors import Cancelled, Misused, Refused, UnknownSession
from sessionscope.store.model.findings import Change, reasons
from sessionscope.store.model.plans import (
    Action,
    Close,
    Compact,
    Plan,
    Progress,
    Receipt,
    Repair,
    Restore,
    SetArchived,
    Settle,
    Uncompact,
    silent,
)
from sessionscope.store.model.rows import Ref, Spot
from sessionscope.store.protocols import Cancel, never

from .doctor import checkup, edits
from .doctor.edits import Edit
from .format.layout import Layout, newer
from .format.obstacles import check_statements, reason, written_tables
from .read import sessions
from .read.session_facts import read_facts
from .source import PowerLoopSource
from .write import closing, planning, restore, undoing
from .write import compaction as compacting
from .write.planning import EditWork
from .write.settle_turn import settle
from .write.writing import Writer, back_up, new_bundle, open_writer, refuse_leased

SHOWN_CHANGES = 2_000
"""How many changes a plan lists."""
MANIFEST_CHARS = 2_000
"""To how many characters the reasons of a plan are cut in the manifest of its bundle."""


class PowerLoopActions:
    """The actions on one layout of a database. May be used from any thread."""

    def __init__(self, source: PowerLoopSource) -> None:
        self._source = source

    @property
    def layout(self) -> Layout:
        return self._source.layout

    # -- plans

    def plan(self, action: Action, progress: Progress = silent, cancel: Cancel = never) -> Plan:
        """See `sessionscope.store.protocols.Actions`."""
        self._source.read(self._check_writable)
        if isinstance(action, Repair):
            return self._plan_repair(action, progress, cancel)
        if isinstance(action, Close):
            return self._plan_close(action)
        return self._source.read(lambda conn: self._plan_in_one_read(conn, action))

    def _plan_in_one_read(self, conn: sqlite3.Connection, action: Action) -> Plan:
        match action:
            case Settle():
                return self._plan_settle(conn, action)
            case SetArchived():
                return self._plan_archived(conn, action)
            case Compact():
                return compacting.plan_compaction(conn, self.layout, action)
            case Uncompact():
                return compacting.plan_undo(conn, self.layout, action)
            case Restore():
                return self._plan_restore(conn, action)
        raise Misused(f"power-loop's sessions know no {type(action).__name__.lower()}.")

    def _check_writable(self, conn: sqlite3.Connection) -> None:
        """Raise Refused if the tables are of a newer release, or if a write would change more than it says."""
        if why := newer(conn, self.layout):
            raise Refused(f"{self._source.file.shown}: {why}; it is only read.")
        if why := reason(self.layout.obstacles):
            raise Refused(f"{self._source.file.shown}: {why}")
        check_statements(conn, [self.layout.name(table) for table in written_tables(self.layout.tables)])

    def _plan_repair(self, action: Repair, progress: Progress, cancel: Cancel) -> Plan:
        key = self._key(action.ref) if action.ref is not None else None
        results = list(checkup.check_database(self._source.read, lambda: self.layout, key, progress, cancel))
        chosen = planning.choose_results(results, action)
        reindex = any(result.finding.code == checkup.REINDEX for result, _ in chosen)
        if reindex:
            # Other findings may come from the damaged index, so they are checked again after it is rebuilt.
            chosen = [(result, choice) for result, choice in chosen if result.finding.code == checkup.REINDEX]
        chosen_edits = planning.edits_of(chosen)
        refs = dict.fromkeys(result.finding.spot.session for result, _ in chosen)
        keys = [self._key(ref) for ref in refs if ref]
        work = EditWork(
            tuple(chosen_edits),
            reindex,
            tuple(key for key in keys if key is not None),
            any(result.finding.spot.row is None for result, _ in chosen),
        )
        sentences = reasons((result.finding, choice) for result, choice in chosen) or [wording.NOTHING_TO_REPAIR]
        return self._source.read(
            lambda conn: Plan(
                action,
                edits.count(chosen_edits) + int(reindex),
                tuple(sentences),
                (),
                self._changes(conn, chosen_edits),
                tuple(result.finding for result, _ in chosen),
                basis=edits.basis_of(conn, self.layout, chosen_edits),
                work=work,
            )
        )

    def _key(self, ref: Ref) -> int | None:
        return self._source.read(lambda conn: sessions.rowid_of(conn, self.layout, ref.id))

    def _changes(self, conn: sqlite3.Connection, planned: Sequence[Edit]) -> tuple[Change, ...]:
        return tuple(islice(edits.changes(conn, self.layout, planned), SHOWN_CHANGES))

    def _plan_settle(self, conn: sqlite3.Connection, action: Settle) -> Plan:
        key = sessions.rowid_of(conn, self.layout, action.ref.id)
        facts = read_facts(conn, self.layout, key) if key is not None else None
        if facts is None or key is None:
            raise UnknownSession(wording.session_is_gone(action.ref.id))
        planned, sentences = settle(facts, action.reason, now_ms())
        return Plan(
            action,
            edits.count(planned),
            tuple(sentences) or (wording.NOTHING_TO_SETTLE,),
            (),
            self._changes(conn, planned),
            basis=edits.basis_of(conn, self.layout, planned),
            work=EditWork(tuple(planned), session_keys=(key,)),
        )

    def _plan_archived(self, conn: sqlite3.Connection, action: SetArchived) -> Plan:
        key = sessions.rowid_of(conn, self.layout, action.ref.id)
        row = edits.read_row(conn, self.layout.table("sessions"), key) if key is not None else None
        if row is None:
            raise UnknownSession(wording.session_is_gone(action.ref.id))
        stored = dict(zip(row.columns, row.values, strict=True))
        status = "archived" if action.archived else "active"
        if "status" not in stored:
            raise Misused(f"power-loop {self.layout.release} does not archive sessions.")
        if stored["status"] == status:
            return Plan(action, 0, (f"It is {status} already.",), ())
        stored_time = stored.get("updated_at")
        updated_at = max(now_ms(), stored_time if type(stored_time) is int else 0)
        edit = Edit("sessions", key, {"status": status, "updated_at": updated_at}, Spot(action.ref))
        return Plan(
            action,
            1,
            (f"It becomes {status}.",),
            (),
            self._changes(conn, [edit]),
            basis=edits.basis_of(conn, self.layout, [edit]),
            work=EditWork((edit,)),
        )

    def _plan_close(self, action: Close) -> Plan:
        """Return the plan of closing. Its basis is the state of the files, or "" if they changed meanwhile."""
        before = self._file_state()
        plan = self._source.read(lambda conn: closing.plan(conn, self.layout, action, now_ms()))
        return replace(plan, basis=before if self._file_state() == before else "")

    def _file_state(self) -> str:
        """Return the identity, size and time of the database's files. An empty journal or -wal counts as none."""
        main, wal, journal = self._source.file.parts()
        return repr((main, wal if wal and wal[1] else None, journal if journal and journal[1] else None))

    def _plan_restore(self, conn: sqlite3.Connection, action: Restore) -> Plan:
        """Return the plan of restoring a bundle: of closed sessions, or of rows before another action."""
        folder = Path(action.bundle)
        if (trash_bundle := restore.read_trash_bundle(folder)) is not None:
            return restore.plan(conn, self.layout, action, trash_bundle)
        bundle = undoing.read_undo_bundle(folder)
        if bundle.layout != self.layout.prefix:
            raise Misused(
                f"{action.bundle}: was kept from tables {bundle.layout or 'without a prefix'}, which these are not."
            )
        undoing.check_restorable(conn, self.layout, bundle)
        return Plan(
            action,
            len(bundle.rows),
            (f"{len(bundle.rows):,} rows become again what they were before: {bundle.reason}",),
            (),
            tuple(undoing.changes(conn, self.layout, bundle, SHOWN_CHANGES)),
            work=bundle,
        )

    # -- application

    def apply(self, plan: Plan, progress: Progress = silent, cancel: Cancel = never, offline: bool = False) -> Receipt:
        """See `sessionscope.store.protocols.Actions`. The database is locked only during the transaction."""
        if plan.empty:
            return Receipt(wording.NOTHING_DONE, 0)
        with open_writer(self._source.file.path) as writer:
            self._source.probe(writer.conn)
            self._check_writable(writer.conn)
            match plan.action:
                case Compact() as action:
                    return self._compact(writer, plan, action)
                case Uncompact():
                    return self._undo_compaction(writer, plan)
                case Restore() if plan.members:
                    return self._restore_sessions(writer, plan)
                case Restore():
                    return self._restore_rows(writer, plan)
                case Close() as close if plan.warnings and not close.anyway:
                    raise Refused(wording.close_anyway(plan.warnings))
            return self._apply_with_bundle(writer, plan, progress, cancel)

    @contextmanager
    def _transaction(self, writer: Writer) -> Iterator[None]:
        """Run the block as one transaction, after checking again that the tables may be written."""
        with writer.transaction():
            self._source.probe(writer.conn)
            self._check_writable(writer.conn)
            yield

    def _apply_with_bundle(self, writer: Writer, plan: Plan, progress: Progress, cancel: Cancel) -> Receipt:
        """Apply a plan that backs up what it changes."""
        bundle = self._new_bundle(plan)
        try:
            if isinstance(plan.action, Close):
                return self._close(writer, plan, bundle, progress, cancel)
            return self._apply_edits(writer, plan, bundle, progress, cancel)
        except BaseException:
            # If the transaction may have been committed, the bundle may be the only copy.
            if not writer.may_have_committed:
                bundle.discard()
            raise

    def _new_bundle(self, plan: Plan) -> Bundle:
        path = Path(self._source.file.path)
        match plan.action:
            case Close():
                first = plan.deleted[0]
                return new_bundle(path, str(first.title or first.ref.id), plan.reasons[0], BundleKind.TRASH)
            case Repair():
                what = "repair"
            case Settle():
                what = "settling a turn"
            case _:
                what = "another status"
        return new_bundle(path, f"{path.name}: {what}", " ".join(plan.reasons)[:MANIFEST_CHARS])

    # -- repairing, settling, archiving

    def _apply_edits(self, writer: Writer, plan: Plan, bundle: Bundle, progress: Progress, cancel: Cancel) -> Receipt:
        conn, work = writer.conn, plan.work
        assert isinstance(work, EditWork)
        backup = bundle.new(undoing.ROWS_FILE)
        if isinstance(plan.action, Repair):
            # The whole database, since the rows that follow-ups change are not known yet.
            back_up(conn, backup, progress, cancel)
        if cancel():
            raise Cancelled(wording.STOPPED)
        progress("rows", 0, len(work.edits))
        with self._transaction(writer):
            self._recheck(conn, plan, work)
            if not isinstance(plan.action, Repair):
                undoing.back_up_rows(conn, self.layout, work.edits, backup)
            if work.reindex:
                conn.execute("REINDEX")
            changed = dict.fromkeys(edits.apply(conn, self.layout, work.edits))
            notes: list[str] = []
            if isinstance(plan.action, Repair) and plan.action.spot is None:
                notes = planning.follow_up(conn, self.layout, plan.action, work, changed)
            path = writer.backup = bundle.seal(undoing.undo_manifest(conn, self.layout, list(changed), plan.action))
        rows = len(changed) + int(work.reindex)
        sentence = " ".join(plan.reasons)
        if isinstance(plan.action, Repair):
            sentence = f"{rows:,} {'row was' if rows == 1 else 'rows were'} put right."
        return Receipt(sentence, rows, Restore(str(path)) if changed else None, str(path), tuple(notes))

    def _recheck(self, conn: sqlite3.Connection, plan: Plan, work: EditWork) -> None:
        """Raise Refused if the planned rows have changed, if a session is in use, or if a new plan would differ."""
        if edits.basis_of(conn, self.layout, work.edits) != plan.basis:
            raise Refused("Rows that this changes have changed since it was planned; nothing was done. Look again.")
        refuse_leased(conn, self.layout, work.session_keys)
        match plan.action:
            case Settle() as action:
                same = self._is_settled_alike(conn, action, work)
            case Repair() as action if not work.reindex:
                same = planning.is_still_proposed(conn, self.layout, action, work)
            case _:
                same = True
        if not same:
            raise Refused(wording.SESSION_CHANGED)

    def _is_settled_alike(self, conn: sqlite3.Connection, action: Settle, work: EditWork) -> bool:
        """Return whether settling the session now takes the planned edits, apart from their times."""
        facts = read_facts(conn, self.layout, work.session_keys[0])
        results = [edit.values for edit in work.edits if edit.table == "messages" and edit.rowid is None]
        planned_ms = next((values["created_at"] for values in results if values), 0)
        needed = settle(facts, action.reason, planned_ms)[0] if facts else []
        return planning.edit_keys_without_times(needed) == planning.edit_keys_without_times(work.edits)

    def _restore_rows(self, writer: Writer, plan: Plan) -> Receipt:
        bundle: undoing.UndoBundle = plan.work
        with self._transaction(writer):
            undoing.check_restorable(writer.conn, self.layout, bundle)
            refuse_leased(writer.conn, self.layout, [row.rowid for row in bundle.rows if row.table == "sessions"])
            undoing.restore_rows(writer.conn, self.layout, bundle)
        return Receipt(f"{len(bundle.rows):,} rows are what they were before.", len(bundle.rows))

    # -- compacting

    def _compact(self, writer: Writer, plan: Plan, action: Compact) -> Receipt:
        work: compacting.CompactionWork = plan.work
        if not action.note.strip():
            raise Misused(wording.NOTE_IS_MISSING)
        with self._transaction(writer):
            refuse_leased(writer.conn, self.layout, (work.key,))
            number = compacting.compact(writer.conn, self.layout, work, action.note, now_ms())
        return Receipt(plan.reasons[0], work.rows, Uncompact(action.ref, number))

    def _undo_compaction(self, writer: Writer, plan: Plan) -> Receipt:
        work: compacting.CompactionWork = plan.work
        with self._transaction(writer):
            refuse_leased(writer.conn, self.layout, (work.key,))
            compacting.undo_compaction(writer.conn, self.layout, work, now_ms())
        return Receipt(plan.reasons[0], work.rows)

    # -- closing

    def _close(self, writer: Writer, plan: Plan, bundle: Bundle, progress: Progress, cancel: Cancel) -> Receipt:
        conn, work = writer.conn, plan.work
        assert isinstance(work, closing.CloseWork)
        progress("copying", 0, 0)
        target = bundle.new(closing.ROWS_FILE)
        version = closing.copy(conn, self.layout, work, target, lambda: self._file_state() != plan.basis)
        # The bundle must be on disk before anything is deleted.
        path = writer.backup = bundle.seal(
            {
                "archive": "power-loop",
                "layout": self.layout.prefix,
                "links": closing.links(conn, self.layout, work),
                "tables": ["sessions", *(table for table, _ in closing.owned_tables(self.layout))],
                "sessions": [trash_entry(member) for member in plan.members],
            }
        )
        if cancel():
            raise Cancelled(wording.STOPPED)
        progress("deleting", 0, 0)
        with self._transaction(writer):
            closing.delete(conn, self.layout, work, version)
        return Receipt(plan.reasons[0], plan.rows, Restore(str(path)), str(path))

    def _restore_sessions(self, writer: Writer, plan: Plan) -> Receipt:
        bundle: restore.TrashBundle = plan.work
        with restore.attached_bundle(writer.conn, bundle), self._transaction(writer):
            restored, notes = restore.restore_sessions(writer.conn, self.layout, bundle)
            if restored != len(plan.members):
                raise Refused("Sessions have changed since this was planned; nothing was done. Look again.")
        if not notes and not plan.warnings:
            # All of it is restored, so the bundle is not needed any longer.
            notes += discard_restored(bundle.folder)
        undo = Close(tuple(member.ref for member in plan.members), anyway=True)
        return Receipt(plan.reasons[0], restored, undo, notes=(*plan.warnings, *notes))
