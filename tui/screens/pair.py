"""A screen of two panes: a list, and beside or below it the details of the row under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal

from sessionscope.tui.text.styles import StyledScreen
from sessionscope.tui.widgets.bar import Bar, KeyBar, Piece
from sessionscope.tui.widgets.column import LeftBorder
from sessionscope.tui.widgets.inspector import Inspector
from sessionscope.tui.widgets.virtual_list import VirtualList

Result = TypeVar("Result")


class Pair(StyledScreen[Result]):
    """Each such screen says what the panes show and which keys there are."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (10, "-low")]

    def __init__(self, list_pane: VirtualList) -> None:
        super().__init__()
        self.list_pane = list_pane
        self.detail = Inspector(id="pair-detail")

    def compose(self) -> ComposeResult:
        yield Bar(id="pair-title")
        with Horizontal(id="pair-panes"):
            with LeftBorder(id="pair-left"):
                yield Bar(id="pair-left-title", classes="pane-title -on")
                yield self.list_pane
            with LeftBorder(id="pair-right"):
                yield Bar(id="pair-right-title", classes="pane-title")
                yield self.detail
        yield KeyBar(id="pair-keys")

    def on_mount(self) -> None:
        # A screen that was closed while it opened has nothing left to show.
        if self.list_pane.is_attached:
            self.list_pane.focus()
            self.begin()

    def begin(self) -> None:
        """Show what is known at first, and begin to read the rest."""

    def follow(self) -> None:
        """Show what belongs to the row under the cursor."""

    @on(VirtualList.Highlighted)
    def _highlighted(self) -> None:
        self.follow()

    def entitle(self, left: Sequence[Piece], right: str, style: str, listed: Sequence[Piece], beside: str) -> None:
        """Show the titles of the screen, of the list with the position of its cursor, and of the details."""
        here = self.list_pane.cursor + 1 if self.list_pane.count else 0
        self.query_one("#pair-title", Bar).show(left, [(f"{right} " if right else "", style)])
        self.query_one("#pair-left-title", Bar).show(listed, [(f"{here}/{self.list_pane.count} ", "dim")])
        self.query_one("#pair-right-title", Bar).show([(f" {beside}", "strong")])

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        for pane, title in ((self.list_pane, "#pair-left-title"), (self.detail, "#pair-right-title")):
            self.query_one(title).set_class(event.widget is pane, "-on")

    def action_other_pane(self) -> None:
        (self.detail if self.list_pane.has_focus else self.list_pane).focus()

    async def action_help(self) -> None:
        from sessionscope.tui.dialogs.help import Help

        if self.is_active:
            await self.app.push_screen(Help(self.list_pane.HELP, self))

    def action_leave(self) -> None:
        self.dismiss(None)
