"""Times as nanobot writes them. Pure."""

from __future__ import annotations

from datetime import datetime, tzinfo
from math import floor


class Clock:
    """Reads ISO times; one without a zone is in `zone`, or in the machine's where that is None."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        self.zone = zone

    def ms(self, text: object) -> int | None:
        """Epoch milliseconds, None where the value is no such time."""
        if not isinstance(text, str):
            return None
        try:
            found = datetime.fromisoformat(text)
            if found.tzinfo is None and self.zone is not None:
                found = found.replace(tzinfo=self.zone)
            # Of a float alone the last millisecond would be a matter of luck.
            return floor(found.timestamp()) * 1000 + found.microsecond // 1000
        except (ValueError, OverflowError, OSError):
            return None
