"""Finding a text in the open session."""

from __future__ import annotations

from sessionscope.tui.browser.host import Host
from sessionscope.tui.workers import read_workers

from .navigation import Navigation
from .opening import Opening


class Find:
    """Finds the next and the previous message that holds a text, in a worker."""

    def __init__(self, host: Host, opening: Opening, navigation: Navigation) -> None:
        self._host, self._opening, self._navigation = host, opening, navigation
        self._text = ""

    def begin(self, text: str) -> None:
        """Find a text from the cursor on."""
        if text:
            self._text = text
            self._navigation.remember()
            self.go_on(1)

    def go_on(self, by: int) -> None:
        """Find the text again, after the cursor or with -1 before it."""
        session, here = self._opening.current, self._navigation.seq
        if not self._text:
            self._host.notices.say("/ looks for a text first", seconds=2)
        elif session is not None and here is not None:
            archive, ref, epoch = session.opened_archive.archive, session.ref, session.epoch
            post, text = self._host.post_message, self._text
            self._host.start_worker(
                "find",
                lambda: read_workers.find_text(
                    post, archive, ref, epoch, text, here + by, by > 0, read_workers.stopped
                ),
            )

    def text_found(self, event: read_workers.TextFound) -> None:
        """Go to the message, unless another session or text was asked for meanwhile."""
        session = self._opening.current
        if session is None or event.epoch != session.epoch or event.text != self._text:
            return
        if event.seq is None:
            self._host.notices.say(f"no more {event.text!r}", seconds=2)
        else:
            self._opening.show_seq(event.seq)
