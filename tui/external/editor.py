"""Editing a text in the user's own editor. What was written there is never lost."""

from __future__ import annotations

from textual.app import App

from sessionscope.store import NOTE_BYTES, PrivateFolder
from sessionscope.tui.text.visible import visible

from .external_program import run_program
from .save_note import save_note


def edited(app: App[object], text: str) -> str | None:
    """Return the text as the user left it in $VISUAL or $EDITOR, or `vi` if neither is set.

    None if it is unchanged or cannot be used. In that case the user is notified, and what the editor left is saved in a
    file.
    """
    folder = PrivateFolder()
    try:
        path = folder.path / "note.md"
        before = text.encode("utf-8", "backslashreplace")
        path.write_bytes(before)
        status = run_program(app, "the editor", ("VISUAL", "EDITOR"), "vi", path)
        after = path.read_bytes()
        if after == before:
            if status:
                app.notify(f"the editor ended with status {status}; the note is as it was", severity="warning")
            return None
        why = f"the editor ended with status {status}" if status else _trouble(after)
        if why:
            app.notify(
                f"{why}; the note is as it was, what the editor left is kept in {save_note(after)}",
                severity="warning",
                timeout=20,
                markup=False,
            )
            return None
        return after.decode().removesuffix("\n")
    except OSError as error:
        app.notify(f"the editor could not be used: {visible(str(error))}", severity="error", markup=False)
        return None
    finally:
        folder.close()


def _trouble(data: bytes) -> str:
    """Return why this cannot be a note, "" if it can."""
    if len(data) > NOTE_BYTES:
        return "that is more than a note may hold"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "that is no text in UTF-8"
    if b"\0" in data:
        return "a note holds no NUL characters"
    return ""
