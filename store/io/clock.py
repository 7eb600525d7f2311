"""The clock, in the unit in which archives store times."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the time in epoch milliseconds, as power-loop stores it."""
    return time.time_ns() // 1_000_000
