"""The terminal lent to a program of the user's own, such as a pager or an editor, for as long as that runs."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from textual.app import App, SuspendNotSupported

from sessionscope.tui.text.visible import visible


def lend(app: App[object], what: str, variables: Sequence[str], default: str, path: Path) -> int | None:
    """Runs what the first of these variables names, without a shell, on a file; its exit status.

    None where that cannot be done, which is said.
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
