"""The steps of an action: each call of the system or of SQLite that changes something, handed to a test."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

CALLS = ("chmod", "fsync", "mkdir", "open", "rename", "replace", "rmdir", "unlink", "utime")
EXECUTE = "execute"
Call = Callable[[], Any]


@contextmanager
def stepping(step: Callable[[str, Call], Any]) -> Iterator[None]:
    """Hand each call to a function, which gets its name and the call itself, and returns what that returns.

    Nobody cuts the power here, and a disk takes its time: nothing is synced.
    """

    def wrapped(name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def instead(*args: Any, **options: Any) -> Any:
            return step(name, (lambda: None) if name == "fsync" else (lambda: call(*args, **options)))

        return instead

    class Connection(sqlite3.Connection):
        def execute(self, *args: Any) -> sqlite3.Cursor:
            cursor: sqlite3.Cursor = step(EXECUTE, lambda: super(Connection, self).execute(*args))
            return cursor

    connect = sqlite3.connect
    with ExitStack() as patches:
        for name in CALLS:
            patches.enter_context(patch.object(os, name, wrapped(name)))
        patches.enter_context(
            patch.object(sqlite3, "connect", lambda *args, **options: connect(*args, **options, factory=Connection))
        )
        yield
