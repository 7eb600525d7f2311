"""The actions on a power-loop database: repair, settle, close, compact and restore.

Each is planned first, then applied in one transaction, and what it changes is backed up. A repair is made of findings.
It is applied only if the doctor, asked again inside the transaction, reports the same for the rows that it touches.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from .write.writing import Writer, back_up, connected, new_bundle, refuse_leased

ROUNDS, SHOWN = 8, 2_000
NOTHING = "There is nothing to put right."


class PowerLoopActions:
    """Changes one layout of a database. Can be used in any thread."""

    def __init__(self, source: PowerLoopSource) -> None:
        self._source = source

    @property
    def layout(self) -> Layout:
        return self._source.layout

    def plan(self, action: Action, progress: Progress = silent, cancel: Cancel = never) -> Plan:
        """See `sessionscope.store.protocols.Actions`."""
        self._source.read(self._check)
        if isinstance(action, Restore):
            return self._source.read(lambda conn: self._plan_restore(conn, action))
        if isinstance(action, Settle):
            return self._source.read(lambda conn: self._plan_settle(conn, action))
        if isinstance(action, Repair):
            return self._plan_repair(action, progress, cancel)
        if isinstance(action, Close):
            return self._plan_close(action)
        if isinstance(action, SetArchived):
            return self._source.read(lambda conn: self._plan_archived(conn, action))
        if isinstance(action, Compact):
            return self._source.read(lambda conn: compacting.plan_compaction(conn, self.layout, action))
        if isinstance(action, Uncompact):
            return self._source.read(lambda conn: compacting.plan_undo(conn, self.layout, action))
        raise Misused(f"power-loop's sessions know no {type(action).__name__.lower()}.")

    def _check(self, conn: sqlite3.Connection) -> None:
        if why := newer(conn, self.layout):
            raise Refused(f"{self._source.file.shown}: {why}; it is only read.")
        if why := reason(self.layout.obstacles):
            raise Refused(f"{self._source.file.shown}: {why}")
        check_statements(conn, [self.layout.name(table) for table in written_tables(self.layout.tables)])

    @contextmanager
    def _transaction(self, writer: Writer) -> Iterator[None]:
        """Begin the transaction of an action, and check again that these tables may be written."""
        with writer.transaction():
            self._source.probe(writer.conn)
            self._check(writer.conn)
            yield

    # -- repair

    def _plan_repair(self, action: Repair, progress: Progress, cancel: Cancel) -> Plan:
        key = self._key(action.ref) if action.ref is not None else None
        found = list(checkup.check_database(self._source.read, lambda: self.layout, key, progress, cancel))
        taken = planning.taken(found, action)
        reindex = any(result.finding.code == checkup.REINDEX for result, _ in taken)
        if reindex:
            # Findings that come from a damaged index are checked again once the index is rebuilt.
            taken = [(result, name) for result, name in taken if result.finding.code == checkup.REINDEX]
        some = planning.edits_of(taken)
        keys = [self._key(ref) for ref in dict.fromkeys(result.finding.place.session for result, _ in taken) if ref]
        work = EditWork(
            tuple(some),
            reindex,
            tuple(key for key in keys if key is not None),
            any(result.finding.place.row is None for result, _ in taken),
        )
        count = edits.count(some) + reindex
        said = tuple(reasons((result.finding, name) for result, name in taken)) or (NOTHING,)
        return self._source.read(
            lambda conn: Plan(
                action,
                count,
                said,
                (),
                tuple(self._changes(conn, some)),
                tuple(result.finding for result, _ in taken),
                basis=edits.basis_of(conn, self.layout, some),
                work=work,
            )
        )

    def _key(self, ref: Ref) -> int | None:
        return self._source.read(lambda conn: sessions.rowid_of(conn, self.layout, ref.id))

    def _changes(self, conn: sqlite3.Connection, some: Sequence[Edit]) -> Iterator[Change]:
        for at, change in enumerate(edits.changes(conn, self.layout, some)):
            if at == SHOWN:
                break
            yield change

    # -- settle

    def _plan_settle(self, conn: sqlite3.Connection, action: Settle) -> Plan:
        key = sessions.rowid_of(conn, self.layout, action.ref.id)
        facts = read_facts(conn, self.layout, key) if key is not None else None
        if facts is None or key is None:
            raise UnknownSession(wording.session_is_gone(action.ref.id))
        some, said = settle(facts, action.reason, now_ms())
        return Plan(
            action,
            edits.count(some),
            tuple(said) or (wording.NOTHING_TO_SETTLE,),
            (),
            tuple(self._changes(conn, some)),
            basis=edits.basis_of(conn, self.layout, some),
            work=EditWork(tuple(some), scope=(key,)),
        )

    # -- restore

    def _plan_close(self, action: Close) -> Plan:
        before = self._state()
        plan = self._source.read(lambda conn: closing.plan(conn, self.layout, action, now_ms()))
        return replace(plan, basis=before if self._state() == before else "")

    def _state(self) -> str:
        """Return what the files look like. An empty -wal counts as none."""
        main, wal, journal = self._source.file.parts()
        return repr((main, wal if wal and wal[1] else None, journal if journal and journal[1] else None))

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
        updated = stored.get("updated_at")
        edit = Edit(
            "sessions",
            key,
            {"status": status, "updated_at": max(now_ms(), updated if type(updated) is int else 0)},
            Spot(action.ref),
        )
        return Plan(
            action,
            1,
            (f"It becomes {status}.",),
            (),
            tuple(self._changes(conn, [edit])),
            basis=edits.basis_of(conn, self.layout, [edit]),
            work=EditWork((edit,)),
        )

    def _plan_restore(self, conn: sqlite3.Connection, action: Restore) -> Plan:
        if (closed := restore.read_kept(Path(action.bundle))) is not None:
            return restore.plan(conn, self.layout, action, closed)
        kept = undoing.read_kept(Path(action.bundle))
        if kept.layout != self.layout.prefix:
            raise Misused(
                f"{action.bundle}: was kept from tables {kept.layout or 'without a prefix'}, which these are not."
            )
        undoing.check(conn, self.layout, kept)
        return Plan(
            action,
            len(kept.rows),
            (f"{len(kept.rows):,} rows become again what they were before: {kept.what}",),
            (),
            tuple(undoing.changes(conn, self.layout, kept, SHOWN)),
            work=kept,
        )

    # -- carrying out

    def apply(self, plan: Plan, progress: Progress = silent, cancel: Cancel = never, offline: bool = False) -> Receipt:
        """See `sessionscope.store.protocols.Actions`. The database is locked only during the transaction."""
        if plan.empty:
            return Receipt(wording.NOTHING_DONE, 0)
        with connected(self._source.file.path) as writer:
            self._source.probe(writer.conn)
            self._check(writer.conn)
            if isinstance(plan.action, Restore):
                return self._restore_sessions(writer, plan) if plan.members else self._restore(writer, plan)
            if isinstance(plan.action, Compact):
                return self._compact(writer, plan, plan.action)
            if isinstance(plan.action, Uncompact):
                return self._undo_compaction(writer, plan)
            if isinstance(plan.action, Close) and plan.warnings and not plan.action.anyway:
                raise Refused(wording.close_anyway(plan.warnings))
            bundle = self._bundle(plan)
            try:
                if isinstance(plan.action, Close):
                    return self._close(writer, plan, bundle, progress, cancel)
                return self._carry_out(writer, plan, bundle, progress, cancel)
            except BaseException:
                # The bundle is the only copy of what was removed, unless the transaction was rolled back.
                if not writer.may_have_committed:
                    bundle.discard()
                raise

    def _bundle(self, plan: Plan) -> Bundle:
        """Begin the bundle of what a plan changes."""
        path = Path(self._source.file.path)
        if isinstance(plan.action, Close):
            first = plan.deleted[0]
            return new_bundle(path, str(first.title or first.ref.id), plan.reasons[0], BundleKind.TRASH)
        what = {Repair: "repair", Settle: "settling a turn"}.get(type(plan.action), "another status")
        return new_bundle(path, f"{path.name}: {what}", " ".join(plan.reasons)[:2_000])

    def _carry_out(self, writer: Writer, plan: Plan, bundle: Bundle, progress: Progress, cancel: Cancel) -> Receipt:
        conn, work = writer.conn, plan.work
        assert isinstance(work, EditWork)
        kept = bundle.new(undoing.ROWS)
        if isinstance(plan.action, Repair):
            back_up(conn, kept, progress, cancel)
        if cancel():
            raise Cancelled(wording.STOPPED)
        progress("rows", 0, len(work.edits))
        with self._transaction(writer):
            self._recheck(conn, plan)
            if not isinstance(plan.action, Repair):
                undoing.keep_rows(conn, self.layout, work.edits, kept)
            if work.reindex:
                conn.execute("REINDEX")
            changed = dict.fromkeys(edits.apply(conn, self.layout, work.edits))
            more = self._follow(conn, plan, changed)
            path = writer.backup = bundle.seal(undoing.manifest(conn, self.layout, list(changed), plan.action))
        rows = len(changed) + work.reindex
        said = (
            f"{rows:,} {'row was' if rows == 1 else 'rows were'} put right."
            if isinstance(plan.action, Repair)
            else " ".join(plan.reasons)
        )
        return Receipt(said, rows, Restore(str(path)) if changed else None, str(path), more)

    def _recheck(self, conn: sqlite3.Connection, plan: Plan) -> None:
        """Raise Refused if the rows differ from those of the plan, or if a new plan would differ."""
        work: EditWork = plan.work
        if edits.basis_of(conn, self.layout, work.edits) != plan.basis:
            raise Refused("Rows that this changes have changed since it was planned; nothing was done. Look again.")
        refuse_leased(conn, self.layout, work.scope)
        same = work.reindex or isinstance(plan.action, SetArchived)
        if isinstance(plan.action, Settle):
            facts = read_facts(conn, self.layout, work.scope[0])
            made = next(
                (
                    edit.values["created_at"]
                    for edit in work.edits
                    if edit.table == "messages" and edit.rowid is None and edit.values
                ),
                0,
            )
            now = settle(facts, plan.action.reason, made)[0] if facts else []
            same = planning.timeless(now) == planning.timeless(work.edits)
        elif isinstance(plan.action, Repair) and not work.reindex:
            found = list(checkup.check_sessions(conn, self.layout, work.scope, work.between))
            try:
                again = planning.edits_of(planning.taken(found, plan.action))
            except Misused:
                again = []
            same = set(map(planning.name, work.edits)) <= set(map(planning.name, again))
        if not same:
            raise Refused(wording.SESSION_CHANGED)

    def _follow(self, conn: sqlite3.Connection, plan: Plan, changed: dict[edits.Touched, None]) -> tuple[str, ...]:
        """Repair what only a repair reveals, so that a second repair finds nothing. Return in words what that was."""
        action, work = plan.action, plan.work
        if not isinstance(action, Repair) or action.place is not None:
            return ()
        said: dict[str, None] = {}
        for _ in range(ROUNDS):
            keys = work.scope
            if work.reindex or any(edit.table == "sessions" and edit.rowid is None for edit in work.edits):
                keys = [key for (key,) in conn.execute(f"SELECT rowid FROM {self.layout.table('sessions')}")]
            found = [
                result
                for result in checkup.check_sessions(conn, self.layout, keys, work.between or work.reindex)
                if result.finding.fixable
                and (not action.only or result.finding.code in action.only)
                and (action.ref is None or result.finding.place.session == action.ref)
            ]
            some = planning.edits_of([(result, "") for result in found])
            if not some:
                break
            changed.update(dict.fromkeys(edits.apply(conn, self.layout, some)))
            said.update({f"{result.finding.code}: {result.finding.fix}": None for result in found})
        return tuple(said)

    def _restore(self, writer: Writer, plan: Plan) -> Receipt:
        kept: undoing.UndoBundle = plan.work
        with self._transaction(writer):
            undoing.check(writer.conn, self.layout, kept)
            refuse_leased(writer.conn, self.layout, [row.rowid for row in kept.rows if row.table == "sessions"])
            undoing.put_back(writer.conn, self.layout, kept)
        return Receipt(f"{len(kept.rows):,} rows are what they were before.", len(kept.rows))

    # -- compactions: nothing is kept aside, as taking one back is exact

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
        state = closing.copy(conn, self.layout, work, bundle.new(closing.ROWS), lambda: self._state() != plan.basis)
        # On the disk before anything is deleted.
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
            closing.delete(conn, self.layout, work, state)
        return Receipt(plan.reasons[0], plan.rows, Restore(str(path)), str(path))

    def _restore_sessions(self, writer: Writer, plan: Plan) -> Receipt:
        kept: restore.ClosedBundle = plan.work
        with restore.attached_bundle(writer.conn, kept), self._transaction(writer):
            many, notes = restore.put_back(writer.conn, self.layout, kept)
            if many != len(plan.members):
                raise Refused("Sessions have changed since this was planned; nothing was done. Look again.")
        if not notes and not plan.warnings:
            # All of it is restored, so nothing needs to be kept.
            notes += discard_restored(kept.folder)
        return Receipt(
            plan.reasons[0],
            many,
            Close(tuple(member.ref for member in plan.members), anyway=True),
            notes=(*plan.warnings, *notes),
        )
