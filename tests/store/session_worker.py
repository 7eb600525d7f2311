"""Processes that use a `SessionStore` and may be killed at it: one that forks the others, as a test tells it.

python -P session_worker.py        then on stdin, a line each: [SERVICE, ARGUMENTS], answered by a line
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from subprocess import PIPE, Popen
from typing import Any

from sessionscope.store.powerloop import SessionStore, SubagentLifecycle

PATIENCE_S, LONGEST_S = 60, 120
NOW_NS = 4_000_000_000_000_000_000
_ROWS = "SELECT session_id FROM {}"
RULES = {
    "next_seq is the seq after the last": """SELECT session_id, next_seq FROM session_state s WHERE next_seq IS NOT
        (SELECT ifnull(max(seq), 0) + 1 FROM messages m WHERE m.session_id = s.session_id)""",
    "seqs count from 1 without a gap": """SELECT session_id, min(seq), max(seq), count(*) FROM messages
        GROUP BY session_id HAVING min(seq) != 1 OR max(seq) != count(*)""",
    "a session has bookkeeping": "SELECT session_id FROM sessions EXCEPT SELECT session_id FROM session_state",
    "an audit row has its note": """SELECT session_id, compact_seq FROM compactions c WHERE NOT EXISTS (SELECT 1
        FROM messages m WHERE m.session_id = c.session_id AND seq = note_seq AND name = 'compact_note')""",
    "a note has its audit row": """SELECT session_id, seq FROM messages m WHERE name = 'compact_note' AND 1 !=
        (SELECT count(*) FROM compactions c WHERE c.session_id = m.session_id AND note_seq = seq)""",
    "audit rows are counted": """SELECT session_id, last_compact_seq FROM session_state s WHERE last_compact_seq IS NOT
        (SELECT count(*) FROM compactions c WHERE c.session_id = s.session_id) OR last_compact_seq IS NOT
        (SELECT ifnull(max(compact_seq), 0) FROM compactions c WHERE c.session_id = s.session_id)""",
    "what is folded was recorded, and what was recorded is folded": """SELECT session_id, seq, state FROM messages m
        WHERE (state = 'compacted_out') IS NOT EXISTS (SELECT 1 FROM compactions c
        WHERE c.session_id = m.session_id AND seq < note_seq AND seq BETWEEN from_seq AND to_seq)""",
    "a parent is there": f"{_ROWS.format('sessions')} WHERE parent_session_id NOT IN ({_ROWS.format('sessions')})",
} | {
    f"{table} are of a session that is there": f"{_ROWS.format(table)} EXCEPT {_ROWS.format('sessions')}"
    for table in ("messages", "compactions", "usage_rounds", "session_state")
}


def flaws(store: SessionStore) -> dict[str, list[Any]]:
    """The rules that a database breaks, and where."""
    found = {rule: [tuple(row) for row in store._conn.execute(statement)] for rule, statement in RULES.items()}
    found["its pages are whole"] = [row[0] for row in store._conn.execute("PRAGMA integrity_check") if row[0] != "ok"]
    return {rule: rows for rule, rows in found.items() if rows}


def dump(store: SessionStore) -> list[str]:
    """Every row of every table."""
    return list(store._conn.iterdump())


class Worker:
    """The process from the test's side: called with a service and its arguments, it gives the answer."""

    def __init__(self) -> None:
        self.process = Popen([sys.executable, "-PB", __file__], stdin=PIPE, stdout=PIPE, text=True)

    def __call__(self, service: str, *arguments: Any) -> Any:
        self.send(service, *arguments)
        return self.answer()

    def send(self, service: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([service, arguments], default=str) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@contextmanager
def working() -> Iterator[Worker]:
    worker = Worker()
    with worker.process:
        yield worker


# -- one operation, killed at a statement


def _block(store: SessionStore) -> None:
    with store.transaction():
        store.create_session(session_id="new", parent_session_id="detached")
        store.append_messages("new", [{"role": "user"}, {"role": "assistant"}])
        store.append_message("top", role="user", content="one more")
        store.record_usage("top", round_index=7, prompt_tokens=1, completion_tokens=1, total_tokens=2)
        store.set_pending("top", {"tool_call_ids": ["call-2"]})
        store.record_compaction(
            "top", from_seq=1, to_seq=4, note_content="in short", before_tokens=9, after_tokens=1, round_index=1
        )
        store.archive_session("detached")
        store.close_session("linked")


OPERATIONS: dict[str, Callable[[SessionStore], object]] = {
    "create_session": lambda store: store.create_session(
        session_id="new",
        parent_session_id="top",
        system_prompt="be brief",
        config={"a": 1},
        metadata={"title": "new"},
        lifecycle=SubagentLifecycle.LINKED,
    ),
    "append_message": lambda store: store.append_message("top", role="user", content="one more", meta={"a": 1}),
    "append_messages": lambda store: store.append_messages("top", [{"role": "user", "content": x} for x in "abc"]),
    "record_compaction": lambda store: store.record_compaction(
        "top", from_seq=2, to_seq=5, note_content="in short", before_tokens=90, after_tokens=10, round_index=3
    ),
    "close_session with all below": lambda store: store.close_session("top"),
    "close_session alone": lambda store: store.close_session("top", cascade=False),
    "a block": _block,
}


def _perform(path: str, operation: str, at: int) -> bool:
    """Whether an operation, or "open", came to its end: its process is killed where its `at`th statement begins."""

    def work() -> None:
        time.time_ns = lambda: NOW_NS
        if operation == "open":
            _trace_all_connections(at)
            SessionStore.open(path)
        else:
            store = SessionStore.open(path)
            store._conn.set_trace_callback(_deadly(at))
            OPERATIONS[operation](store)

    status = os.waitpid(_fork(work), 0)[1]
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), status
    return status == 0


def _deadly(at: int) -> Callable[[str], None]:
    def trace(statement: str) -> None:
        nonlocal at
        at -= 1
        if at == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return trace


def _trace_all_connections(at: int) -> None:
    connect, trace = sqlite3.connect, _deadly(at)

    def connecting(*args: Any, **options: Any) -> sqlite3.Connection:
        conn = connect(*args, **options)
        conn.set_trace_callback(trace)
        return conn

    sqlite3.connect = connecting


def _fork(work: Callable[[], None]) -> int:
    """A process that does the work and then is gone without closing anything. It does not outlive its time."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(LONGEST_S)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


# -- one process that works until it is killed


def _stream(name: str, path: str, seed: int) -> str:
    """Forks a process that says what it does in lines: its own number, and whatever it has done or is about to do."""

    def say(*what: Any) -> None:
        os.write(1, json.dumps(what).encode() + b"\n")

    def work() -> None:
        say(os.getpid())
        {"busy": _busy, "opening": _opening}[name](path, random.Random(seed), say)

    os.waitpid(_fork(work), 0)
    return "dead"


def _busy(path: str, chance: random.Random, say: Callable[..., None]) -> None:
    store = SessionStore.open(path)
    # Small, so that kills meet checkpoints too.
    store._conn.execute(f"PRAGMA wal_autocheckpoint={chance.choice((5, 50))}")
    for number in count():
        id_, text = chance.choice(store.list_sessions(limit=8)).session_id, f"{os.getpid()} {number}"
        match chance.choice(("append", "append", "append", "several", "block", "fold", "spawn", "close")):
            case "append":
                say("appended", id_, [[store.append_message(id_, role="user", content=text), text]])
            case "several":
                seqs = store.append_messages(id_, [{"role": "user", "content": text}] * 3)
                say("appended", id_, [[seq, text] for seq in seqs])
            case "block":
                with store.transaction():
                    seqs = [store.append_message(id_, role=role, content=text) for role in ("assistant", "tool")]
                    store.record_usage(id_, round_index=number, prompt_tokens=1, completion_tokens=1, total_tokens=2)
                say("appended", id_, [[seq, text] for seq in seqs])
            case "fold":
                _fold(store, id_, chance)
                say("folded")
            case "spawn":
                _spawn(store, id_, chance)
                say("spawned")
            case "close":
                if id_ != "top":
                    say("closing", [id_, *(below.session_id for below in store.list_descendants(id_))])
                    store.close_session(id_, cascade=chance.random() < 0.7)
                    say("closed")


def _fold(store: SessionStore, id_: str, chance: random.Random) -> None:
    last = store.counts(id_).messages
    first = chance.randint(1, last + 1)
    store.record_compaction(
        id_,
        from_seq=first,
        to_seq=chance.randint(first - 1, last),
        note_content="in short",
        before_tokens=9,
        after_tokens=1,
        round_index=0,
    )


def _spawn(store: SessionStore, id_: str, chance: random.Random) -> None:
    parent = store.get_session(id_)
    if parent is None or parent.spawn_depth < 3:
        store.create_session(parent_session_id=id_, lifecycle=chance.choice(list(SubagentLifecycle)))


def _opening(path: str, chance: random.Random, say: Callable[..., None]) -> None:
    for number in count():
        say(f"{path}.{number}")
        SessionStore.open(f"{path}.{number}").close()


# -- many processes at once


def _together(path: str, jobs: list[list[Any]]) -> list[dict[str, Any]]:
    """Starts a process for each job at the same moment. What each has done, and the errors it met."""
    start, gate = os.pipe()
    answers, pids = [], []
    for number, (name, *arguments) in enumerate(jobs):
        answer, out = os.pipe()

        def work(number: int = number, name: str = name, arguments: list[Any] = arguments, out: int = out) -> None:
            os.close(gate)
            os.read(start, 1)
            done, errors = JOBS[name](path, number, *arguments)
            with open(out, "w") as file:
                json.dump({"done": done, "errors": errors}, file)

        pids.append(_fork(work))
        os.close(out)
        answers.append(answer)
    os.close(gate)
    said = []
    for answer in answers:
        with open(answer) as file:
            said.append(file.read())
    for pid in pids:
        os.waitpid(pid, 0)
    os.close(start)
    return [json.loads(text or '{"done": [], "errors": ["it died"]}') for text in said]


Said = tuple[list[Any], list[str]]


def _tried(times: int, work: Callable[[int], Any]) -> Said:
    done, errors = [], []
    for turn in range(times):
        try:
            done.append(work(turn))
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    return done, errors


def _append(path: str, number: int, ids: list[str], times: int) -> Said:
    def work(turn: int) -> list[Any]:
        id_, text = ids[turn % len(ids)], f"{number} {turn}"
        return [id_, store.append_message(id_, role="user", content=text), text]

    with SessionStore.open(path, timeout=PATIENCE_S) as store:
        return _tried(times, work)


def _mix(path: str, number: int, times: int) -> Said:
    chance = random.Random(number)

    def work(turn: int) -> None:
        id_ = chance.choice(store.list_sessions(limit=12)).session_id
        match chance.choice(("append", "append", "fold", "spawn", "spawn", "close")):
            case "append":
                store.append_messages(id_, [{"role": "user", "content": f"{number} {turn}"}] * 2)
            case "fold":
                _fold(store, id_, chance)
            case "spawn":
                _spawn(store, id_, chance)
            case "close":
                if id_ != "top":
                    store.close_session(id_, cascade=chance.random() < 0.5)

    with SessionStore.open(path, timeout=PATIENCE_S) as store:
        return _tried(times, work)


def _come_and_go(path: str, number: int, times: int) -> Said:
    def work(turn: int) -> int:
        with SessionStore.open(path, timeout=PATIENCE_S) as store:
            return store.append_message("top", role="user")

    return _tried(times, work)


def _open(path: str, number: int) -> Said:
    def work(turn: int) -> str:
        with SessionStore.open(path, timeout=PATIENCE_S) as store:
            return store.create_session()

    return _tried(1, work)


def _append_carelessly(path: str, number: int, times: int) -> Said:
    """As upstream does: the message and the counter are two transactions."""

    def work(turn: int) -> None:
        (seq,) = conn.execute("SELECT next_seq FROM session_state WHERE session_id = 'top'").fetchone()
        conn.execute("INSERT INTO messages (session_id, seq, role, created_at) VALUES ('top', ?, 'user', 1)", (seq,))
        conn.execute("UPDATE session_state SET next_seq = ? WHERE session_id = 'top'", (seq + 1,))

    with closing(sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)) as conn:
        return _tried(times, work)


JOBS: dict[str, Callable[..., Said]] = {
    "append": _append,
    "mix": _mix,
    "come and go": _come_and_go,
    "open": _open,
    "append carelessly": _append_carelessly,
}


def _serve() -> None:
    services: dict[str, Callable[..., Any]] = {"perform": _perform, "stream": _stream, "together": _together}
    for line in sys.stdin:
        service, arguments = json.loads(line)
        print(json.dumps(services[service](*arguments)), flush=True)


if __name__ == "__main__":
    _serve()
