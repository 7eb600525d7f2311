"""A process that changes copies of an archive, each killed one step later than the one before.

    python -PB repair_worker.py ARCHIVE FOLDER [close SESSION | compact SESSION FIRST LAST | uncompact SESSION NUMBER]

Without a verb it repairs. Copies are FOLDER/1, ...; prints which step was the last.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessionscope.store import Action, Close, Compact, Ref, Repair, Uncompact, open_archive

STEPS, LONGEST_S = 200, 60
_CALLS = ("fsync", "replace", "open", "unlink", "chmod", "mkdir", "utime")


def _deadly(at: int) -> Callable[..., None]:
    def step(*_: Any) -> None:
        nonlocal at
        at -= 1
        if at == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return step


def _watched(name: str, step: Callable[..., None]) -> None:
    call = getattr(os, name)

    def before(*args: Any, **options: Any) -> Any:
        step()
        # Nobody cuts the power here, and a disk takes its time.
        return None if name == "fsync" else call(*args, **options)

    setattr(os, name, before)


def _wanted(verb: str = "", session: str = "", *numbers: str) -> Action:
    ref, (first, last) = Ref("", session), map(int, (*numbers, "0", "0")[:2])
    return {
        "close": Close((ref,), anyway=True),
        "compact": Compact(ref, first, last, "so far"),
        "uncompact": Uncompact(ref, first),
    }.get(verb, Repair())


def _do(path: Path, at: int, action: Action) -> None:
    (archive,) = open_archive(path)
    actions = archive.actions
    assert actions is not None
    plan = actions.plan(action)
    step, connect = _deadly(at), sqlite3.connect

    def connecting(*args: Any, **options: Any) -> sqlite3.Connection:
        conn = connect(*args, **options)
        conn.execute("PRAGMA synchronous=OFF")
        conn.set_trace_callback(step)
        return conn

    sqlite3.connect = connecting  # type: ignore[assignment]
    for name in _CALLS:
        _watched(name, step)
    actions.apply(plan, offline=True)


def _copied(source: Path, folder: Path, at: int) -> Path:
    (folder / f"{at}").mkdir()
    path = folder / f"{at}" / source.name
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, path)
    return path


def main(source: Path, folder: Path, action: Action) -> None:
    # What is imported on the way is there once for all.
    (archive,) = open_archive(_copied(source, folder, 0))
    actions = archive.actions
    assert actions is not None
    actions.apply(actions.plan(action), offline=True)
    for at in range(1, STEPS):
        path = _copied(source, folder, at)
        pid = os.fork()
        if not pid:
            signal.alarm(LONGEST_S)
            _do(path, at, action)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        if status == 0:
            print(json.dumps(at))
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), _wanted(*sys.argv[3:]))
