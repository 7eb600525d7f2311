"""Keeping the screen true while another process writes: look at the files twice a second, read only what changed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual import on
from textual.geometry import Size
from textual.worker import Worker

from sessionscope.store import SessionSummary, SessionTable, StoreError, TableEntry
from sessionscope.tui.sessions.library import Library, Shelf
from sessionscope.tui.text import render
from sessionscope.tui.workers import study

from .stage import Stage

POLL_S, RETRY_S, AGES_S, REST, NEWEST = 0.5, 2.0, 30, 20, 50
"""Seconds between two looks, before another try, and between two paintings of ages; how many times its own duration a
walk waits before it runs again; and how many sessions are looked at first where they are many."""


class Live(Stage):
    """The part of the browser that follows changes and takes what workers bring."""

    def __init__(self, library: Library, size: Size) -> None:
        super().__init__(library, size)
        self._changed: set[int] = set()
        self._rested: dict[int, float] = {}
        """When an archive's next session table may begin, by archive."""
        self._counting: dict[int, Worker[None]] = {}
        self._study_due: float | None = None

    def start_watching(self) -> None:
        """Begins to look at the files. Nothing is held open between two looks."""
        self.set_interval(POLL_S, self.look)
        self.set_interval(AGES_S, self._refresh_ages)

    def first_look(self, shelf: Shelf) -> None:
        """All sessions where they are few; else the newest at once, and the session table from a worker."""
        try:
            session_table = shelf.reader.session_table_if_small()
            if session_table is not None:
                shelf.replace(session_table, complete=True)
                return
            newest = shelf.reader.newest(NEWEST)
            shelf.replace(self._sketch(newest), complete=False)
            shelf.keep(newest)
        except StoreError as error:
            self.failed(str(error))
        self.call_after_refresh(self.take_session_table, shelf)

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
        for shelf in self.library.shelves:
            stamp = shelf.archive.stamp()
            changed = stamp != shelf.stamp
            if changed:
                shelf.stamp = stamp
                self._changed.add(shelf.index)
                if self.opened is not None and self.opened.shelf is shelf:
                    self._refresh_opened()
            self._look_again(shelf, changed)
            # A walk that is under way is left to end: a busy writer would otherwise keep any from ever ending.
            rested = now >= self._rested.get(shelf.index, 0.0)
            if shelf.index in self._changed and rested and not _runs(self._counting.get(shelf.index)):
                self._changed.discard(shelf.index)
                self.take_session_table(shelf)
        if self.timeline.failed:
            self.show_rows(keep=True)
        if self._study_due is not None and time.monotonic() >= self._study_due and not _runs(self.studying):
            self._study_due = None
            self.study()

    def _look_again(self, shelf: Shelf, changed: bool) -> None:
        """Says why sessions could not be read, and asks for them again where that may help."""
        if shelf.trouble is not None:
            self.failed(shelf.trouble)
        if (changed or shelf.busy) and shelf.retry():
            self.tree_pane.refresh()
            self.list_pane.refresh()

    def _refresh_ages(self) -> None:
        """How long ago something was changes without any change."""
        self.tree_pane.refresh()
        self.list_pane.refresh()

    def take_session_table(self, shelf: Shelf) -> None:
        """Counts the sessions of an archive in a worker."""
        self._counting[shelf.index] = self.run_worker(
            lambda: study.count(self.post_message, shelf.archive, shelf.index, shelf.session_table, study.stopped),
            thread=True,
            group=f"session-table-{shelf.index}",
            exclusive=True,
            exit_on_error=False,
        )

    @on(study.Counted)
    def _counted(self, event: study.Counted) -> None:
        shelf = self.library.shelves[event.shelf]
        self._rested[event.shelf] = time.monotonic() + event.seconds * REST
        changes = (
            event.changes if event.before is shelf.session_table else shelf.session_table.changes(event.session_table)
        )
        first = not shelf.complete
        if not first and not changes:
            self._forget_gone(shelf)
            return
        untouched = self.tree_pane.cursor == 0
        self.tree_pane.before_session_table()
        shelf.replace(event.session_table, complete=True, keep=True)
        # A key may have been given to a new session, so what was added is forgotten too.
        shelf.forget(changes.appended | changes.edited | changes.added | changes.gone)
        self.tree_pane.after_session_table(keep=not (first and untouched))
        if self.furnished:
            self.list_pane.rebuild()
        self._forget_gone(shelf)
        self.sessions_changed()
        if self.opened is not None and self.opened.node is not None:
            # What was forgotten is in its title.
            self.library.load([self.opened.node])
        self.show_titles()

    def _forget_gone(self, shelf: Shelf) -> None:
        """Leaves the session on the screen where it is gone from its archive, unless it was made anew."""
        opened = self.opened
        if opened is None or opened.shelf is not shelf:
            return
        if opened.node is not None:
            opened.missed = False
        elif opened.ref.id in shelf.session_table.ids:
            opened.key = shelf.session_table.keys[shelf.session_table.ids.index(opened.ref.id)]
            opened.outline = None
            self.show_rows()
            self._study_due = 0.0
        elif not opened.missed:
            # Some writers take a file away for a moment, so one look proves nothing.
            opened.missed, shelf.stamp = True, ()
        else:
            name = render.one_line(opened.ref.id)
            self.notify(
                f"session {name} is gone: another process closed it or removed its file",
                severity="warning",
                markup=False,
            )
            self.opened = None
            self.refresh_bindings()
            self.timeline.hint = "this session is gone"
            self.timeline.show(None)
            if self.furnished:
                self.audit_pane.show(None, "")
                self.inspector.show([])

    def _refresh_opened(self) -> None:
        """Shows appended rows at once; anything more waits for a worker to walk the index again."""
        opened = self.opened
        if opened is None:
            return
        try:
            grown = opened.shelf.reader.grown(opened.ref, opened.outline) if opened.outline is not None else None
        except StoreError:
            # The file may be in the middle of a change; the next look comes in half a second.
            opened.shelf.stamp = ()
            return
        if grown is None:
            # Where appends cannot be added to an outline, walking again for each of them would never end.
            anomalies = opened.outline is not None and opened.outline.needs_full_read
            self._study_within(opened.outline_cost * REST * anomalies)
            return
        opened.outline = grown
        self.show_rows(keep=True)
        self._study_within(opened.outline_cost * REST)

    def _study_within(self, seconds: float) -> None:
        """Never later than what is due already: a writer that does not pause would put it off for ever."""
        due = time.monotonic() + seconds
        self._study_due = due if self._study_due is None else min(due, self._study_due)

    @on(study.Outlined)
    def _outlined(self, event: study.Outlined) -> None:
        opened = self.opened
        if opened is None or event.epoch != opened.epoch:
            return
        waiting = self.timeline.rows is None or not self.timeline.rows.length.exact
        changed = opened.outline != event.outline
        opened.outline, opened.outline_cost = event.outline, event.seconds
        if changed or waiting:
            wanted, opened.wanted = opened.wanted, None
            self.show_rows(wanted, keep=self.timeline.count > 0)

    @on(study.Studied)
    def _studied(self, event: study.Studied) -> None:
        opened = self.opened
        if opened is None or event.epoch != opened.epoch:
            return
        opened.audit, opened.detail, opened.usage = event.audit, event.detail, event.usage
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

    @on(study.Failed)
    def _failed(self, event: study.Failed) -> None:
        if not event.gone:
            self.failed(event.text)
        if event.shelf is not None:
            if event.again:
                self._changed.add(event.shelf)
            self._rested[event.shelf] = time.monotonic() + RETRY_S
        if self.opened is not None and event.epoch == self.opened.epoch:
            if self.opened.audit is None:
                self.audit_pane.show(None, "cannot be read now")
            if event.again:
                self._study_due = time.monotonic() + RETRY_S


def _runs(worker: Worker[None] | None) -> bool:
    return worker is not None and worker.is_running
