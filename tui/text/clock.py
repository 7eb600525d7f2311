"""Times and sizes as people read them."""

from __future__ import annotations

from datetime import datetime

from sessionscope.store import now_ms


def ago(then: int | None) -> str:
    """Return how long ago a time was, in about three characters: 5s, 12m, 3h, 4d, 7w, 2y."""
    if not then:
        return ""
    seconds = max(0, now_ms() - then) // 1000
    for size, unit in ((31_536_000, "y"), (604_800, "w"), (86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size * (2 if unit == "w" else 1):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def moment(then: int | None) -> str:
    """Return a point in time with its zone, which is the machine's."""
    if then is None:
        return "unknown"
    try:
        return datetime.fromtimestamp(then / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    except (OverflowError, OSError, ValueError):
        return f"{then} (no possible time)"


def human(number: int | None) -> str:
    """Return a size or token figure in at most five characters: 840, 1.2k, 34k, 5.6M."""
    if number is None:
        return "?"
    value, units = float(number), ["", "k", "M", "G"]
    while abs(value) >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f}{units[0]}" if not units[0] or abs(value) >= 9.95 else f"{value:.1f}{units[0]}"
