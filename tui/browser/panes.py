"""The panes of the main screen: which there are, which one has the focus, and which a small screen shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.geometry import Size
from textual.screen import Screen

from sessionscope.tui.sessions.session_catalog import SessionCatalog
from sessionscope.tui.widgets.audit_pane import AuditPane
from sessionscope.tui.widgets.bar import Bar, KeyBar
from sessionscope.tui.widgets.column import LeftBorder
from sessionscope.tui.widgets.inspector import Inspector
from sessionscope.tui.widgets.preview_list import PreviewList
from sessionscope.tui.widgets.prompt import Prompt
from sessionscope.tui.widgets.session_tree import SessionTree
from sessionscope.tui.widgets.timeline import TimelinePane

from .titles import Title

TITLES = {
    "sessions": "tree-title",
    "previews": "list-title",
    "timeline": "timeline-title",
    "audit": "audit-title",
    "inspector": "inspector-title",
}
"""The id of the title above each pane, in the order in which `tab` goes through the panes."""
NAMES = tuple(TITLES)
ON_FIRST_FRAME = ("sessions", "timeline")
"""The panes that the first frame holds."""
WIDTHS = [(0, "-narrow"), (110, "-normal"), (160, "-wide")]
"""The class of a screen from so many cells of width on."""
HEIGHTS = [(0, "-flat"), (12, "-low"), (20, "-high")]
"""The class of a screen from so many cells of height on."""


def classes_for(size: Size) -> str:
    """Return the classes of a screen of a size, so that nothing is styled twice before the first frame."""
    fitting = [
        max(point for point in points if point[0] <= length)[1]
        for points, length in ((WIDTHS, size.width), (HEIGHTS, size.height))
    ]
    return " ".join([*fitting, "-show-left"])


class Panes:
    """The widgets of the main screen."""

    def __init__(self, screen: Screen[Any], catalog: SessionCatalog, resized: Callable[[], None]) -> None:
        """`resized` is called once panes have another size, and with it their titles another room."""
        self._screen, self._resized = screen, resized
        self.tree = SessionTree(catalog, id="sessions")
        self.previews = PreviewList(catalog, id="previews")
        self.timeline = TimelinePane(id="timeline")
        self.compactions = AuditPane(id="audit")
        self.inspector = Inspector(id="inspector")
        self.prompt = Prompt(id="prompt")
        self.complete = False
        """Whether the panes that the first frame does not wait for are there."""

    def compose(self) -> ComposeResult:
        """Yield what the first frame holds: sessions and messages are what the user came to see."""
        yield Bar(id="title")
        with Horizontal(id="panes"):
            with LeftBorder(id="left"):
                yield Bar(id="tree-title", classes="pane-title")
                yield self.tree
            with LeftBorder(id="middle"):
                yield Bar(id="timeline-title", classes="pane-title")
                yield self.timeline
            yield LeftBorder(id="right")
        yield KeyBar(id="keys")

    async def mount_others(self) -> bool:
        """Mount what is missing after the first frame. Return False if that is not possible yet."""
        right = self._screen.query_one("#right")
        if not right.is_mounted or not right.is_attached:
            return False
        await self._screen.query_one("#left").mount(Bar(id="list-title", classes="pane-title"), self.previews)
        await self._screen.mount(self.prompt, before="#keys")
        await right.mount(
            Bar(id="audit-title", classes="pane-title"),
            self.compactions,
            Bar(id="inspector-title", classes="pane-title"),
            self.inspector,
        )
        self.complete = True
        self.previews.rebuild()
        return True

    # -- the focus

    @property
    def focused(self) -> str | None:
        """The name of the pane that has the focus."""
        widget = self._screen.focused
        return widget.id if widget is not None and widget.id in TITLES else None

    @property
    def narrow(self) -> bool:
        """Whether the side panes slide over the timeline."""
        return self._screen.has_class("-narrow")

    @property
    def shows_previews(self) -> bool:
        """Whether the previews are what a small screen shows at the left."""
        return self._screen.has_class("-show-previews")

    def focus(self, name: str) -> None:
        """Give the focus to a pane and, on a small screen, show it."""
        if not self.complete and name not in ON_FIRST_FRAME:
            # The user typed ahead of the first frame.
            self._screen.call_after_refresh(self.focus, name)
            return
        # At once, and first: a pane that is hidden while it has the focus takes the focus away later.
        self._screen.set_focus(self._screen.query_one(f"#{name}"))
        self.slide(name)

    def cycle(self, by: int) -> None:
        """Give the focus to the next pane, or with -1 to the previous one."""
        here = self.focused or "timeline"
        self.focus(NAMES[(NAMES.index(here) + by) % len(NAMES)])

    def slide(self, name: str) -> None:
        """On a narrow or low screen, show the column with a pane and hide the others."""
        if {"-narrow", "-low", "-flat"} & self._screen.classes:
            # A large screen shows everything, and restyling it all would cost the better part of a frame.
            self._screen.update_classes(
                {
                    "-show-left": name in ("sessions", "previews"),
                    "-show-right": name in ("audit", "inspector"),
                    "-show-audit": name == "audit",
                    "-show-previews": name == "previews",
                }
            )
        for pane, title in TITLES.items():
            self._screen.query(f"#{title}").set_class(pane == name, "-on")
        self._screen.call_after_refresh(self._resized)

    # -- what they show

    def show_sessions(self, keep: bool = True) -> None:
        """Show the tree and the previews as the catalog is now; `keep` keeps the cursors where they are."""
        self.tree.rebuild(keep)
        if self.complete:
            self.previews.rebuild(keep)

    def refresh_lists(self) -> None:
        """Paint the sessions again: their marks or their ages have changed."""
        self.tree.refresh()
        self.previews.refresh()

    def show_title(self, name: str, title: Title) -> None:
        """Show a title, unless its bar is not there yet or no longer."""
        try:
            self._screen.query_one(f"#{name}", Bar).show(*title)
        except NoMatches:
            return
