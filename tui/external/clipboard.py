"""Copying to the terminal's clipboard, and to a file for terminals that have none."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path
from textual.app import App

from sessionscope.store import write_private
from sessionscope.tui.text.visible import visible

OSC52_BYTES = 74_994
"""How many bytes most terminals take in one OSC 52 sequence, before base64."""


def place() -> Path:
    """Return the path of the file that a copy is also written to."""
    return user_cache_path("sessionscope") / "copied.txt"


def copy(app: App[object], text: str, what: str) -> None:
    """Copy a text and notify where it went. The text itself is never shown."""
    data = text.encode("utf-8", "backslashreplace")
    where = []
    if len(data) <= OSC52_BYTES:
        app.copy_to_clipboard(data.decode())
        where.append("the terminal's clipboard")
    try:
        write_private(place(), data)
        where.append(str(place()))
    except OSError as error:
        app.notify(visible(f"No copy on disk: {error.strerror}."), severity="warning", markup=False)
    if where:
        more = "" if len(data) <= OSC52_BYTES else ", as it is too long for a terminal's clipboard"
        app.notify(visible(f"Copied {what}, {len(data):,} bytes, to {' and to '.join(where)}{more}."), markup=False)
