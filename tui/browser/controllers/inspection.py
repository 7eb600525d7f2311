"""What the inspector shows: the message under the cursor, a compaction, or the session."""

from __future__ import annotations

from typing import Literal

from textual.timer import Timer

from sessionscope.store import StoreError
from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.panes import Panes
from sessionscope.tui.external import clipboard, pager
from sessionscope.tui.sessions.current_session import CurrentSession
from sessionscope.tui.text import describe
from sessionscope.tui.text.fitting import one_line

from .opening import REST_S, Opening

Subject = Literal["message", "compaction", "session"]


class Inspection:
    """Chooses what the inspector shows and reads it: one bounded read for each change."""

    def __init__(self, host: Host, panes: Panes, opening: Opening) -> None:
        self._host, self._panes, self._opening = host, panes, opening
        self.subject: Subject = "message"
        self.mode = describe.MODES[0]
        self._piece = 0
        """Which piece of a long message is shown, from 0."""
        self._message_bytes = 0
        self._timer: Timer | None = None

    @property
    def shown_subject(self) -> str:
        """What the inspector really shows: some subjects need something to be there."""
        if not self._panes.timeline.count:
            return "session"
        if self.subject == "compaction" and self._panes.compactions.compaction is None:
            return "summary" if self._panes.compactions.entry is not None else "message"
        return self.subject

    # -- choosing

    def look_at(self, subject: Subject) -> None:
        """Show something else, at once."""
        self.subject = subject
        self.show()

    def look_soon_at(self, subject: Subject) -> None:
        """Show something else once the keys rest."""
        self.subject = subject
        self._show_soon()

    def session_opened(self) -> None:
        """Show the messages of the session that was opened."""
        self.subject = "message"

    def message_highlighted(self) -> None:
        """Follow the cursor of the timeline.

        What the user asked for stays while its pane has the focus, though the messages change below it.
        """
        self._piece = 0
        focused = self._panes.focused
        stays = (self.subject == "session" and focused != "timeline") or (
            self.subject == "compaction" and focused == "audit"
        )
        if not stays:
            self.look_soon_at("message")
        self._host.titles_changed()

    def timeline_focused(self) -> None:
        """Show the message again after a compaction was looked at."""
        if self.subject == "compaction":
            self.look_soon_at("message")

    def toggle_session(self) -> None:
        """Show the session as a whole, or the message again."""
        self.look_at("message" if self.subject == "session" else "session")
        if self.subject == "session" and self._panes.narrow:
            self._panes.focus("inspector")

    def next_mode(self) -> None:
        """Show text, Markdown or the raw fields, in turn."""
        self.mode = describe.MODES[(describe.MODES.index(self.mode) + 1) % len(describe.MODES)]
        self.show()

    def turn_piece(self, by: int) -> None:
        """Show the next piece of a long message, or with -1 the previous one."""
        if 0 <= (self._piece + by) * describe.PIECE < self._message_bytes:
            self._piece += by
            self.show()

    # -- showing

    def _show_soon(self) -> None:
        self._stop_timer()
        self._timer = self._host.after_seconds(REST_S, self.show)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()

    def show(self, keep: bool = False) -> None:
        """Show what is chosen; `keep` keeps the place in it."""
        self._stop_timer()
        session = self._opening.current
        if not self._panes.complete or session is None:
            return
        try:
            blocks = self._blocks(session)
        except StoreError as error:
            # Here, beside what it is about, rather than as a notice.
            self._panes.inspector.show([describe.Block(((one_line(str(error)), "damage"),))])
        else:
            self._panes.inspector.show(blocks, keep)
        self._host.titles_changed()

    def _blocks(self, session: CurrentSession) -> list[describe.Block]:
        if self.subject == "session" or not self._panes.timeline.count:
            return describe.session_blocks(session.detail, session.usage) if session.detail else []
        if self.subject == "compaction":
            blocks = self._compaction_blocks(session)
            if blocks is not None:
                return blocks
        return self._message_blocks(session)

    def _compaction_blocks(self, session: CurrentSession) -> list[describe.Block] | None:
        """Return the compaction under the cursor with its note, None if the cursor is on none."""
        pane = self._panes.compactions
        if (compaction := pane.compaction) is not None:
            blocks = describe.compaction_blocks(compaction)
            if compaction.note is not None:
                blocks += describe.note_blocks(compaction.note, self.mode)
            elif compaction.note_row is not None:
                note = session.opened_archive.reader.message(session.ref, compaction.note_row)
                blocks += describe.message_blocks(note, self.mode)[1:]
            return blocks
        if (entry := pane.entry) is not None:
            return describe.archived_blocks(entry, pane.audit.source, self.mode)
        return None

    def _message_blocks(self, session: CurrentSession) -> list[describe.Block]:
        row = self._panes.timeline.current
        if row is None or row.row is None:
            words = f"rows {row.hole[0]} to {row.hole[1]} are gone from the file" if row and row.hole else ""
            return [describe.Block(((words, "hole"),))]
        start = self._piece * describe.PIECE
        message = session.opened_archive.reader.message(session.ref, row.row, start, start + describe.PIECE)
        self._message_bytes = message.size
        return describe.message_blocks(message, self.mode, session.compacted_by(row.seq))

    # -- taking it elsewhere

    def open_pager(self) -> None:
        """Show the whole message in the user's pager."""
        session, row = self._opening.current, self._panes.timeline.current
        if session is not None and row is not None and row.row is not None:
            reader, ref, row_id = session.opened_archive.reader, session.ref, row.row
            self._host.run_outside(lambda app: pager.show(app, reader, ref, row_id))

    def copy_message(self) -> None:
        """Copy the whole message. Raises StoreError."""
        session, row = self._opening.current, self._panes.timeline.current
        if session is not None and row is not None and row.row is not None:
            text = pager.text_of(session.opened_archive.reader, session.ref, row.row)
            self._host.run_outside(lambda app: clipboard.copy(app, text, f"message {row.seq}"))

    def copy_session_id(self) -> None:
        """Copy the id of the open session."""
        session = self._opening.current
        if session is not None:
            self._host.run_outside(lambda app: clipboard.copy(app, session.ref.id, "the session's id"))
