"""Notices: short texts over the screen that say what happened."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, Protocol

from sessionscope.tui.text.fitting import one_line

SILENCE_S = 30.0
"""Seconds for which an error that was shown is not shown again."""
Level = Literal["information", "warning", "error"]


class Notify(Protocol):
    """Textual's `notify`."""

    def __call__(self, message: str, *, title: str, severity: Level, timeout: float | None, markup: bool) -> None: ...


class Notices:
    """Shows notices. Their text is never markup, and control characters in it are shown as text."""

    def __init__(self, notify: Notify, now: Callable[[], float] = time.monotonic) -> None:
        self._notify, self._now = notify, now
        self._silent_until: dict[str, float] = {}
        """Until when a text is not repeated, in seconds of the monotonic clock."""

    def say(self, text: str, *, level: Level = "information", seconds: float | None = None, title: str = "") -> None:
        """Show a text for some seconds, or as long as the app shows notices."""
        self._notify(one_line(text), title=one_line(title), severity=level, timeout=seconds, markup=False)

    def failed(self, text: str) -> None:
        """Show what went wrong, but not again and again while it stays so."""
        if self.is_new(text):
            self.say(text, level="error")

    def is_new(self, text: str) -> bool:
        """Return whether a text was not shown lately, and count it as shown from now on."""
        now = self._now()
        if now < self._silent_until.get(text, 0.0):
            return False
        self._silent_until[text] = now + SILENCE_S
        return True
