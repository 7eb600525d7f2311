"""Screens that close only once, however often a key asks, and that name unsaved work before the app quits."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import Screen

Result = TypeVar("Result")


class GuardedDismiss(Screen[Result]):
    """A screen that ignores a second request to close."""

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        # A key that was pressed twice comes twice. The second would close the screen below as well.
        return super().dismiss(result) if self.is_active else AwaitComplete(asyncio.sleep(0))

    def unfinished(self) -> str | None:
        """Return what would be lost if the app ended now, in a few words, or None."""
        return None
