"""A folder of session files, as readers and actions share it."""

from __future__ import annotations

from .format.clock import Clock
from .format.discovery import Folder
from .format.lines import FileOutline

OUTLINES = 8
"""How many outlines of files are kept."""


class NanobotSource:
    """A folder, the time zone of its times, and the outlines that were made last, by file.

    The outlines are shared: a worker makes those that the screen reads by.
    """

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.outlines: dict[str, FileOutline] = {}

    def keep(self, name: str, outline: FileOutline) -> None:
        """Keeps an outline for the next question about its file, and just the newest few of all."""
        others = [(known, one) for known, one in self.outlines.items() if known != name]
        self.outlines = dict([*others, (name, outline)][-OUTLINES:])
