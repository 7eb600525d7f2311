"""A process that repairs copies of an archive, or closes a session, each killed one step later than the one before.

    python -IB repair_worker.py ARCHIVE FOLDER [SESSION]        copies to FOLDER/1, ...; prints which step was the last
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

sys.path.insert(0, str(Path(__file__).parents[2]))

from store import Close, Ref, Repair, open_archive

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


def _do(path: Path, at: int, session: str) -> None:
    (archive,) = open_archive(path)
    actions = archive.actions
    assert actions is not None
    plan = actions.plan(Close((Ref("", session),), anyway=True) if session else Repair())
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


def main(source: Path, folder: Path, session: str) -> None:
    # What is imported on the way is there once for all.
    (archive,) = open_archive(_copied(source, folder, 0))
    actions = archive.actions
    assert actions is not None
    actions.apply(actions.plan(Close((Ref("", session),), anyway=True) if session else Repair()), offline=True)
    for at in range(1, STEPS):
        path = _copied(source, folder, at)
        pid = os.fork()
        if not pid:
            signal.alarm(LONGEST_S)
            _do(path, at, session)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        if status == 0:
            print(json.dumps(at))
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
