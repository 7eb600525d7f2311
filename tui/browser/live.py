"""Keeping the screen true while another process writes: look at the files twice a second, read only what changed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual import on
from textual.geometry import Size
from textual.worker import Worker

from sessionscope.store import SessionSummary, SessionTable, StoreError, TableEntry
from sessionscope.tui.sessions.session_catalog import OpenedArchive, SessionCatalog
from sessionscope.tui.text import render
from sessionscope.tui.workers import read_workers

from .stage import Stage

POLL_S, RETRY_S, AGES_S, REST, NEWEST = 0.5, 2.0, 30, 20, 50
"""Seconds between two looks, before another try, and between two paintings of ages; how many times its own duration a
walk waits before it runs again; and how many sessions are looked at first where they are many."""


class Live(Stage):
    """The part of the browser that follows changes and takes what workers bring."""

    def __init__(self, catalog: SessionCatalog, size: Size) -> None:
        super().__init__(catalog, size)
        self._changed: set[int] = set()
        self._rested: dict[int, float] = {}
        """When an archive's next session table may begin, by archive."""
        self._counting: dict[int, Worker[None]] = {}
        self._check_due: float | None = None

    def start_watching(self) -> None:
        """Begins to look at the files. Nothing is held open between two looks."""
        self.set_interval(POLL_S, self.look)
        self.set_interval(AGES_S, self._refresh_ages)

    def first_look(self, opened_archive: OpenedArchive) -> None:
        """All sessions where they are few; else the newest at once, and the session table from a worker."""
        try:
            session_table = opened_archive.reader.session_table_if_small()
            if session_table is not None:
                opened_archive.replace(session_table, complete=True)
                return
            newest = opened_archive.reader.newest(NEWEST)
            opened_archive.replace(self._sketch(newest), complete=False)
            opened_archive.keep(newest)
        except StoreError as error:
            self.failed(str(error))
        self.call_after_refresh(self.take_session_table, opened_archive)

    @staticmethod
    def _sketch(newest: Sequence[SessionSummary]) -> SessionTable:
        entries = [
            TableEntry(
                found.key,
                found.ref.id,
                None,
                found.created_at or 0,
                found.updated_at or 0,
                found.message_count.value,
                0,
                False,
                found.title,
            )
            for found in reversed(newest)
        ]
        return SessionTable(entries)

    def look(self) -> None:
        """One look: a few `stat` calls an archive, and what follows where something changed."""
        now = time.monotonic()
        for opened_archive in self.catalog.opened_archives:
            stamp = opened_archive.archive.stamp()
            changed = stamp != opened_archive.stamp
            if changed:
                opened_archive.stamp = stamp
                self._changed.add(opened_archive.index)
                if self.current_session is not None and self.current_session.opened_archive is opened_archive:
                    self._refresh_current_session()
            self._look_again(opened_archive, changed)
            # A walk that is under way is left to end: a busy writer would otherwise keep any from ever ending.
            rested = now >= self._rested.get(opened_archive.index, 0.0)
            if opened_archive.index in self._changed and rested and not _runs(self._counting.get(opened_archive.index)):
                self._changed.discard(opened_archive.index)
                self.take_session_table(opened_archive)
        if self.timeline.failed:
            self.show_rows(keep=True)
        if self._check_due is not None and time.monotonic() >= self._check_due and not _runs(self.studying):
            self._check_due = None
            self.read_current_session()

    def _look_again(self, opened_archive: OpenedArchive, changed: bool) -> None:
        """Says why sessions could not be read, and asks for them again where that may help."""
        if opened_archive.trouble is not None:
            self.failed(opened_archive.trouble)
        if (changed or opened_archive.busy) and opened_archive.retry():
            self.tree_pane.refresh()
            self.list_pane.refresh()

    def _refresh_ages(self) -> None:
        """How long ago something was changes without any change."""
        self.tree_pane.refresh()
        self.list_pane.refresh()

    def take_session_table(self, opened_archive: OpenedArchive) -> None:
        """Counts the sessions of an archive in a worker."""
        self._counting[opened_archive.index] = self.run_worker(
            lambda: read_workers.count(
                self.post_message,
                opened_archive.archive,
                opened_archive.index,
                opened_archive.session_table,
                read_workers.stopped,
            ),
            thread=True,
            group=f"session-table-{opened_archive.index}",
            exclusive=True,
            exit_on_error=False,
        )

    @on(read_workers.SessionTableRead)
    def _session_table_read(self, event: read_workers.SessionTableRead) -> None:
        opened_archive = self.catalog.opened_archives[event.opened_archive]
        self._rested[event.opened_archive] = time.monotonic() + event.seconds * REST
        changes = (
            event.changes
            if event.before is opened_archive.session_table
            else opened_archive.session_table.changes(event.session_table)
        )
        first = not opened_archive.complete
        if not first and not changes:
            self._forget_gone(opened_archive)
            return
        untouched = self.tree_pane.cursor == 0
        self.tree_pane.before_session_table()
        opened_archive.replace(event.session_table, complete=True, keep=True)
        # A key may have been given to a new session, so what was added is forgotten too.
        opened_archive.forget(changes.appended | changes.edited | changes.added | changes.gone)
        self.tree_pane.after_session_table(keep=not (first and untouched))
        if self.furnished:
            self.list_pane.rebuild()
        self._forget_gone(opened_archive)
        self.sessions_changed()
        if self.current_session is not None and self.current_session.node is not None:
            # What was forgotten is in its title.
            self.catalog.load([self.current_session.node])
        self.show_titles()

    def _forget_gone(self, opened_archive: OpenedArchive) -> None:
        """Leaves the session on the screen where it is gone from its archive, unless it was made anew."""
        current_session = self.current_session
        if current_session is None or current_session.opened_archive is not opened_archive:
            return
        if current_session.node is not None:
            current_session.missed = False
        elif current_session.ref.id in opened_archive.session_table.ids:
            current_session.key = opened_archive.session_table.keys[
                opened_archive.session_table.ids.index(current_session.ref.id)
            ]
            current_session.outline = None
            self.show_rows()
            self._check_due = 0.0
        elif not current_session.missed:
            # Some writers take a file away for a moment, so one look proves nothing.
            current_session.missed, opened_archive.stamp = True, ()
        else:
            name = render.one_line(current_session.ref.id)
            self.notify(
                f"session {name} is gone: another process closed it or removed its file",
                severity="warning",
                markup=False,
            )
            self.current_session = None
            self.refresh_bindings()
            self.timeline.hint = "this session is gone"
            self.timeline.show(None)
            if self.furnished:
                self.audit_pane.show(None, "")
                self.inspector.show([])

    def _refresh_current_session(self) -> None:
        """Shows appended rows at once; anything more waits for a worker to walk the index again."""
        current_session = self.current_session
        if current_session is None:
            return
        try:
            grown = (
                current_session.opened_archive.reader.grown(current_session.ref, current_session.outline)
                if current_session.outline is not None
                else None
            )
        except StoreError:
            # The file may be in the middle of a change; the next look comes in half a second.
            current_session.opened_archive.stamp = ()
            return
        if grown is None:
            # Where appends cannot be added to an outline, walking again for each of them would never end.
            anomalies = current_session.outline is not None and current_session.outline.needs_full_read
            self._check_within(current_session.outline_cost * REST * anomalies)
            return
        current_session.outline = grown
        self.show_rows(keep=True)
        self._check_within(current_session.outline_cost * REST)

    def _check_within(self, seconds: float) -> None:
        """Never later than what is due already: a writer that does not pause would put it off for ever."""
        due = time.monotonic() + seconds
        self._check_due = due if self._check_due is None else min(due, self._check_due)

    @on(read_workers.Outlined)
    def _outlined(self, event: read_workers.Outlined) -> None:
        current_session = self.current_session
        if current_session is None or event.epoch != current_session.epoch:
            return
        waiting = self.timeline.rows is None or not self.timeline.rows.length.exact
        changed = current_session.outline != event.outline
        current_session.outline, current_session.outline_cost = event.outline, event.seconds
        if changed or waiting:
            wanted, current_session.wanted = current_session.wanted, None
            self.show_rows(wanted, keep=self.timeline.count > 0)

    @on(read_workers.SessionRead)
    def _session_read(self, event: read_workers.SessionRead) -> None:
        current_session = self.current_session
        if current_session is None or event.epoch != current_session.epoch:
            return
        current_session.audit, current_session.detail, current_session.usage = event.audit, event.detail, event.usage
        self.audit_pane.show(event.audit, "no compaction yet" if event.audit else "cannot be read")
        unanswered = frozenset(seq for seq, _ in event.detail.unanswered) if event.detail else frozenset()
        if unanswered != self.timeline.unanswered:
            self.timeline.unanswered = unanswered
            self.timeline.refresh()
        if event.trouble is not None:
            self.failed(event.trouble)
        self.audited(event.began)
        self.inspect(keep=True)

    def audited(self, began: float) -> None:
        """Called once the compactions of the opened session are known as they were when the reading `began`."""

    @on(read_workers.Failed)
    def _failed(self, event: read_workers.Failed) -> None:
        if not event.gone:
            self.failed(event.text)
        if event.opened_archive is not None:
            if event.again:
                self._changed.add(event.opened_archive)
            self._rested[event.opened_archive] = time.monotonic() + RETRY_S
        if self.current_session is not None and event.epoch == self.current_session.epoch:
            if self.current_session.audit is None:
                self.audit_pane.show(None, "cannot be read now")
            if event.again:
                self._check_due = time.monotonic() + RETRY_S


def _runs(worker: Worker[None] | None) -> bool:
    return worker is not None and worker.is_running
