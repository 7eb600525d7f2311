"""Getting from one row to another: links, compactions, seqs, hits, and the way back."""

from __future__ import annotations

from textual import on, work

from sessionscope.store import Certainty, Compaction, Link, Ref, StoreError, View
from sessionscope.tui.sessions.library import Shelf
from sessionscope.tui.workers import study

from .live import Live

TRAIL, DIGITS = 100, 40


class Travel(Live):
    """The part of the browser that moves the cursor to where something leads."""

    _searched: str = ""

    def remember(self) -> None:
        """Notes where the cursor is, for the way back."""
        if self.opened is not None:
            row = self.timeline.current
            here = (self.opened.shelf, self.opened.ref, self.opened.view, row.seq if row is not None else None)
            self.trail = [*self.trail[-TRAIL:], here]

    def action_back(self) -> None:
        if not self.trail:
            self.notify("nothing to go back to", timeout=2)
            return
        shelf, ref, view, seq = self.trail.pop()
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
        if self.opened is not None and (self.opened.view is not view or self.opened.fold is not None):
            self.opened.view, self.opened.fold = view, None
            self.show_rows(seq)
        self.set_pane("timeline")

    # -- links

    def action_follow(self) -> None:
        opened, row = self.opened, self.timeline.current
        if opened is not None and (self.focused is self.audit_pane or (row is not None and row.note is not None)):
            self._to_folded_rows()
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
        elif (fold := opened.folded_by(row.seq)) is not None:
            self._to_note(fold)
        else:
            self.notify("this row leads nowhere", timeout=2)

    def _to_note(self, fold: Compaction) -> None:
        """Goes to the note of a fold: its row, or where it stands in the audit."""
        if fold.note_seq is not None:
            self._to_row(fold.note_seq, "its note", fold.fold_is)
            return
        self.audit_pane.select(fold.number)
        self.set_pane("audit")
        self.subject = "compaction"
        self.inspect()

    def _to_folded_rows(self) -> None:
        opened, row = self.opened, self.timeline.current
        if opened is None:
            return
        fold = self.audit_pane.fold if self.focused is self.audit_pane else opened.fold_of(row.seq if row else None)
        if fold is None and row is not None and row.note is not None and row.note.from_seq is not None:
            self._to_row(row.note.from_seq, "where its span begins", Certainty.RECORDED)
        elif fold is None or not fold.fold_runs:
            self.notify("no row that this note folded is left", timeout=3)
        else:
            self.audit_pane.select(fold.number)
            self._to_row(fold.fold_runs[0][0], f"the rows it folded ({fold.rows or '?'})", fold.fold_is)

    def action_up(self) -> None:
        opened, row = self.opened, self.timeline.current
        if opened is None:
            return
        fold = opened.folded_by(row.seq) if row is not None else None
        if fold is not None:
            self._to_note(fold)
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
            opened.view, opened.fold = View.ALL, None
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
            place: fold
            for fold in opened.audit.compactions
            if (place := fold.note_seq if fold.note_seq is not None else fold.to_seq) is not None
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
            self.opened.view, self.opened.fold = View.ALL, None
            self.show_rows(event.seq)
        else:
            self.timeline.go_to(event.seq)
