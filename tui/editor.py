"""A text in the user's own editor, and back."""

from __future__ import annotations

import os
import shlex
import subprocess

from textual.app import App, SuspendNotSupported

from store import PrivateFolder

from .visible import visible

NAME, LONGEST = "note.md", 1_000_000


def edited(app: App[object], text: str) -> str | None:
    """The text as the user left it in $VISUAL or $EDITOR, `vi` without either.

    None where it is as it was or could not be edited, which is said.
    """
    folder = PrivateFolder()
    try:
        command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
        path = folder.path / NAME
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        with app.suspend():
            status = subprocess.run([*command, str(path)], check=False).returncode
        if status:
            app.notify(f"the editor ended with status {status}; the note is as it was", severity="warning")
            return None
        if path.stat().st_size > LONGEST:
            raise ValueError("that is more than a note may hold")
        found = path.read_text(encoding="utf-8").removesuffix("\n")
        return found if found != text else None
    except (OSError, ValueError) as error:
        app.notify(f"the editor could not be used: {visible(str(error))}", severity="error", markup=False)
    except SuspendNotSupported:
        app.notify("this terminal cannot be lent to an editor", severity="error")
    finally:
        folder.close()
    return None
