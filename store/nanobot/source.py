"""The state that all readers of one folder of session files share."""

from __future__ import annotations

from .format.clock import Clock
from .format.discovery import Folder
from .format.lines import FileOutline

MAX_OUTLINES = 8
"""How many outlines are kept."""


class NanobotSource:
    """A folder, the clock for its times, and the latest outlines by file name.

    The outlines are shared between threads: a worker makes them, and the screen reads by them.
    """

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.outlines: dict[str, FileOutline] = {}

    def keep(self, name: str, outline: FileOutline) -> None:
        """Keep an outline of a file. Of all outlines, only the latest MAX_OUTLINES are kept."""
        outlines = {other: kept for other, kept in self.outlines.items() if other != name}
        outlines[name] = outline
        # The dict is replaced, not changed, since other threads may be reading it.
        self.outlines = dict(list(outlines.items())[-MAX_OUTLINES:])
