"""Getting from one row to another: links, compactions, seqs, hits, and the way back."""

from __future__ import annotations

from textual import on, work

from sessionscope.store import Certainty, Compaction, Link, Ref, StoreError, View
from sessionscope.tui.sessions.library import Shelf
from sessionscope.tui.workers import study

from .live import Live

BACK_HISTORY_LIMIT, DIGITS = 100, 40


class Travel(Live):
    """The part of the browser that moves the cursor to where something leads."""

    _searched: str = ""

    def remember(self) -> None:
        """Notes where the cursor is, for the way back."""
        if self.opened is not None:
            row = self.timeline.current
            here = (self.opened.shelf, self.opened.ref, self.opened.view, row.seq if row is not None else None)
            self.back_history = [*self.back_history[-BACK_HISTORY_LIMIT:], here]

    def action_back(self) -> None:
        if not self.back_history:
            self.notify("nothing to go back to", timeout=2)
            return
        shelf, ref, view, seq = self.back_history.pop()
        self.travel(shelf, ref, seq, view)

    def travel(self, shelf: Shelf, ref: Ref, seq: int | None, view: View = View.ALL) -> None:
        """Shows a row of a session, opening that session if it is not."""
        try:
            node = self.library.node_of(shelf, ref)
        except StoreError as error:
            self.failed(str(error))
            return
        if node is None:
            words = "that session is gone" if shelf.complete else "the sessions are still being counted; try again"
            self.notify(words, severity="warning")
            return
        self.tree_pane.select(node)
        self.open_node(node, seq)
        if self.opened is not None and (self.opened.view is not view or self.opened.only_runs is not None):
            self.opened.view, self.opened.only_runs = view, None
            self.show_rows(seq)
        self.set_pane("timeline")

    # -- links

    def action_follow(self) -> None:
        opened, row = self.opened, self.timeline.current
        if opened is not None and (self.focused is self.audit_pane or (row is not None and row.note is not None)):
            self._to_compacted_rows()
            return
        if opened is None or row is None or row.row is None:
            return
        try:
            link = opened.shelf.reader.follow(opened.ref, row.row)
        except StoreError as error:
            self.failed(str(error))
            return
        if link is not None:
            self._take_link(link)
        elif (compaction := opened.compacted_by(row.seq)) is not None:
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
        opened, row = self.opened, self.timeline.current
        if opened is None:
            return
        compaction = (
            self.audit_pane.compaction
            if self.focused is self.audit_pane
            else opened.compaction_of_note(row.seq if row else None)
        )
        if compaction is None and row is not None and row.note is not None and row.note.from_seq is not None:
            self._to_row(row.note.from_seq, "where its span begins", Certainty.RECORDED)
        elif compaction is None or not compaction.set_runs:
            self.notify("no row that this note folded is left", timeout=3)
        else:
            self.audit_pane.select(compaction.number)
            self._to_row(compaction.set_runs[0][0], f"the rows it folded ({compaction.rows or '?'})", compaction.set_is)

    def action_up(self) -> None:
        opened, row = self.opened, self.timeline.current
        if opened is None:
            return
        compaction = opened.compacted_by(row.seq) if row is not None else None
        if compaction is not None:
            self._to_note(compaction)
            return
        try:
            link = opened.shelf.reader.spawner(opened.ref)
        except StoreError as error:
            self.failed(str(error))
            return
        if link is None:
            self.notify("this session has no parent here", timeout=2)
        else:
            self._take_link(link)

    def _take_link(self, link: Link) -> None:
        if self.opened is None:
            return
        if link.ref == self.opened.ref and link.seq is not None:
            self._to_row(link.seq, link.about, link.certainty)
            return
        self.remember()
        if link.certainty is not Certainty.RECORDED:
            self.notify(f"{link.about}: {link.certainty}, the file does not say", timeout=4)
        self.travel(self.opened.shelf, link.ref, link.seq)

    def _to_row(self, seq: int, about: str, certainty: Certainty) -> None:
        """Goes to a row of the opened session, through all rows if this view does not hold it."""
        opened = self.opened
        if opened is None:
            return
        self.remember()
        if self.timeline.rows is None or self.timeline.rows.locate(seq) is None:
            opened.view, opened.only_runs = View.ALL, None
            self.show_rows(seq)
        else:
            self.timeline.go_to(seq)
        if certainty is not Certainty.RECORDED:
            self.notify(f"{about}: {certainty}, the file does not say", timeout=4)
        self.set_pane("timeline")

    # -- compactions and seqs

    def action_compaction(self, by: int) -> None:
        opened, row = self.opened, self.timeline.current
        if opened is None or row is None:
            return
        if opened.audit is None:
            self.notify("the compactions are still being read", timeout=2)
            return
        here = row.seq if row.seq is not None else row.hole[0] if row.hole else 0
        # A note that is no row of its own stands where the rows end that it was made of.
        places = {
            place: compaction
            for compaction in opened.audit.compactions
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
        elif self.opened is not None and row is not None:
            here = row.seq if row.seq is not None else row.hole[0] if row.hole else 0
            self._find(here + by, by > 0)

    @work(thread=True, group="find", exclusive=True, exit_on_error=False)
    def _find(self, start: int, forward: bool) -> None:
        opened = self.opened
        if opened is not None:
            study.find(
                self.post_message,
                opened.shelf.archive,
                opened.ref,
                opened.epoch,
                self._searched,
                start,
                forward,
                study.stopped,
            )

    @on(study.Found)
    def _found(self, event: study.Found) -> None:
        if self.opened is None or event.epoch != self.opened.epoch or event.text != self._searched:
            return
        if event.seq is None:
            self.notify(f"no more {event.text!r}", timeout=2, markup=False)
        elif self.timeline.rows is not None and self.timeline.rows.locate(event.seq) is None:
            self.opened.view, self.opened.only_runs = View.ALL, None
            self.show_rows(event.seq)
        else:
            self.timeline.go_to(event.seq)
