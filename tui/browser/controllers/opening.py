"""Which session is open, and what of it the timeline shows."""

from __future__ import annotations

from textual.timer import Timer

from sessionscope.store import Capability, Limits, Timeline, View
from sessionscope.tui.browser.guard import guard
from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.panes import Panes
from sessionscope.tui.browser.titles import VIEWS
from sessionscope.tui.sessions.current_session import CurrentSession, Runs
from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.sessions.session_catalog import Key, SessionCatalog
from sessionscope.tui.text.fitting import one_line
from sessionscope.tui.text.session_lines import title_of

REST_S = 0.1
"""Seconds that the keys must rest before the panes follow the cursor."""
GONE = "that session is gone"


class Opening:
    """Opens sessions. `current` is the open one, None if there is none."""

    def __init__(self, host: Host, panes: Panes, catalog: SessionCatalog) -> None:
        self._host, self._panes, self._catalog = host, panes, catalog
        self.current: CurrentSession | None = None
        self._epoch = 0
        self._timer: Timer | None = None
        self._awaited_seq: int | None = None
        """Where to go as soon as the outline tells where that message is."""

    @property
    def archive(self) -> OpenedArchive:
        """The archive that the user looks at: that of the open session, else the one under the tree's cursor."""
        if self.current is not None:
            return self.current.opened_archive
        node = self._panes.tree.node
        return self._catalog.opened_archive(node) if node is not None else self._catalog.opened_archives[0]

    @property
    def title(self) -> str:
        """What the open session is called; empty if none is open."""
        if self.current is None:
            return ""
        node = self.current.node
        summary = self._catalog.summary(node) if node is not None else None
        return title_of(summary) if summary is not None else one_line(self.current.ref.id)

    # -- opening

    def open_soon(self, node: int | None) -> None:
        """Open the session under the cursor once the cursor rests."""
        self._stop_timer()
        if node is not None and node >= 0:
            key = self._catalog.key(node)
            self._timer = self._host.after_seconds(REST_S, lambda: self._open_if_there(key))

    def _open_if_there(self, key: Key) -> None:
        node = self._catalog.node(key)
        if node is not None:
            self.open(node)

    def open_and_focus(self, node: int) -> None:
        """Select a session in the tree, open it, and go to the timeline."""
        self._panes.tree.select(node)
        self.open(node)
        self._panes.focus("timeline")

    def open_key(self, key: Key) -> None:
        """Open a session that was listed a while ago."""
        node = self._catalog.node(key)
        if node is None:
            self._host.notices.failed(GONE)
        else:
            self.open_and_focus(node)

    def open(self, node: int, seq: int | None = None) -> None:
        """Open a session in the timeline, at a seq or at its newest message."""
        self._stop_timer()
        self._catalog.load([node])
        summary = self._catalog.summary(node)
        if summary is None:
            self._host.notices.failed(GONE)
            return
        before, opened_archive = self.current, self._catalog.opened_archive(node)
        if before is not None and before.opened_archive is opened_archive and before.ref == summary.ref:
            if seq is not None:
                self._panes.timeline.go_to(seq)
            return
        self._epoch += 1
        self._awaited_seq = None
        self.current = CurrentSession(self._epoch, opened_archive, summary.ref, summary.key)
        archive_changed = before is None or before.opened_archive is not opened_archive
        if archive_changed:
            self._panes.timeline.markable = Capability.COMPACT in opened_archive.capabilities
        self._panes.timeline.unanswered = frozenset()
        self._host.session_opened(archive_changed)
        self.show_rows(seq)
        if self._panes.complete:
            self._panes.compactions.show(None, "reading…")
            self._panes.previews.select(node)

    def close(self) -> None:
        """Leave the session that no longer exists."""
        self.current = None
        self._panes.timeline.hint = "this session is gone"
        self._panes.timeline.show(None)
        if self._panes.complete:
            self._panes.compactions.show(None, "")
            self._panes.inspector.show([])
        self._host.session_closed()

    def replace_key(self, key: int) -> None:
        """Show the session anew: another one was made under its id, with another storage key."""
        if self.current is not None:
            self.current.replace_key(key)
            self.show_rows()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()

    # -- what the timeline shows

    def show_rows(self, seq: int | None = None, *, keep: bool = False) -> None:
        """Show the open session as it is now: at a seq, at its end, or with `keep` where the cursor was."""
        session, timeline = self.current, self._panes.timeline
        if session is None:
            return
        rows: Timeline | None = None
        with guard(self._host.notices):
            rows = session.rows()
        if rows is None:
            timeline.show(None)
            return
        timeline.hint = (rows.about or "no rows here") if rows.length.exact else "reading the session's index…"
        if not rows.length.exact and (seq is None or rows.locate(seq) is None):
            self._awaited_seq = seq
        if keep:
            timeline.update(rows)
        else:
            timeline.show(rows, seq)
        self._host.titles_changed()

    def show_rows_of_new_outline(self) -> None:
        """Show the rows again once their outline was read, at the message that was asked for before."""
        seq, self._awaited_seq = self._awaited_seq, None
        self.show_rows(seq, keep=self._panes.timeline.count > 0)

    def show_view(self, view: View, seq: int | None = None) -> None:
        """Show a view of the open session, at a seq or at its end."""
        if self.current is not None:
            self.current.show_view(view)
            self.show_rows(seq)

    def show_all(self, seq: int | None) -> None:
        """Show all messages, at a seq. Leave the view as it is if it is that already."""
        if self.current is not None and (self.current.view is not View.ALL or self.current.only_runs is not None):
            self.show_view(View.ALL, seq)

    def show_seq(self, seq: int) -> None:
        """Go to a message of the open session, in the view of all messages if this one does not hold it."""
        rows = self._panes.timeline.rows
        if rows is None or rows.locate(seq) is None:
            self.show_view(View.ALL, seq)
        else:
            self._panes.timeline.go_to(seq)

    def narrow_to(self, runs: Runs) -> None:
        """Show only some runs of seqs, from their beginning."""
        if self.current is not None and runs:
            self.current.narrow_to(runs)
            self.show_rows(runs[0][0])

    def widen(self) -> bool:
        """Show the whole view again. Return False if it was not narrowed."""
        if self.current is None or self.current.only_runs is None:
            return False
        self.current.narrow_to(None)
        row = self._panes.timeline.current
        self.show_rows(row.seq if row is not None else None)
        return True

    def choose_view(self, view: View) -> None:
        """Show a view at the message that the cursor is on, and say what the context view leaves out."""
        if self.current is None:
            return
        row, timeline = self._panes.timeline.current, self._panes.timeline
        self.show_view(view, row.seq if row is not None else None)
        about = timeline.rows.about if timeline.rows is not None else ""
        if view is View.CONTEXT and about and self._host.notices.is_new(about):
            self._host.notices.say(f"{about[:1].upper()}{about[1:]}.", seconds=3)

    def choose_next_view(self) -> None:
        """Show the next view, in the order of their keys."""
        if self.current is not None:
            views = list(VIEWS)
            self.choose_view(views[(views.index(self.current.view) + 1) % len(views)])

    def limit_context(self, limits: Limits | None) -> None:
        """Show the context with other limits; None means those of the release itself."""
        if self.current is not None:
            self.current.limit_context(limits)
            self.choose_view(View.CONTEXT)
