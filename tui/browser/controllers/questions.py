"""What the user types into the prompt: a filter, a text to find, a message number, limits of the context."""

from __future__ import annotations

from sessionscope.store import Limits
from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.panes import Panes

from .find import Find
from .navigation import NUMBER_DIGITS, Navigation
from .opening import Opening
from .session_filter import SessionFilter

LISTS = ("sessions", "previews")
"""The panes in which `/` filters instead of finding a text."""


class Questions:
    """Asks with the prompt, and passes the answer on."""

    def __init__(
        self,
        host: Host,
        panes: Panes,
        opening: Opening,
        navigation: Navigation,
        find: Find,
        session_filter: SessionFilter,
    ) -> None:
        self._host, self._panes, self._opening = host, panes, opening
        self._navigation, self._find, self._session_filter = navigation, find, session_filter

    async def ask_here(self) -> None:
        """Ask for a filter in a list of sessions, and for a text to find elsewhere."""
        await self.ask("filter" if self._panes.focused in LISTS else "find")

    async def ask(self, question: str) -> None:
        """Ask one of the prompt's questions."""
        filters = question == "filter"
        if filters and self._panes.focused != "previews":
            self._panes.focus("sessions")
        await self._panes.prompt.ask(question, self._session_filter.text if filters else "")

    def changed(self, text: str) -> None:
        """Filter while the user types."""
        if self._panes.prompt.what == "filter" and self._panes.prompt.display:
            self._session_filter.apply(text)

    def moved(self, by: int) -> None:
        """Move the cursor of the list behind the prompt."""
        self._panes.tree.action_move(by)

    def dismissed(self, question: str) -> None:
        """Give the focus back, and show all sessions again."""
        if question == "filter":
            self._session_filter.apply("")
        self._panes.focus("sessions" if question == "filter" else "timeline")

    def answered(self, question: str, text: str) -> None:
        """Do what was asked for."""
        if question == "filter":
            self._session_filter.accept()
            return
        self._panes.focus("timeline")
        if question == "seq":
            self._navigation.go_to_typed(text)
        elif question == "find":
            self._find.begin(text)
        elif question == "limits":
            self._limit_context(text)

    def _limit_context(self, text: str) -> None:
        """Set how many messages, and maybe tokens, the context view may hold; nothing means the release's own."""
        numbers = text.split()
        if len(numbers) > 2 or not all(number.isdecimal() and len(number) <= NUMBER_DIGITS for number in numbers):
            self._host.notices.say(
                "limits are a number of messages and maybe one of tokens; 0 is none", level="warning", seconds=4
            )
        else:
            self._opening.limit_context(Limits(*map(int, numbers)) if numbers else None)
