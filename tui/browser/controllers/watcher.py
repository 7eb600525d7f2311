"""Keeps the screen true while other processes write: looks at the files twice a second, reads only what changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from textual.worker import Worker

from sessionscope.store import SessionSummary, SessionTable, Stamp, TableEntry
from sessionscope.tui.browser.guard import guard
from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.panes import Panes
from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.sessions.session_catalog import SessionCatalog
from sessionscope.tui.text.fitting import one_line
from sessionscope.tui.workers import read_workers

from .opening import Opening
from .session_reading import REST, RETRY_S, SessionReading

POLL_S = 0.5
"""Seconds between two looks at the files."""
AGES_S = 30.0
"""Seconds after which ages such as "5m" are painted again."""
NEWEST_SESSIONS = 50
"""How many sessions are shown at once if an archive holds too many to list them all before the first frame."""


class Watcher:
    """Watches the archives and reads their session tables. No connection is held between two looks."""

    def __init__(
        self,
        host: Host,
        panes: Panes,
        catalog: SessionCatalog,
        opening: Opening,
        reading: SessionReading,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._panes, self._catalog, self._opening = host, panes, catalog, opening
        self._reading, self._now = reading, now
        self._stamps: dict[int, Stamp] = {}
        """What the files of each archive, by its index, looked like at the last look."""
        self._changed: set[int] = set()
        """The archives, by index, whose session table is to be read again."""
        self._not_before: dict[int, float] = {}
        """When an archive's session table may be read again, in seconds of the monotonic clock."""
        self._workers: dict[int, Worker[None]] = {}
        self._missed_epoch: int | None = None
        """The epoch of the open session if its archive's last session table did not hold it."""

    def start(self) -> None:
        """Begin to look at the files."""
        self._host.every_seconds(POLL_S, self.look)
        self._host.every_seconds(AGES_S, self._panes.refresh_lists)

    def first_look(self, opened_archive: OpenedArchive) -> None:
        """Read all sessions if they are few, else the newest at once and the session table in a worker."""
        self._stamps[opened_archive.index] = opened_archive.archive.stamp()
        with guard(self._host.notices):
            session_table = opened_archive.reader.session_table_if_small()
            if session_table is not None:
                opened_archive.replace(session_table, complete=True)
                return
            newest = opened_archive.reader.newest(NEWEST_SESSIONS)
            opened_archive.replace(_table_of(newest), complete=False)
            opened_archive.keep(newest)
        self._host.after_refresh(lambda: self.read_session_table(opened_archive))

    # -- looking

    def look(self) -> None:
        """Ask for a few `stat` an archive, and read what has changed."""
        session = self._opening.current
        for opened_archive in self._catalog.opened_archives:
            changed = self._has_changed(opened_archive)
            if changed:
                self._changed.add(opened_archive.index)
                if session is not None and session.opened_archive is opened_archive and not self._reading.grow():
                    self._look_again(opened_archive)
            self._retry(opened_archive, changed)
            self._read_if_rested(opened_archive)
        if self._panes.timeline.failed:
            self._opening.show_rows(keep=True)
        self._reading.begin_if_due()

    def _has_changed(self, opened_archive: OpenedArchive) -> bool:
        """Return whether an archive's files have changed since the last look."""
        index, stamp = opened_archive.index, opened_archive.archive.stamp()
        before = self._stamps.get(index)
        self._stamps[index] = stamp
        return stamp != before

    def _look_again(self, opened_archive: OpenedArchive) -> None:
        """Let the next look find a change, whatever the files say."""
        self._stamps.pop(opened_archive.index, None)

    def _retry(self, opened_archive: OpenedArchive, changed: bool) -> None:
        """Say why sessions could not be read, and ask for them again if that may help."""
        if opened_archive.trouble is not None:
            self._host.notices.failed(opened_archive.trouble)
        if (changed or opened_archive.busy) and opened_archive.retry():
            self._panes.refresh_lists()

    def _read_if_rested(self, opened_archive: OpenedArchive) -> None:
        """Read the session table again, unless that was done a moment ago.

        A worker that still reads is left to end: a busy writer would otherwise keep any from ever ending.
        """
        index = opened_archive.index
        worker = self._workers.get(index)
        rested = self._now() >= self._not_before.get(index, 0.0)
        if index in self._changed and rested and not (worker is not None and worker.is_running):
            self._changed.discard(index)
            self.read_session_table(opened_archive)

    # -- session tables

    def read_session_table(self, opened_archive: OpenedArchive) -> None:
        """List the sessions of an archive in a worker."""
        archive, index, before = opened_archive.archive, opened_archive.index, opened_archive.session_table
        post = self._host.post_message
        self._workers[index] = self._host.start_worker(
            f"session-table-{index}",
            lambda: read_workers.read_session_table(post, archive, index, before, read_workers.stopped),
        )

    def session_table_read(self, event: read_workers.SessionTableRead) -> None:
        """Show a newer session table."""
        opened_archive = self._catalog.opened_archives[event.opened_archive]
        self._not_before[event.opened_archive] = self._now() + event.seconds * REST
        if event.before is opened_archive.session_table:
            changes = event.changes
        else:
            changes = opened_archive.session_table.changes(event.session_table)
        first = not opened_archive.complete
        if first or changes:
            tree = self._panes.tree
            untouched = tree.cursor == 0
            tree.before_session_table()
            opened_archive.replace(event.session_table, complete=True, keep=True)
            # A key may have been given to a new session, so what was added is forgotten too.
            opened_archive.forget(changes.appended | changes.edited | changes.added | changes.gone)
            tree.after_session_table(keep=not (first and untouched))
            if self._panes.complete:
                self._panes.previews.rebuild()
        self._check_open_session(opened_archive)
        if first or changes:
            self._host.sessions_changed()
            session = self._opening.current
            if session is not None and session.node is not None:
                # What was forgotten is in its title.
                self._catalog.load([session.node])
            self._host.titles_changed()

    def _check_open_session(self, opened_archive: OpenedArchive) -> None:
        """Leave the open session if it no longer exists in its archive."""
        session, table = self._opening.current, opened_archive.session_table
        if session is None or session.opened_archive is not opened_archive:
            return
        missed_before = self._missed_epoch == session.epoch
        self._missed_epoch = None
        if session.node is not None:
            return
        if session.ref.id in table.ids:
            self._opening.replace_key(table.keys[table.ids.index(session.ref.id)])
            self._reading.begin_within(0.0)
        elif not missed_before:
            # Some writers take a file away for a moment, so one look proves nothing.
            self._missed_epoch = session.epoch
            self._look_again(opened_archive)
        else:
            self._host.notices.say(
                f"session {one_line(session.ref.id)} is gone: another process closed it or removed its file",
                level="warning",
            )
            self._opening.close()

    def read_failed(self, event: read_workers.Failed) -> None:
        """Try again to read an archive's session table."""
        if event.opened_archive is None:
            return
        if event.again:
            self._changed.add(event.opened_archive)
        self._not_before[event.opened_archive] = self._now() + RETRY_S


def _table_of(newest: Sequence[SessionSummary]) -> SessionTable:
    """Return a session table of a few sessions, without parents and sizes, until the whole one is read."""
    return SessionTable(
        TableEntry(
            summary.key,
            summary.ref.id,
            None,
            summary.created_at or 0,
            summary.updated_at or 0,
            summary.message_count.value,
            0,
            False,
            summary.title,
        )
        for summary in reversed(newest)
    )
