"""The reads behind the screen and the headless verbs, each beside the least that such an answer can cost, in turns.

That least is the bare statement for the same rows through the standard sqlite3; for first rows the same in a small
archive; for a verb the CPU of a process that imports what every verb needs. Before a cold read the system drops the
file's pages.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from sessionscope.store import Ref, View, open_archive

from .data import SESSION, build
from .startup import MAIN, ROOT, environment
from .table import Line

FIRST_MS, VERB, NEWEST, PAGE, SHOWN = 50, 1.5, 50, 128, 20
BARE = ("-c", "import sqlite3, json, argparse, msgspec")
_SESSIONS = "SELECT rowid, session_id, parent_session_id, created_at, updated_at, kind, metadata_json FROM sessions"
_STATES = "SELECT state, seq, rowid FROM messages WHERE session_id = ? ORDER BY state, seq"
_ROWS = "SELECT rowid, * FROM messages WHERE session_id = ? AND seq BETWEEN ? AND ? ORDER BY seq"
Work = Callable[[], float | None]
"""Answers with the milliseconds that it took, or leaves that to the clock."""


def run(folder: Path, large: Path, crowd: Path, part: int) -> Iterator[Line]:
    """Every read and verb; `part` says how much smaller than usual the archives are."""
    many, rows, some = 100_000 // part, 1_000_000 // part, 10_000 // part
    village = build(folder / "village.db", 1_000, 10, prompt=6_000)
    small, hamlet = build(folder / "small.db", 1, SHOWN), build(folder / "hamlet.db", some, 1)
    for how, files in (("cold", (crowd, village)), ("warm", ())):
        ours, least = _in_turns(partial(_first, crowd), partial(_first, village), 9, files)
        figure = f"{ours / least:.2f}x of 1000 sessions"
        yield Line(f"first rows of {many} sessions, {how}", figure, ours, FIRST_MS, " ms")
    crowded, reader = open_archive(crowd)[0].reader(), open_archive(large)[0].reader()
    timeline, ref, places = reader.timeline(Ref("", SESSION), View.ALL), Ref("", SESSION), count(1, PAGE)
    show, ls = partial(_cpu, (*MAIN, "show", str(small), SESSION)), partial(_cpu, (*MAIN, "ls", str(hamlet)))
    bare = partial(_cpu, BARE, folder)
    pairs: list[tuple[str, Callable[[], object], Work, int, float | None]] = [
        (f"session table of {many} sessions", crowded.session_table, partial(_fetch, crowd, _SESSIONS), 3, None),
        (f"outline of {rows} rows", lambda: reader.outline(ref), partial(_fetch, large, _STATES, SESSION), 3, None),
        (
            f"page of {PAGE} rows of {rows}",
            lambda: timeline.window(at := next(places), at + PAGE),
            lambda: _fetch(large, _ROWS, SESSION, at := next(places), at + PAGE - 1),
            60,
            None,
        ),
        (f"show, {SHOWN} messages: CPU", partial(show, folder), bare, 9, VERB),
        (f"ls, {some} sessions: CPU", partial(ls, folder), bare, 3, None),
    ]
    for what, work, measure, rounds, target in pairs:
        ours, least = _in_turns(work, measure, rounds)
        yield Line(what, f"{ours:.1f} / {least:.1f} ms", ours / least, target)


def _first(path: Path) -> None:
    """What the browser reads for its first frame: the newest sessions, and the end of the newest."""
    reader = open_archive(path)[0].reader()
    reader.session_table_if_small()
    timeline = reader.timeline(reader.newest(NEWEST)[0].ref, View.ALL)
    timeline.window(max(0, timeline.length.value - PAGE), timeline.length.value)


def _fetch(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as conn:
        conn.execute(statement, values).fetchall()


def _cpu(argv: Sequence[str], home: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *argv], cwd=ROOT, env=environment(home), check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def _in_turns(
    ours: Callable[[], object], least: Callable[[], object], rounds: int, cold: Sequence[Path] = ()
) -> tuple[float, float]:
    """Medians of both in milliseconds; the first round does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for work, taken in zip((ours, least), times, strict=True):
            for path in cold:
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            began = time.perf_counter()
            said = work()
            taken.append(said if isinstance(said, float) else (time.perf_counter() - began) * 1e3)
    return median(times[0][1:]), median(times[1][1:])
