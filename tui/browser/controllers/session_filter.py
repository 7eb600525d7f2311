"""The filter of the sessions: ids and titles match at once, previews in a worker."""

from __future__ import annotations

from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.panes import Panes
from sessionscope.tui.sessions.session_catalog import SessionCatalog
from sessionscope.tui.workers import read_workers

from .opening import Opening


class SessionFilter:
    """Filters the tree and the previews by words."""

    def __init__(self, host: Host, panes: Panes, catalog: SessionCatalog, opening: Opening) -> None:
        self._host, self._panes, self._catalog, self._opening = host, panes, catalog, opening
        self._epoch = 0
        """Tells answers for the present filter from those for earlier ones."""

    @property
    def text(self) -> str:
        """The words that sessions must hold."""
        return " ".join(self._catalog.words)

    def apply(self, text: str) -> None:
        """Show only the sessions that hold every word of a text, and go to the first of them."""
        self._catalog.filter(text)
        self._panes.show_sessions()
        self._host.titles_changed()
        self._go_to_first()
        self._match_previews()

    def accept(self) -> None:
        """Open the session under the cursor, or leave the user in the list if there is none."""
        node = self._panes.tree.node
        if node is not None and node >= 0:
            self._opening.open(node)
            self._panes.focus("timeline")
        else:
            self._panes.focus("previews" if self._panes.shows_previews else "sessions")

    def clear(self) -> bool:
        """Show all sessions. Return False if all were shown."""
        if not self._catalog.words:
            return False
        self.apply("")
        return True

    def sessions_changed(self) -> None:
        """Match the previews of a newer session table."""
        self._match_previews()

    def _go_to_first(self) -> None:
        """Put the cursor on the first session that itself matches: its ancestors are only shown as the way there."""
        first = self._panes.previews.first
        if self._catalog.words and first is not None:
            self._panes.tree.select(first)
            self._panes.previews.select(first)
            self._opening.open_soon(first)

    def _match_previews(self) -> None:
        self._epoch += 1
        if not self._catalog.words:
            return
        queries = [
            (
                opened_archive.archive,
                read_workers.PreviewQuery(
                    self._epoch,
                    opened_archive.index,
                    opened_archive.session_table,
                    self._catalog.order,
                    dict(opened_archive.previews),
                    self._catalog.words,
                ),
            )
            for opened_archive in self._catalog.opened_archives
        ]
        post = self._host.post_message

        def match() -> None:
            for archive, query in queries:
                read_workers.match_previews(post, archive, query, read_workers.stopped)

        self._host.start_worker("previews", match)

    def previews_matched(self, event: read_workers.PreviewsMatched) -> None:
        """Keep the previews that were read, and show what they match."""
        opened_archive = self._catalog.opened_archives[event.opened_archive]
        opened_archive.keep_previews(event.session_table, event.read)
        if event.epoch != self._epoch:
            return
        nothing_shown = not self._panes.previews.count
        self._catalog.show_preview_matches(opened_archive, event.matches)
        self._panes.show_sessions()
        self._host.titles_changed()
        if nothing_shown:
            self._go_to_first()
