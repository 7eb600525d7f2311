"""What it costs to look at nanobot's sessions: against the real nanobot-ai 0.2.0, and against the least there is.

Both run alternately, each round the other way round; a first round does not count, medians are compared. All is warm:
the files were just written. Each round opens the archive anew, so nothing is known from before unless a line says so.
"""

from __future__ import annotations

import gc
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from math import floor
from pathlib import Path
from typing import Any, NamedTuple

from tests.store.workspaces import KEY, talk, write

from sessionscope.store import Reader, Ref, View, open_archive
from sessionscope.store.io.jsonlines import records

from .table import Line
from .turns import both, in_turns, short

UPSTREAM, NEWEST, EACH, CALLS, COUNTER = "0.2.0", 50, 20, 20, "wc"
TEXT = ("the import runs twice when a lease expires while a worker still holds its batch so claim it first " * 5)[:458]
Work = Callable[[], int]


class Task(NamedTuple):
    """One line: what ours and theirs do, each answering with so many rows, and how much faster ours has to be.

    Ours does it `calls` times, as one alone would be lost in the noise of a clock.
    """

    what: str
    rows: int
    ours: Work
    theirs: Work
    faster: float | None = None
    calls: int = 1


def run(folder: Path, part: int, rounds: int) -> Iterator[Line]:
    """A long session and a crowded folder; `part` says how much smaller than usual both are."""
    many, crowd = 100_000 // part, 10_000 // part
    long, full = folder / "long", folder / "full"
    path = write(long / "sessions", talk(many, text=TEXT + " {}"))
    for at in range(crowd):
        write(full / "sessions", talk(EACH, at * EACH, TEXT + " {}"), f"telegram_{at}.jsonl", f"telegram:{at}")
    manager, why = upstream()
    if manager is None:
        print(f"Not compared with nanobot, {why}: pip install nanobot-ai=={UPSTREAM}", flush=True)
    for task in _tasks(manager, long, full, path, many, crowd) if manager is not None else ():
        works = partial(_time, task, task.ours, task.calls), partial(_time, task, task.theirs)
        ours, theirs = in_turns(works, rounds)
        yield Line(
            task.what,
            f"{both(ours, theirs)}, {short(theirs / ours)}x as fast",
            ours / theirs,
            task.faster and floor(1e3 / task.faster) / 1e3,
        )
    yield from _limits(long, full, path, many, crowd, rounds)


def upstream() -> tuple[Any, str]:
    """nanobot's own manager of the release that is measured, or None and why."""
    try:
        found = version("nanobot-ai")
        if found == UPSTREAM:
            # Its log would be part of what is measured.
            import_module("loguru").logger.remove()
            return import_module("nanobot.session.manager").SessionManager, ""
    except PackageNotFoundError:
        return None, "which is not installed"
    except ImportError as error:
        return None, f"which cannot be imported ({error})"
    return None, f"since {found} is installed"


def _tasks(manager: Any, long: Path, full: Path, path: Path, many: int, crowd: int) -> tuple[Task, ...]:
    known = open_archive(full)[0].reader()
    known.session_table()
    current_session = open_archive(long)[0].reader()
    ref = current_session.newest(1)[0].ref
    return (
        Task(
            f"load {many} messages",
            many,
            partial(_loaded, path),
            lambda: len(manager(long).get_or_create(KEY).messages),
            2.5,
        ),
        Task(
            f"last {NEWEST} of {many}, folder open",
            NEWEST,
            partial(_tail, current_session, ref),
            lambda: len(manager(long).get_or_create(KEY).messages[-NEWEST:]),
            500,
            CALLS,
        ),
        Task(
            f"last {NEWEST} of {many}, and the folder",
            NEWEST,
            partial(_newest, long),
            lambda: len(manager(long).get_or_create(KEY).messages[-NEWEST:]),
        ),
        Task(
            f"list {crowd}: key, title, dates",
            crowd,
            partial(_session_table, full),
            lambda: len(manager(full).list_sessions()),
            3,
        ),
        Task(
            f"list {crowd} again, nothing changed",
            crowd,
            lambda: len(known.session_table()),
            lambda: len(manager(full).list_sessions()),
            4,
        ),
        Task(
            f"list {crowd} with previews and counts",
            crowd,
            partial(_listed, full),
            lambda: len(manager(full).list_sessions()),
        ),
    )


def _loaded(path: Path) -> int:
    return len([record for record in records(path.read_bytes()) if "_type" not in record])


def _newest(folder: Path) -> int:
    reader = open_archive(folder)[0].reader()
    return _tail(reader, reader.newest(1)[0].ref)


def _tail(reader: Reader, ref: Ref) -> int:
    rows = reader.timeline(ref, View.ALL)
    return len(rows.window(max(0, rows.length.value - NEWEST), rows.length.value))


def _session_table(folder: Path) -> int:
    return len(open_archive(folder)[0].reader().session_table())


def _listed(folder: Path) -> int:
    reader = open_archive(folder)[0].reader()
    return len(reader.summaries(reader.session_table().keys))


def _limits(long: Path, full: Path, path: Path, many: int, crowd: int, rounds: int) -> Iterator[Line]:
    """Against counting lines in C, and against asking the system for each file's name and size."""
    outline = Task(f"outline of {many} messages, against {COUNTER} -l", many, partial(_outlined, long), int)
    ours, least, start = in_turns(
        (partial(_time, outline, outline.ours), partial(counted, path), partial(counted, Path(os.devnull))), rounds
    )
    least = max(least - start, 0.01)
    yield Line(outline.what, both(ours, least), ours / least)
    session_table = Task(f"list {crowd}, against scandir and stat", crowd, partial(_session_table, full), int)
    ours, least = in_turns(
        (partial(_time, session_table, session_table.ours), partial(named, full / "sessions")), rounds
    )
    yield Line(session_table.what, both(ours, least), ours / least)
    reader = open_archive(long)[0].reader()
    ref = reader.newest(1)[0].ref
    rows = reader.timeline(ref, View.ALL, reader.outline(ref))
    few = reader.timeline(ref, View.ALL, reader.outline(ref))
    page, first = in_turns((partial(_page, rows, many // 2), partial(_page, few, 0)), rounds)
    yield Line(f"a page in the middle of {many}, against the first", both(page, first), page / first, 1.5)


def _outlined(folder: Path) -> int:
    reader = open_archive(folder)[0].reader()
    return reader.outline(reader.newest(1)[0].ref).count()


def counted(path: Path) -> float:
    began = time.perf_counter()
    subprocess.run([COUNTER, "-l", path], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1e3


def named(folder: Path) -> float:
    began = time.perf_counter()
    with os.scandir(folder) as entries:
        for entry in entries:
            entry.stat()
    return (time.perf_counter() - began) * 1e3


def _page(rows: Any, start: int) -> float:
    began = time.perf_counter()
    for _ in range(50):
        rows.window(start, start + 64)
    return (time.perf_counter() - began) * 1e3


def _time(task: Task, work: Work, calls: int = 1) -> float:
    """Milliseconds for the work done once."""
    gc.collect()
    began = time.perf_counter()
    for _ in range(calls):
        said = work()
    took = time.perf_counter() - began
    if said != task.rows:
        raise RuntimeError(f"{said} instead of {task.rows}: {task.what}")
    return took * 1e3 / calls
