"""Getting from one row to another: links, compactions, seqs, hits, and the way back."""

from __future__ import annotations

from textual import on, work

from sessionscope.store import Certainty, Compaction, Link, Ref, StoreError, View
from sessionscope.tui.sessions.session_catalog import OpenedArchive
from sessionscope.tui.workers import read_workers

from .live import Live

BACK_HISTORY_LIMIT, DIGITS = 100, 40


class Travel(Live):
    """The part of the browser that moves the cursor to where something leads."""

    _searched: str = ""

    def remember(self) -> None:
        """Notes where the cursor is, for the way back."""
        if self.current_session is not None:
            row = self.timeline.current
            here = (
                self.current_session.opened_archive,
                self.current_session.ref,
                self.current_session.view,
                row.seq if row is not None else None,
            )
            self.back_history = [*self.back_history[-BACK_HISTORY_LIMIT:], here]

    def action_back(self) -> None:
        if not self.back_history:
            self.notify("nothing to go back to", timeout=2)
            return
        opened_archive, ref, view, seq = self.back_history.pop()
        self.travel(opened_archive, ref, seq, view)

    def travel(self, opened_archive: OpenedArchive, ref: Ref, seq: int | None, view: View = View.ALL) -> None:
        """Shows a row of a session, opening that session if it is not."""
        try:
            node = self.catalog.node_of(opened_archive, ref)
        except StoreError as error:
            self.failed(str(error))
            return
        if node is None:
            words = (
                "that session is gone" if opened_archive.complete else "the sessions are still being counted; try again"
            )
            self.notify(words, severity="warning")
            return
        self.tree_pane.select(node)
        self.open_node(node, seq)
        if self.current_session is not None and (
            self.current_session.view is not view or self.current_session.only_runs is not None
        ):
            self.current_session.view, self.current_session.only_runs = view, None
            self.show_rows(seq)
        self.set_pane("timeline")

    # -- links

    def action_follow(self) -> None:
        current_session, row = self.current_session, self.timeline.current
        if current_session is not None and (
            self.focused is self.audit_pane or (row is not None and row.note is not None)
        ):
            self._to_compacted_rows()
            return
        if current_session is None or row is None or row.row is None:
            return
        try:
            link = current_session.opened_archive.reader.follow(current_session.ref, row.row)
        except StoreError as error:
            self.failed(str(error))
            return
        if link is not None:
            self._take_link(link)
        elif (compaction := current_session.compacted_by(row.seq)) is not None:
            self._to_note(compaction)
        else:
            self.notify("this row leads nowhere", timeout=2)

    def _to_note(self, compaction: Compaction) -> None:
        """Goes to the note of a fold: its row, or where it stands in the audit."""
        if compaction.note_seq is not None:
            self._to_row(compaction.note_seq, "its note", compaction.set_is)
            return
        self.audit_pane.select(compaction.number)
        self.set_pane("audit")
        self.subject = "compaction"
        self.inspect()

    def _to_compacted_rows(self) -> None:
        current_session, row = self.current_session, self.timeline.current
        if current_session is None:
            return
        compaction = (
            self.audit_pane.compaction
            if self.focused is self.audit_pane
            else current_session.compaction_of_note(row.seq if row else None)
        )
        if compaction is None and row is not None and row.note is not None and row.note.from_seq is not None:
            self._to_row(row.note.from_seq, "where its span begins", Certainty.RECORDED)
        elif compaction is None or not compaction.set_runs:
            self.notify("no row that this note folded is left", timeout=3)
        else:
            self.audit_pane.select(compaction.number)
            self._to_row(compaction.set_runs[0][0], f"the rows it folded ({compaction.rows or '?'})", compaction.set_is)

    def action_up(self) -> None:
        current_session, row = self.current_session, self.timeline.current
        if current_session is None:
            return
        compaction = current_session.compacted_by(row.seq) if row is not None else None
        if compaction is not None:
            self._to_note(compaction)
            return
        try:
            link = current_session.opened_archive.reader.spawner(current_session.ref)
        except StoreError as error:
            self.failed(str(error))
            return
        if link is None:
            self.notify("this session has no parent here", timeout=2)
        else:
            self._take_link(link)

    def _take_link(self, link: Link) -> None:
        if self.current_session is None:
            return
        if link.ref == self.current_session.ref and link.seq is not None:
            self._to_row(link.seq, link.about, link.certainty)
            return
        self.remember()
        if link.certainty is not Certainty.RECORDED:
            self.notify(f"{link.about}: {link.certainty}, the file does not say", timeout=4)
        self.travel(self.current_session.opened_archive, link.ref, link.seq)

    def _to_row(self, seq: int, about: str, certainty: Certainty) -> None:
        """Goes to a row of the opened session, through all rows if this view does not hold it."""
        current_session = self.current_session
        if current_session is None:
            return
        self.remember()
        if self.timeline.rows is None or self.timeline.rows.locate(seq) is None:
            current_session.view, current_session.only_runs = View.ALL, None
            self.show_rows(seq)
        else:
            self.timeline.go_to(seq)
        if certainty is not Certainty.RECORDED:
            self.notify(f"{about}: {certainty}, the file does not say", timeout=4)
        self.set_pane("timeline")

    # -- compactions and seqs

    def action_compaction(self, by: int) -> None:
        current_session, row = self.current_session, self.timeline.current
        if current_session is None or row is None:
            return
        if current_session.audit is None:
            self.notify("the compactions are still being read", timeout=2)
            return
        here = row.seq if row.seq is not None else row.hole[0] if row.hole else 0
        # A note that is no row of its own stands where the rows end that it was made of.
        places = {
            place: compaction
            for compaction in current_session.audit.compactions
            if (place := compaction.note_seq if compaction.note_seq is not None else compaction.to_seq) is not None
        }
        notes = sorted(places)
        further = [seq for seq in notes if (seq > here if by > 0 else seq < here)]
        if not further:
            self.notify(f"no compaction {'after' if by > 0 else 'before'} this row", timeout=2)
            return
        seq = further[0] if by > 0 else further[-1]
        self.audit_pane.select(places[seq].number)
        self._to_row(seq, "the note", Certainty.RECORDED)

    def jump(self, text: str) -> None:
        """Goes to the seq that was typed."""
        if not text.strip().isdecimal() or len(text) > DIGITS:
            self.notify("a seq is a number", severity="warning", timeout=3)
            return
        self.remember()
        if not self.timeline.go_to(int(text)):
            self.notify(f"no row {int(text)} in this view; this is the nearest", timeout=3)

    # -- finding

    def search(self, text: str) -> None:
        """Looks for a text from the cursor on."""
        if text:
            self._searched = text
            self.remember()
            self.action_find_next(1)

    def action_find_next(self, by: int) -> None:
        row = self.timeline.current
        if not self._searched:
            self.notify("/ looks for a text first", timeout=2)
        elif self.current_session is not None and row is not None:
            here = row.seq if row.seq is not None else row.hole[0] if row.hole else 0
            self._find(here + by, by > 0)

    @work(thread=True, group="find", exclusive=True, exit_on_error=False)
    def _find(self, start: int, forward: bool) -> None:
        current_session = self.current_session
        if current_session is not None:
            read_workers.find(
                self.post_message,
                current_session.opened_archive.archive,
                current_session.ref,
                current_session.epoch,
                self._searched,
                start,
                forward,
                read_workers.stopped,
            )

    @on(read_workers.TextFound)
    def _text_found(self, event: read_workers.TextFound) -> None:
        if self.current_session is None or event.epoch != self.current_session.epoch or event.text != self._searched:
            return
        if event.seq is None:
            self.notify(f"no more {event.text!r}", timeout=2, markup=False)
        elif self.timeline.rows is not None and self.timeline.rows.locate(event.seq) is None:
            self.current_session.view, self.current_session.only_runs = View.ALL, None
            self.show_rows(event.seq)
        else:
            self.timeline.go_to(event.seq)
