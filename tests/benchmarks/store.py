"""What an agent pays for `SessionStore`: against the real power-loop 0.2.0, and against limits that no store can beat.

Both run alternately, each round the other way round, so that neither lives on what the other left in the page cache; a
first round does not count, medians are compared, and garbage is collected before a clock starts. Both work on the same
database and have to answer with as much. What writes has a copy of its own that is on the disk already, lest the system
still writes what came before while a clock runs. They commit as both do by default, NORMAL, unless a line says FULL:
that needs a temporary folder on a disk, since syncing memory costs nothing.

The limits are SQLite in C on the same rows, which is its command line tool less that tool's own start, and the bytes
that a commit adds to the WAL, written and synced by hand.
"""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from math import floor
from operator import attrgetter, methodcaller
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from sessionscope.store import Close, Compact, Ref, SessionStore, open_archive

from .limits import TOOL, by_hand, scan, wal_growth
from .table import Line
from .turns import both, in_turns, short

UPSTREAM, BATCH, FEW, PROBE, WITHIN_C = "0.2.0", 100, 50, 100, 2.2
LEAST_MS = 0.01
"""What is left at least of a scan without the tool's start, which varies."""
TOP = f"sess_{'0' * 24}"
TEXT = ("the import runs twice when a lease expires while a worker still holds its batch so claim it first " * 5)[:458]
_CALLS = [{"id": "call-1", "type": "function", "function": {"name": "grep", "arguments": '{"pattern": "lease"}'}}]
_TURN: tuple[dict[str, Any], ...] = (
    {"role": "user"},
    {"role": "assistant", "tool_calls": _CALLS},
    {"role": "tool", "tool_call_id": "call-1"},
    {"role": "assistant"},
)
_MESSAGES = f"SELECT * FROM messages WHERE session_id = '{TOP}' ORDER BY seq"
_SESSIONS = f"SELECT * FROM sessions WHERE parent_session_id = '{TOP}' ORDER BY created_at"
Work = Callable[[Any], Any]
"""What is done to a store of either kind. Answers with rows, or with a number."""


class Task(NamedTuple):
    """One line. Both must answer with so many rows, or with that number."""

    what: str
    seed: Path
    answer: int
    ours: Work
    theirs: Work
    faster: float | None = None
    """How many times as fast ours has to be."""
    calls: int = 0
    """Of how many calls the work consists, where the figure is that of one."""
    writes: bool = True
    full: bool = False


def run(folder: Path, part: int, rounds: int) -> Iterator[Line]:
    """Both halves; `part` says how much smaller than usual everything is."""
    tasks = _tasks(folder, part)
    os.sync()
    upstream, why = _upstream()
    if upstream is None:
        print(f"Not compared with power-loop, {why}: pip install power-loop=={UPSTREAM}", flush=True)
    for task in tasks.values() if upstream else ():
        ours, theirs = in_turns(
            (partial(_time, SessionStore, task, task.ours), partial(_time, upstream, task, task.theirs)), rounds
        )
        figure = f"{both(ours, theirs, task.calls)}, {short(theirs / ours)}x as fast"
        yield Line(task.what, figure, ours / theirs, task.faster and floor(1e3 / task.faster) / 1e3)
    yield from _limits(folder, tasks, rounds)


def _upstream() -> tuple[Any, str]:
    """power-loop's own store of the release that is measured, or None and why."""
    try:
        found = version("power-loop")
        if found == UPSTREAM:
            return import_module("power_loop.runtime.session_store").SessionStore, ""
    except PackageNotFoundError:
        return None, "which is not installed"
    except ImportError as error:
        return None, f"which cannot be imported ({error})"
    return None, f"since {found} is installed"


def _tasks(folder: Path, part: int) -> dict[str, Task]:
    many, some, calls, synced, batched = (number // part for number in (100_000, 10_000, 5_000, 500, 30 * BATCH))
    empty, log = _seed(folder / "empty.db"), _seed(folder / "log.db", messages=many)
    brood, tree = _seed(folder / "brood.db", some, each=some), _seed(folder / "tree.db", some, each=22)
    trees = [
        (below, tree if not below else _seed(folder / f"tree-{below}.db", some, each=22, below=below), least)
        for below, least in ((0, 4), (10, 1.3), (50, 1))
    ]
    load, children = methodcaller("load_all_messages", TOP), methodcaller("list_children", TOP)
    last, walk = methodcaller("messages", TOP, newest=True, limit=FEW), methodcaller("list_descendants", TOP)
    decoded = partial(_touch, load, attrgetter("tool_calls", "meta"))
    settings = partial(_touch, children, attrgetter("config", "metadata"))
    append, append_synced, close = partial(_append, calls), partial(_append, synced), methodcaller("close_session", TOP)
    return {
        "append": Task("append, NORMAL", empty, calls, append, append, 1.25, calls),
        "full": Task("append, FULL", empty, synced, append_synced, append_synced, 1.8, synced, full=True),
        "batch": Task(
            f"append, {BATCH} in one call",
            empty,
            batched,
            partial(_append_many, batched),
            partial(_append, batched),
            8,
            batched,
        ),
        "load": Task(f"load {many} messages", log, many, load, load, 4, writes=False),
        "decoded": Task("  with all tool_calls and meta", log, many, decoded, decoded, writes=False),
        "last": Task(f"the last {FEW} of them", log, FEW, last, lambda store: load(store)[-FEW:], writes=False),
        "children": Task(f"list {some} children", brood, some, children, children, writes=False),
        "settings": Task("  with all config and metadata", brood, some, settings, settings, writes=False),
        **{
            f"fold {rows}": Task(
                f"compact {rows} of {many} rows, checkpointed", log, many + 1, *(partial(_compact, rows),) * 2, 1
            )
            for rows in (some, many)
        },
        "by hand": Task(
            f"  by hand: {many} rows read, planned and folded, FULL",
            log,
            many + 1,
            partial(_compacted, many),
            partial(_read_and_compact, many),
            1,
            full=True,
        ),
        "close": Task(f"close {some} descendants", tree, some + 1, close, close, 4),
        **{
            f"trash {below}": Task(
                f"  as a plan, into the trash; {below} messages each", full, some + 1, _closed, close, least
            )
            for below, full, least in trees
        },
        "walk": Task(f"walk a tree of {some}", tree, some, walk, _walk, 8, writes=False),
    }


def _closed(store: SessionStore) -> int:
    """Closes a tree as the browser does: the plan, the bundle in the trash, the deletion. Answers as a store does."""
    (archive,) = open_archive(store.path)
    actions = archive.actions
    assert actions is not None
    plan = actions.plan(Close((Ref("", TOP),), anyway=True))
    return actions.apply(plan).rows


def _compacted(rows: int, store: SessionStore) -> int:
    """Folds rows as the browser does: the plan that somebody looks at, then the fold. Answers with the note's seq."""
    (archive,) = open_archive(store.path)
    actions = archive.actions
    assert actions is not None
    plan = actions.plan(Compact(Ref("", TOP), 1, rows, TEXT))
    actions.apply(plan)
    return _checkpointed(store, rows + 1)


def _read_and_compact(rows: int, store: Any) -> Any:
    """The same as power-loop's compactor does it: it loads what it folds, then records."""
    store.load_active_messages(TOP)
    return _compact(rows, store)


def _seed(path: Path, sessions: int = 0, each: int = 1, messages: int = 0, below: int = 0) -> Path:
    """A database as either store writes it: a session with messages, and so many below it, `each` to a parent, with
    `below` messages each.
    """
    random, ids = Random(0), [TOP]
    with SessionStore.open(path) as store, store.transaction():
        store.create_session(session_id=TOP)
        for at in range(messages):
            store.append_message(TOP, content=f"{at} {TEXT}"[: len(TEXT)], round_index=at // 4, **_TURN[at % 4])
        for at in range(sessions):
            # Ids come in no order, as those that a store makes up: many a figure is better with ids that do.
            ids.append(
                store.create_session(
                    session_id=f"sess_{random.randbytes(12).hex()}",
                    parent_session_id=ids[at // each],
                    config={"max_rounds": 5},
                    metadata={"title": f"{TEXT[:30]} {at}"},
                )
            )
            store.append_messages(
                ids[-1], [{"content": f"{seq} {TEXT}"[: len(TEXT)], **_TURN[seq % 4]} for seq in range(below)]
            )
    return path


def _limits(folder: Path, tasks: dict[str, Task], rounds: int) -> Iterator[Line]:
    scans = (("load", _MESSAGES, WITHIN_C), ("children", _SESSIONS, None)) if shutil.which(TOOL) else ()
    if not scans:
        print(f"Without the {TOOL} command line tool there is no scan in C to compare with.", flush=True)
    for name, statement, target in scans:
        task = tasks[name]
        ours, scanned, start = in_turns(
            (
                partial(_time, SessionStore, task, task.ours),
                partial(scan, task.seed, statement),
                partial(scan, task.seed, "SELECT 1"),
            ),
            rounds,
        )
        least = max(scanned - start, LEAST_MS)
        yield Line(f"{task.what}, against C", both(ours, least), ours / least, target)
    task = tasks["full"]
    with TemporaryDirectory(dir=folder) as temp, _open(SessionStore, _copy(task, temp), full=True) as store:
        size = wal_growth(store, TOP, TEXT, PROBE)
    ours, least = in_turns(
        (partial(_time, SessionStore, task, task.ours), partial(by_hand, folder, size, task.calls)), rounds
    )
    yield Line(f"append, FULL, against {size} synced bytes", both(ours, least, task.calls), ours / least)


def _append(messages: int, store: Any) -> Any:
    for at in range(messages):
        seq = store.append_message(TOP, role="user", content=TEXT, round_index=at)
    return seq


def _append_many(messages: int, store: Any) -> Any:
    for first in range(0, messages, BATCH):
        seqs = store.append_messages(
            TOP, [{"role": "user", "content": TEXT, "round_index": at} for at in range(first, first + BATCH)]
        )
    return seqs[-1]


def _touch(read: Work, values: Work, store: Any) -> Any:
    """Ours decodes what is asked for, theirs everything in advance: reads, then asks."""
    rows = read(store)
    for row in rows:
        values(row)
    return rows


def _compact(rows: int, store: Any) -> Any:
    note = store.record_compaction(
        TOP, from_seq=1, to_seq=rows, note_content=TEXT, before_tokens=90_000, after_tokens=9_000, round_index=1
    )[1]
    return _checkpointed(store, note)


def _checkpointed(store: Any, note: int) -> int | None:
    busy = store._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return None if busy else note


def _walk(store: Any) -> Any:
    found, parents = [], [TOP]
    while parents:
        children = store.list_children(parents.pop())
        found += children
        parents += [child.session_id for child in children]
    return found


def _open(kind: Any, path: Path, full: bool) -> Any:
    if not full:
        return kind.open(path)
    if kind is SessionStore:
        return kind.open(path, durability="FULL")
    store = kind.open(path)
    store._conn.execute("PRAGMA synchronous=FULL")
    return store


def _copy(task: Task, folder: str) -> Path:
    path = Path(shutil.copy(task.seed, folder))
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return path


def _time(kind: Any, task: Task, work: Work) -> float:
    """Milliseconds for the work on a store just opened."""
    with TemporaryDirectory(dir=task.seed.parent) as temp:
        path = _copy(task, temp) if task.writes else task.seed
        with closing(_open(kind, path, task.full)) as store:
            gc.collect()
            began = time.perf_counter()
            said = work(store)
            took = time.perf_counter() - began
    if (len(said) if isinstance(said, list) else said) != task.answer:
        raise RuntimeError(f"{kind.__module__} did not do as asked: {task.what.strip()}")
    return took * 1e3
