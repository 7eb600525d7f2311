"""Reads what is known of the open session beyond its messages, and follows it while it grows."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.worker import Worker

from sessionscope.store import Outline, StoreError
from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.panes import Panes
from sessionscope.tui.workers import read_workers

from .opening import Opening

REST = 20
"""How many times its own duration a full read waits before it is done again."""
RETRY_S = 2.0
"""Seconds before a read that failed for a reason that may pass is tried again."""


class SessionReading:
    """Reads outline, compactions, bookkeeping and usage of the open session in a worker."""

    def __init__(self, host: Host, panes: Panes, opening: Opening, now: Callable[[], float] = time.monotonic) -> None:
        self._host, self._panes, self._opening, self._now = host, panes, opening, now
        self._worker: Worker[None] | None = None
        self._due: float | None = None
        """When the session is read again, in seconds of the monotonic clock."""

    def begin(self, outline: Outline | None = None) -> None:
        """Read the open session, its outline too unless it is given. This ends such a worker for another session."""
        session = self._opening.current
        if session is None:
            return
        archive, ref, epoch = session.opened_archive.archive, session.ref, session.epoch
        post = self._host.post_message
        self._worker = self._host.start_worker(
            "session", lambda: read_workers.read_session(post, archive, ref, epoch, outline, read_workers.stopped)
        )

    def begin_with_known_outline(self) -> None:
        """Read what is missing of the session that was just opened."""
        session = self._opening.current
        self.begin(session.outline if session is not None else None)

    # -- again, while another process writes

    def grow(self) -> bool:
        """Show appended messages at once. Return False if the file must be looked at again."""
        session = self._opening.current
        if session is None:
            return True
        try:
            grown = session.grow()
        except StoreError:
            # The file may be in the middle of a change. The next look comes in half a second.
            return False
        if grown:
            self._opening.show_rows(keep=True)
        # An outline that appended rows cannot be added to is read in full, but not for each of them.
        needs_rest = grown or (session.outline is not None and session.outline.needs_full_read)
        self.begin_within(session.outline_seconds * REST if needs_rest else 0.0)
        return True

    def begin_within(self, seconds: float) -> None:
        """Read again in so many seconds, but not later than what is due already.

        A writer that does not pause would otherwise put it off for ever.
        """
        due = self._now() + seconds
        self._due = due if self._due is None else min(due, self._due)

    def begin_if_due(self) -> None:
        """Read again if it is time and no worker still reads."""
        reads = self._worker is not None and self._worker.is_running
        if self._due is not None and self._now() >= self._due and not reads:
            self._due = None
            self.begin()

    # -- answers of the worker

    def outline_read(self, event: read_workers.Outlined) -> None:
        """Take the outline, and show the messages if it tells more about them."""
        session, timeline = self._opening.current, self._panes.timeline
        if session is None or event.epoch != session.epoch:
            return
        waiting = timeline.rows is None or not timeline.rows.length.exact
        changed = session.outline_read(event.outline, event.seconds)
        if changed or waiting:
            self._opening.show_rows_of_new_outline()

    def session_read(self, event: read_workers.SessionRead) -> None:
        """Take compactions, bookkeeping and usage, and show them."""
        session, timeline = self._opening.current, self._panes.timeline
        if session is None or event.epoch != session.epoch:
            return
        session.session_read(event.audit, event.detail, event.usage)
        self._panes.compactions.show(event.audit, "no compaction yet" if event.audit else "cannot be read")
        unanswered = frozenset(seq for seq, _ in event.detail.unanswered) if event.detail else frozenset()
        if unanswered != timeline.unanswered:
            timeline.unanswered = unanswered
            timeline.refresh()
        if event.trouble is not None:
            self._host.notices.failed(event.trouble)
        self._host.session_read(event)

    def read_failed(self, event: read_workers.Failed) -> None:
        """Say so in the compactions, and try again if that may help."""
        session = self._opening.current
        if session is None or event.epoch != session.epoch:
            return
        if session.audit is None:
            self._panes.compactions.show(None, "cannot be read now")
        if event.again:
            self._due = self._now() + RETRY_S
