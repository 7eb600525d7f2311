"""Running a program of the user, such as a pager or an editor, in the terminal while the app is suspended."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from textual.app import App, SuspendNotSupported

from sessionscope.tui.text.visible import visible


def run_program(app: App[object], what: str, variables: Sequence[str], default: str, path: Path) -> int | None:
    """Run the program that the first set variable names on a file, without a shell, and return its exit status.

    Return None if it could not run; then the user is notified.
    """
    try:
        command = shlex.split(next(filter(None, map(os.environ.get, variables)), default))
        with app.suspend():
            return subprocess.run([*command, str(path)], check=False).returncode
    except SuspendNotSupported:
        app.notify(f"this terminal cannot be lent to {what}", severity="error")
    except (OSError, ValueError) as error:
        app.notify(f"{what} could not be used: {visible(str(error))}", severity="error", markup=False)
    return None
