"""A folder of session files, shared by readers and actions."""

from __future__ import annotations

from .format.clock import Clock
from .format.discovery import Folder
from .format.lines import FileOutline

OUTLINES = 8
"""How many outlines of files are kept."""


class NanobotSource:
    """A folder, the time zone of its times, and the newest outlines by file.

    The outlines are shared between threads: a worker makes those that the screen reads by.
    """

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.outlines: dict[str, FileOutline] = {}

    def keep(self, name: str, outline: FileOutline) -> None:
        """Keep an outline for the next read of its file. Only the newest few are kept."""
        others = [(known, one) for known, one in self.outlines.items() if known != name]
        self.outlines = dict([*others, (name, outline)][-OUTLINES:])
