"""Screens that are left once, however often a key asks for it, and not before they say what that would lose."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import Screen

Result = TypeVar("Result")


class Leaving(Screen[Result]):
    """A screen that keys may close faster than it goes away."""

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        # A key that was typed twice comes twice, and the second would take along what is below.
        return super().dismiss(result) if self.is_active else AwaitComplete(asyncio.sleep(0))

    def unfinished(self) -> str | None:
        """What would be lost if the app ended now, in a few words; None where nothing would."""
        return None
