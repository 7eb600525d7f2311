"""Conversion of the times that nanobot writes. Pure."""

from __future__ import annotations

from datetime import datetime, tzinfo
from math import floor


class Clock:
    """A reader of ISO times. Times without a zone are in `zone`, or in the machine's zone if that is None."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        self.zone = zone

    def ms(self, text: object) -> int | None:
        """Return the time in epoch milliseconds, or None if the value is not an ISO time."""
        if not isinstance(text, str):
            return None
        try:
            time = datetime.fromisoformat(text)
            if time.tzinfo is None and self.zone is not None:
                time = time.replace(tzinfo=self.zone)
            # timestamp() is a float, which may round the last millisecond down.
            return floor(time.timestamp()) * 1000 + time.microsecond // 1000
        except (ValueError, OverflowError, OSError):
            return None
