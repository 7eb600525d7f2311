"""Getting from one message to another: links, compactions, numbers, findings, and the way back."""

from __future__ import annotations

from sessionscope.store import Certainty, Compaction, Link, Ref, Spot, View
from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.panes import Panes
from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.sessions.session_catalog import SessionCatalog

from .inspection import Inspection
from .opening import Opening

BACK_HISTORY_LIMIT = 100
"""How many places the way back remembers."""
NUMBER_DIGITS = 40
"""How many digits a number that is typed may have."""
ROWS_AROUND_SPOT = 2_000
"""How many rows at most are gone through for one that has no seq."""
Visit = tuple[OpenedArchive, Ref, View, int | None]
"""A place where the cursor was: archive, session, view and seq."""


class Navigation:
    """Moves the cursor to where something leads. Its reads are bounded; they may raise StoreError."""

    def __init__(
        self, host: Host, panes: Panes, catalog: SessionCatalog, opening: Opening, inspection: Inspection
    ) -> None:
        self._host, self._panes, self._catalog = host, panes, catalog
        self._opening, self._inspection = opening, inspection
        self._back_history: list[Visit] = []

    @property
    def seq(self) -> int | None:
        """The seq that the cursor is on or, in a hole, the first that is missing; None if there is no message."""
        row = self._panes.timeline.current
        if row is None:
            return None
        if row.seq is not None:
            return row.seq
        return row.hole[0] if row.hole else 0

    # -- the way back

    def remember(self) -> None:
        """Note where the cursor is."""
        session, row = self._opening.current, self._panes.timeline.current
        if session is not None:
            visit = (session.opened_archive, session.ref, session.view, row.seq if row is not None else None)
            self._back_history = [*self._back_history[-BACK_HISTORY_LIMIT:], visit]

    def back(self) -> None:
        """Go where the cursor was before it followed something."""
        if not self._back_history:
            self._host.notices.say("nothing to go back to", seconds=2)
            return
        opened_archive, ref, view, seq = self._back_history.pop()
        self.go_to(opened_archive, ref, seq, view)

    # -- going

    def go_to(self, opened_archive: OpenedArchive, ref: Ref, seq: int | None, view: View = View.ALL) -> None:
        """Show a message of a session, and open that session if it is not open. Raises StoreError."""
        node = self._catalog.node_of(opened_archive, ref)
        if node is None:
            complete = opened_archive.complete
            words = "that session is gone" if complete else "the sessions are still being counted; try again"
            self._host.notices.say(words, level="warning")
            return
        self._panes.tree.select(node)
        self._opening.open(node, seq)
        session = self._opening.current
        if session is not None and (session.view is not view or session.only_runs is not None):
            self._opening.show_view(view, seq)
        self._panes.focus("timeline")

    def go_to_seq(self, seq: int, about: str, certainty: Certainty) -> None:
        """Go to a message of the open session; `about` says what it is, for a notice if that is not certain."""
        if self._opening.current is None:
            return
        self.remember()
        self._opening.show_seq(seq)
        self._say_if_uncertain(about, certainty)
        self._panes.focus("timeline")

    def go_to_typed(self, text: str) -> None:
        """Go to the number that was typed, or to the message nearest to it."""
        if not text.strip().isdecimal() or len(text) > NUMBER_DIGITS:
            self._host.notices.say("a seq is a number", level="warning", seconds=3)
            return
        self.remember()
        if not self._panes.timeline.go_to(int(text)):
            self._host.notices.say(f"no row {int(text)} in this view; this is the nearest", seconds=3)

    def go_to_spot(self, opened_archive: OpenedArchive, spot: Spot) -> None:
        """Go to where the doctor found something. Raises StoreError."""
        if spot.session is None:
            return
        self.remember()
        self.go_to(opened_archive, spot.session, spot.seq)
        if spot.seq is None and (spot.line is not None or spot.row is not None):
            self._go_to_row_without_seq(spot)

    def _go_to_row_without_seq(self, spot: Spot) -> None:
        """Go to a row by its identity or its line: nearly every row is one line, so it is near that index."""
        timeline = self._panes.timeline
        if timeline.rows is None or not timeline.count:
            return
        start = max(0, min(spot.line or 0, timeline.count) - ROWS_AROUND_SPOT // 2)
        stop = min(start + ROWS_AROUND_SPOT, timeline.count)
        for index, row in enumerate(timeline.rows.window(start, stop), start):
            reached = row.line is not None and spot.line is not None and row.line >= spot.line
            if reached or (row.row is not None and row.row == spot.row):
                timeline.cursor = index
                return

    def _say_if_uncertain(self, about: str, certainty: Certainty) -> None:
        if certainty is not Certainty.RECORDED:
            self._host.notices.say(f"{about}: {certainty}, the file does not say", seconds=4)

    # -- links

    def follow(self) -> None:
        """Follow the message: a note to its messages, a call to its result or child session. Raises StoreError."""
        session, row = self._opening.current, self._panes.timeline.current
        if session is None:
            return
        if self._panes.focused == "audit" or (row is not None and row.note is not None):
            self._go_to_compacted_rows()
            return
        if row is None or row.row is None:
            return
        link = session.opened_archive.reader.follow(session.ref, row.row)
        if link is not None:
            self._follow_link(link)
        elif (compaction := session.compacted_by(row.seq)) is not None:
            self._go_to_note(compaction)
        else:
            self._host.notices.say("this row leads nowhere", seconds=2)

    def up(self) -> None:
        """Go from a compacted message to its note, from others to the caller of the session. Raises StoreError."""
        session, row = self._opening.current, self._panes.timeline.current
        if session is None:
            return
        compaction = session.compacted_by(row.seq) if row is not None else None
        if compaction is not None:
            self._go_to_note(compaction)
            return
        link = session.opened_archive.reader.spawner(session.ref)
        if link is None:
            self._host.notices.say("this session has no parent here", seconds=2)
        else:
            self._follow_link(link)

    def _follow_link(self, link: Link) -> None:
        session = self._opening.current
        if session is None:
            return
        if link.ref == session.ref and link.seq is not None:
            self.go_to_seq(link.seq, link.about, link.certainty)
            return
        self.remember()
        self._say_if_uncertain(link.about, link.certainty)
        self.go_to(session.opened_archive, link.ref, link.seq)

    # -- compactions

    def _go_to_note(self, compaction: Compaction) -> None:
        """Go to the note of a compaction: its message, or where it stands among the compactions."""
        if compaction.note_seq is not None:
            self.go_to_seq(compaction.note_seq, "its note", compaction.set_is)
            return
        self._panes.compactions.select(compaction.number)
        self._panes.focus("audit")
        self._inspection.look_at("compaction")

    def _go_to_compacted_rows(self) -> None:
        session, row, pane = self._opening.current, self._panes.timeline.current, self._panes.compactions
        if session is None:
            return
        if self._panes.focused == "audit":
            compaction = pane.compaction
        else:
            compaction = session.compaction_of_note(row.seq if row is not None else None)
        if compaction is None and row is not None and row.note is not None and row.note.from_seq is not None:
            self.go_to_seq(row.note.from_seq, "where its span begins", Certainty.RECORDED)
        elif compaction is None or not compaction.set_runs:
            self._host.notices.say("no row that this note folded is left", seconds=3)
        else:
            pane.select(compaction.number)
            about = f"the rows it folded ({compaction.rows or '?'})"
            self.go_to_seq(compaction.set_runs[0][0], about, compaction.set_is)

    def next_compaction(self, by: int) -> None:
        """Go to the note of the next compaction, or with -1 of the previous one."""
        session, here = self._opening.current, self.seq
        if session is None or here is None:
            return
        if session.audit is None:
            self._host.notices.say("the compactions are still being read", seconds=2)
            return
        by_seq = {
            seq: compaction
            for compaction in session.audit.compactions
            if (seq := _note_position(compaction)) is not None
        }
        further = sorted(seq for seq in by_seq if (seq > here if by > 0 else seq < here))
        if not further:
            self._host.notices.say(f"no compaction {'after' if by > 0 else 'before'} this row", seconds=2)
            return
        seq = further[0] if by > 0 else further[-1]
        self._panes.compactions.select(by_seq[seq].number)
        self.go_to_seq(seq, "the note", Certainty.RECORDED)


def _note_position(compaction: Compaction) -> int | None:
    """Return the seq of a note or, if it is no message of its own, of the last message that it was made of."""
    return compaction.note_seq if compaction.note_seq is not None else compaction.to_seq
