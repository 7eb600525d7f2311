"""How a verb that writes may end without a report: interrupted, or done but not printed."""

from __future__ import annotations


class Interrupted(Exception):
    """A signal ended an action before it changed anything. `status` is the exit status for that."""

    def __init__(self, number: int) -> None:
        super().__init__("Interrupted; nothing was changed.")
        self.status = 128 + number


class NotPrinted(Exception):
    """Something was changed, and that could not be printed. The text says so, with `undo` as a command."""

    def __init__(self, error: Exception, undo: str | None) -> None:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        more = f" To undo it: {undo}" if undo else ""
        super().__init__(f"The change was made, but its report could not be written ({why}).{more}")
