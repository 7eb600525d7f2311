"""What it costs to keep nanobot's sessions: against the real nanobot-ai 0.2.0, and against the least there is.

Both sides keep a session of their own, alike in size, and both take the same turns; a round measures each once.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.store.workspaces import KEY, talk, write

from sessionscope.store.nanobot import SessionManager

from .limits import by_hand
from .nanobot import COUNTER, EACH, TEXT, UPSTREAM, counted, named, upstream
from .table import Line
from .turns import both, in_turns, short

TURNS = 20
"""How many turns an append is measured by."""


class Side(NamedTuple):
    """One manager: its kind, a workspace with the long session, one with many, and the long session itself."""

    kind: Any
    long: Path
    crowd: Path
    manager: Any
    session: Any


def run(folder: Path, part: int, rounds: int) -> Iterator[Line]:
    """A long session and a crowded folder; `part` says how much smaller than usual both are."""
    many, crowd = 100_000 // part, 10_000 // part
    theirs, why = upstream()
    if theirs is None:
        print(f"Not compared with nanobot, {why}: pip install nanobot-ai=={UPSTREAM}", flush=True)
    ours = _side(SessionManager, folder / "ours", many, crowd)
    if theirs is not None:
        yield from _compared(ours, _side(theirs, folder / "theirs", many, crowd), many, crowd, rounds)
    yield from _limits(ours, many, crowd, rounds)


def _side(kind: Any, folder: Path, many: int, crowd: int) -> Side:
    long, full = folder / "long", folder / "full"
    write(long / "sessions", talk(many, text=TEXT + " {}"))
    for at in range(crowd):
        write(full / "sessions", talk(EACH, at * EACH, TEXT + " {}"), f"telegram_{at}.jsonl", f"telegram:{at}")
    manager = kind(long)
    session = manager.get_or_create(KEY)
    # The first save finds a file of nobody's own.
    manager.save(session)
    return Side(kind, long, full, manager, session)


def _compared(ours: Side, theirs: Side, many: int, crowd: int, rounds: int) -> Iterator[Line]:
    tasks: tuple[tuple[str, Callable[[Side], float], float | None], ...] = (
        (f"load {many} messages", _load, None),
        (f"save {many}, one turn more", partial(_save, _grow, False), 8),
        (f"save {many}, one turn more, on the disk", partial(_save, _grow, True), 8),
        (f"save {many}, a row in the middle changed", partial(_save, _edit, False), 8),
        (f"list {crowd}", _list, None),
    )
    for what, work, faster in tasks:
        mine, other = in_turns((partial(work, ours), partial(work, theirs)), rounds)
        yield Line(what, f"{both(mine, other)}, {short(other / mine)}x as fast", mine / other, faster and 1 / faster)
    for sync, words in ((False, "append a turn, against a save"), (True, "append a turn, on the disk")):
        mine, other = in_turns((partial(_append, ours, sync), partial(_save, _grow, sync, theirs)), rounds)
        mine /= TURNS
        yield Line(words, f"{both(mine, other)}, {short(other / mine)}x as fast", mine / other, 1 / 100)


def _limits(ours: Side, many: int, crowd: int, rounds: int) -> Iterator[Line]:
    """Against bytes written and synced by hand, counting lines in C, and asking the system for each file."""
    path = next((ours.long / "sessions").glob("*.jsonl"))
    size = path.stat().st_size
    turn = len(TEXT) + 100
    cases = (
        (
            f"append a turn, against {turn} synced bytes",
            partial(_append, ours, True),
            partial(by_hand, ours.long, turn, TURNS),
        ),
        (
            "save it anew, against as many synced bytes",
            partial(_save, _edit, True, ours),
            partial(by_hand, ours.long, size, 1),
        ),
        (f"load {many}, against {COUNTER} -l", partial(_load, ours), partial(counted, path)),
        (f"list {crowd}, against scandir and stat", partial(_list, ours), partial(named, ours.crowd / "sessions")),
    )
    for what, work, least in cases:
        mine, other = in_turns((work, least), rounds)
        yield Line(what, both(mine, other), mine / other)


def _grow(session: Any) -> None:
    session.add_message("user", TEXT)
    session.add_message("assistant", TEXT)


def _edit(session: Any) -> None:
    session.messages[len(session.messages) // 2]["content"] = f"edited at {time.perf_counter_ns()}"


def _save(change: Callable[[Any], None], sync: bool, side: Side) -> float:
    change(side.session)
    return _time(lambda: side.manager.save(side.session, fsync=sync))


def _append(side: Side, sync: bool) -> float:
    half = len(TEXT) // 2
    turn = [{"role": "user", "content": TEXT[:half]}, {"role": "assistant", "content": TEXT[half:]}]
    return _time(lambda: [side.manager.append(side.session, deepcopy(turn), fsync=sync) for _ in range(TURNS)])


def _load(side: Side) -> float:
    return _time(lambda: side.kind(side.long).get_or_create(KEY))


def _list(side: Side) -> float:
    return _time(lambda: side.kind(side.crowd).list_sessions())


def _time(work: Callable[[], object]) -> float:
    """Milliseconds for the work."""
    gc.collect()
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3
