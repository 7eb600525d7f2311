"""Dialogs that show what an action would change, and ask once."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from sessionscope.store import Plan
from sessionscope.tui.text.describe import plan_blocks
from sessionscope.tui.text.styles import StyledScreen
from sessionscope.tui.widgets.bar import KeyBar
from sessionscope.tui.widgets.inspector import Inspector


class PlanDialog(StyledScreen[bool], ModalScreen[bool]):
    """The plan as a diff. Returns True if it is to be applied."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Do it", id="plan.take"),
        Binding("escape", "leave", "Leave all as it is", key_display="esc", id="plan.leave"),
        Binding("q", "leave", "Leave all as it is", show=False, id="plan.quit"),
    ]

    def __init__(self, plan: Plan, verb: str) -> None:
        super().__init__()
        self._plan, self._verb = plan, verb

    def compose(self) -> ComposeResult:
        with Vertical(id="sheet"):
            self._body = Inspector(id="plan")
            yield self._body
            yield KeyBar(id="plan-keys")

    def on_mount(self) -> None:
        # A dialog that was closed while it opened has no screen to show itself on.
        if self._body.is_attached:
            self._body.show(plan_blocks(self._plan, self._verb))
            self._body.focus()

    def action_take(self) -> None:
        self.dismiss(True)

    def action_leave(self) -> None:
        self.dismiss(False)


class CloseDialog(PlanDialog, inherit_bindings=False):
    """The same for closing. The key that asked for it confirms."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "take", "Close", id="close.take"),
        Binding("escape", "leave", "Keep all", key_display="esc", id="close.leave"),
        Binding("q", "leave", "Keep all", show=False, id="close.quit"),
        Binding("enter", "wait", show=False, id="close.wait"),
    ]

    def action_wait(self) -> None:
        """Do nothing: enter opens things everywhere else, so here it must not confirm."""
