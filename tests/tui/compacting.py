"""What tests of compacting have in common: the dialog, what it shows, and a way to hold its work up."""

from __future__ import annotations

import shlex
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionscope.tui.config import Config
from sessionscope.tui.dialogs.compact import CompactDialog

from .damaged_sample import IMPORTER
from .harness import Hands

NOTE = "They moved it."


def active(path: Path, id_: str = IMPORTER) -> list[int]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return [
            seq
            for (seq,) in conn.execute(
                "SELECT seq FROM messages WHERE session_id = ? AND state = 'active' ORDER BY seq", (id_,)
            )
        ]


def python(program: str) -> Config:
    return Config(summarizer=shlex.join([sys.executable, "-c", program]))


def sheet(hands: Hands) -> CompactDialog:
    """The dialog, which is on the screen."""
    found = hands.app.screen
    assert isinstance(found, CompactDialog), hands.notes
    return found


def leaving(hands: Hands) -> list[int]:
    cut = sheet(hands).cut
    return [] if cut is None else [row.seq for row in cut.leaves]


async def write(hands: Hands, text: str) -> None:
    """Goes from the rows to the note, and adds to it in one go."""
    await hands.press("enter")
    await hands.paste(text)


async def compact(hands: Hands, note: str = NOTE) -> None:
    """Compacts what the dialog shows."""
    await write(hands, note)
    await hands.press("ctrl+s")
    assert hands.app.screen is hands.browser, sheet(hands)._says


class Gate:
    """Holds up every call of a function, before it does its work or `after`, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool = False) -> None:
        self._reached, self._free = threading.Event(), threading.Event()
        real: Callable[..., Any] = getattr(owner, name)

        def held(*given: Any, **named: Any) -> Any:
            found = real(*given, **named) if after else None
            self._reached.set()
            assert self._free.wait(20), f"{name} was never let go"
            return found if after else real(*given, **named)

        monkeypatch.setattr(owner, name, held)

    async def reached(self, hands: Hands) -> None:
        """Waits until somebody stands before it."""
        await hands.until(self._reached.is_set, "the held-up call")

    def release(self) -> None:
        """Lets everybody through, and waits for nothing."""
        self._free.set()

    async def open(self, hands: Hands) -> None:
        self.release()
        await hands.settle()
