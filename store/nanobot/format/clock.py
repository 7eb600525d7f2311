"""Times as nanobot writes them. Pure."""

from __future__ import annotations

from datetime import datetime, tzinfo
from math import floor


class Clock:
    """Reads ISO times. One without a zone is in `zone`, or in the machine's zone if that is None."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        self.zone = zone

    def ms(self, text: object) -> int | None:
        """Return epoch milliseconds, None if the value is no such time."""
        if not isinstance(text, str):
            return None
        try:
            found = datetime.fromisoformat(text)
            if found.tzinfo is None and self.zone is not None:
                found = found.replace(tzinfo=self.zone)
            # Computed from whole seconds: the float of the sum may be one millisecond off.
            return floor(found.timestamp()) * 1000 + found.microsecond // 1000
        except (ValueError, OverflowError, OSError):
            return None
