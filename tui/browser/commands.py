"""The command palette's way to a session: any word of its id or title."""

from __future__ import annotations

from functools import partial
from typing import Protocol, cast

from textual.command import Hit, Hits, Provider
from textual.content import Content

from sessionscope.tui.sessions.session_catalog import Key, SessionCatalog
from sessionscope.tui.text import session_lines
from sessionscope.tui.text.fitting import one_line

SHOWN = 50


class Opens(Protocol):
    """A screen that opens sessions."""

    catalog: SessionCatalog

    def open_key(self, key: Key) -> None: ...


class SessionCommands(Provider):
    """The first sessions whose id or title holds every word that is typed."""

    async def search(self, query: str) -> Hits:
        browser = cast(Opens, self.screen)
        catalog, words = browser.catalog, query.split()
        for opened_archive in catalog.opened_archives:
            positions = opened_archive.session_table.matching(words)[: SHOWN * 10]
            nodes = [
                opened_archive.node(at) for at in opened_archive.session_table.sorted(positions, catalog.order)[:SHOWN]
            ]
            catalog.load(nodes)
            for rank, node in enumerate(nodes):
                summary = catalog.summary(node)
                if summary is not None:
                    # Content, not str, and nothing of the session in the help: that would be read as markup.
                    title = Content.assemble(
                        f"Open {session_lines.title_of(summary)}  ", (one_line(summary.ref.id), "dim")
                    )
                    yield Hit(
                        1 - rank / SHOWN,
                        title,
                        partial(browser.open_key, catalog.key(node)),
                        text=title.plain,
                        help=f"{summary.message_count} messages",
                    )
