"""The command palette's way to a session: any word of its id or title."""

from __future__ import annotations

from functools import partial
from typing import Protocol, cast

from textual.command import Hit, Hits, Provider
from textual.content import Content

from sessionscope.tui.sessions.library import Key, Library
from sessionscope.tui.text import render

SHOWN = 50


class Opens(Protocol):
    """A screen that opens sessions."""

    library: Library

    def open_key(self, key: Key) -> None: ...


class SessionCommands(Provider):
    """The first sessions whose id or title holds every word that is typed."""

    async def search(self, query: str) -> Hits:
        browser = cast(Opens, self.screen)
        library, words = browser.library, query.split()
        for shelf in library.shelves:
            found = shelf.session_table.matching(words)[: SHOWN * 10]
            nodes = [shelf.node(at) for at in shelf.session_table.sorted(found, library.order)[:SHOWN]]
            library.load(nodes)
            for place, node in enumerate(nodes):
                summary = library.summary(node)
                if summary is not None:
                    # Content, not str, and nothing of the session in the help: that would be read as markup.
                    title = Content.assemble(
                        f"Open {render.title_of(summary)}  ", (render.one_line(summary.ref.id), "dim")
                    )
                    yield Hit(
                        1 - place / SHOWN,
                        title,
                        partial(browser.open_key, library.key(node)),
                        text=title.plain,
                        help=f"{summary.message_count} messages",
                    )
