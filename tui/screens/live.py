"""Keeping the screen true while another process writes: look at the files twice a second, read only what changed."""

from __future__ import annotations

import time

from textual import on
from textual.geometry import Size
from textual.worker import Worker, get_current_worker

from store import Census, Entry, StoreError

from .. import render, study
from ..library import Library, Shelf
from .stage import Stage

POLL_S, AGES_S, REST, NEWEST, FEW = 0.5, 30, 20, 50, 2_000
"""Seconds between two looks; and how many times its own duration a walk waits before it runs again."""


class Live(Stage):
    """The part of the browser that follows changes and takes what workers bring."""

    def __init__(self, library: Library, size: Size) -> None:
        super().__init__(library, size)
        self._census_due: dict[int, float] = {}
        self._counting: dict[int, Worker[None]] = {}
        self._study_due: float | None = None

    def start_watching(self) -> None:
        """Begins to look at the files. Nothing is held open between two looks."""
        self.set_interval(POLL_S, self.look)
        self.set_interval(AGES_S, self._refresh_ages)

    def first_look(self, shelf: Shelf) -> None:
        """All sessions where they are few; else the newest at once, and the census from a worker."""
        try:
            if shelf.reader.fewer_than(FEW):
                shelf.replace(shelf.reader.census(), complete=True)
                return
            shelf.replace(self._sketch(shelf), complete=False)
        except StoreError as error:
            self.failed(str(error))
        self.take_census(shelf)

    def _sketch(self, shelf: Shelf) -> Census:
        entries = [
            Entry(found.key, found.ref.id, None, found.created_at or 0, found.updated_at or 0,
                  found.message_count.value, 0, False, found.title)
            for found in reversed(shelf.reader.newest(NEWEST))
        ]
        return Census(entries)

    def look(self) -> None:
        """One look: a few `stat` calls an archive, and what follows where something changed."""
        now = time.monotonic()
        for shelf in self.library.shelves:
            stamp = shelf.archive.stamp()
            if stamp != shelf.stamp:
                shelf.stamp = stamp
                self._census_due.setdefault(shelf.index, 0.0)
                if self.opened is not None and self.opened.shelf is shelf:
                    self._refresh_opened()
            due = self._census_due.get(shelf.index)
            # A walk that is under way is left to end: a busy writer would otherwise keep any from ever ending.
            if due is not None and now >= due and not _runs(self._counting.get(shelf.index)):
                del self._census_due[shelf.index]
                self.take_census(shelf)
        if self._study_due is not None and now >= self._study_due and not _runs(self.studying):
            self._study_due = None
            self.study()

    def _refresh_ages(self) -> None:
        """How long ago something was changes without any change."""
        self.tree_pane.refresh()
        self.list_pane.refresh()

    def take_census(self, shelf: Shelf) -> None:
        """Counts the sessions of an archive in a worker."""
        self._counting[shelf.index] = self.run_worker(
            lambda: study.count(self.post_message, shelf.archive, shelf.index,
                                lambda: get_current_worker().is_cancelled),
            thread=True, group=f"census-{shelf.index}", exclusive=True, exit_on_error=False,
        )

    @on(study.Counted)
    def _counted(self, event: study.Counted) -> None:
        shelf = self.library.shelves[event.shelf]
        changes = shelf.census.changes(event.census)
        first = not shelf.complete
        if first or changes:
            untouched = self.tree_pane.cursor == 0
            self.tree_pane.before_census()
            shelf.replace(event.census, complete=True, keep=True)
            shelf.forget(changes.appended | changes.edited | changes.gone)
            self.tree_pane.after_census(keep=not (first and untouched))
            here = self.list_pane.cursor
            self.list_pane.rebuild(self.opened.node if self.opened else None)
            if not self.opened:
                self.list_pane.cursor = here
        if event.seconds * REST > POLL_S:
            self._census_due[event.shelf] = time.monotonic() + event.seconds * REST
        if changes and self.opened is not None and self.opened.shelf is shelf:
            self._forget_closed()
        self.show_titles()

    def _forget_closed(self) -> None:
        """Leaves a session that another process deleted."""
        opened = self.opened
        if opened is not None and opened.node is None:
            self.notify(f"session {render.one_line(opened.ref.id)} was closed by another process",
                        severity="warning", markup=False)
            self.opened = None
            self.timeline.hint = "this session is gone"
            self.timeline.show(None)
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
            self._study_due = 0.0
            return
        opened.outline = grown
        self.show_rows(keep=True)
        self._study_due = time.monotonic() + opened.outline_cost * REST

    @on(study.Outlined)
    def _outlined(self, event: study.Outlined) -> None:
        opened = self.opened
        if opened is None or event.epoch != opened.epoch:
            return
        waiting = self.timeline.rows is None or not self.timeline.rows.length.exact
        changed = opened.outline != event.outline
        opened.outline, opened.outline_cost = event.outline, event.seconds
        if changed or waiting:
            self.show_rows(keep=self.timeline.count > 0)

    @on(study.Studied)
    def _studied(self, event: study.Studied) -> None:
        opened = self.opened
        if opened is None or event.epoch != opened.epoch:
            return
        opened.audit, opened.detail, opened.usage = event.audit, event.detail, event.usage
        self.audit_pane.show(event.audit)
        unanswered = frozenset(seq for seq, _ in event.detail.unanswered)
        if unanswered != self.timeline.unanswered:
            self.timeline.unanswered = unanswered
            self.timeline.refresh()
        self.inspect(keep=True)

    @on(study.Failed)
    def _failed(self, event: study.Failed) -> None:
        self.failed(event.text)


def _runs(worker: Worker[None] | None) -> bool:
    return worker is not None and worker.is_running
