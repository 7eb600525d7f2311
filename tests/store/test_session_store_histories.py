"""`SessionStore` answers as power-loop 0.2.0 does: to recorded histories everywhere, to any where that is installed."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import pprint
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessionscope.store.powerloop as package
import sessionscope.store.powerloop.dropin.session_store as ours

from . import histories
from .helpers import raw

FACTS, *HISTORIES = json.loads(histories.RECORDED.read_text(encoding="utf-8"))
Scene = Callable[[Any], Any]
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(params=["ours", "power-loop"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    """Ours and the real one, so that what is written of both is true of both."""
    return ours if request.param == "ours" else histories.installed()


def part(steps: list[histories.Step], one: list[str], other: list[str]) -> str:
    """Where two runs of a history part, as words for a failure; "" where they do not."""
    for at, (step, *answers) in enumerate(zip(steps, one, other, strict=True)):
        if answers[0] != answers[1]:
            return "\n".join([f"step {at}: {step}", *answers])
    return ""


# -- histories


@pytest.mark.parametrize("at", range(histories.HISTORIES))
def test_a_recorded_history_is_answered_as_the_real_release_answered_it(at: int) -> None:
    steps, recorded = zip(*HISTORIES[at], strict=True)
    answers = [histories.short(said) for said in histories.replay(list(steps), ours)]
    assert not part(list(steps), [histories.text(said) for said in recorded], answers)


def test_the_record_is_of_every_method_and_of_this_generator() -> None:
    """Whoever changes the generator records anew, so that clones without the package see what others see."""
    assert {step[0] for history in HISTORIES for step, _ in history} == FACTS["methods"].keys() - {
        "__init__",
        "__enter__",
        "__exit__",
        "open",
        "close",
    } | {"dump"}
    assert [[step for step, _ in history] for history in HISTORIES] == [
        json.loads(histories.text(histories.generate(seed))) for seed in range(histories.HISTORIES)
    ]


@settings(max_examples=300)
@given(seed=seeds)
def test_any_history_is_answered_alike(seed: int) -> None:
    real, steps = histories.installed(), histories.generate(seed)
    assert not part(steps, histories.replay(steps, real), histories.replay(steps, ours))


@settings(max_examples=25)
@given(seed=seeds)
def test_either_takes_over_a_file_from_the_other(seed: int) -> None:
    real, steps = histories.installed(), histories.generate(seed, 60)
    alone = histories.replay(steps, real)
    for turns in ([ours, real, ours, real], [real, ours]):
        with TemporaryDirectory() as folder:
            assert not part(steps, alone, histories.replay(steps, *turns, path=f"{folder}/shared.db"))


@settings(max_examples=60)
@given(seed=seeds)
def test_a_divergence_is_where_the_first_difference_comes_from(seed: int) -> None:
    real, steps = histories.installed(), histories.generate(seed, 60, divergent=True)
    first = next((at for at, step in enumerate(steps) if len(step) > 3), len(steps))
    pair = [histories.replay(steps, module)[:first] for module in (real, ours)]
    assert not part(steps[:first], *pair)


@settings(max_examples=60)
@given(seed=seeds)
def test_whatever_is_asked_of_ours_the_rows_stay_consistent(seed: int) -> None:
    steps = histories.generate(seed, 60, divergent=True)
    dumps = [
        json.loads(said) for step, said in zip(steps, histories.replay(steps, ours), strict=True) if step[0] == "dump"
    ]
    for rows in dumps:
        ids = {row["session_id"] for row in rows["sessions"]}
        notes = {(row["session_id"], row["seq"]) for row in rows["messages"]}
        assert {row["session_id"] for table in rows.values() for row in table} == ids
        assert {row["parent_session_id"] for row in rows["sessions"]} <= {None, *ids}
        assert notes >= {(row["session_id"], row["note_seq"]) for row in rows["compactions"]}


# -- what is to differ, side by side


def call(method: str, *arguments: Any, **named: Any) -> Scene:
    return lambda store: getattr(store, method)(*arguments, **named)


def usage_of_nobody(store: Any) -> Any:
    store.record_usage("x", round_index=0, prompt_tokens=1, completion_tokens=1, total_tokens=2)
    return len(histories.dump(store._conn)["usage_rounds"])


def compact(**named: Any) -> Scene:
    return call(
        "record_compaction",
        "a",
        **{"from_seq": 1, "to_seq": 2, "note_content": "", "before_tokens": 9, "after_tokens": 1, "round_index": 0}
        | named,
    )


def bad_fold(**named: Any) -> Scene:
    """What a compaction of two rows says, how many rows it folded, and whether the session goes on."""

    def scene(store: Any) -> Any:
        said = attempt(compact(**named), store)
        states = [row["state"] for row in histories.dump(store._conn)["messages"]]
        return said, states.count("compacted_out"), attempt(call("append_message", "a", role="user"), store)

    return scene


def left_behind(store: Any) -> Any:
    store.create_session(session_id="b", parent_session_id="a")
    return store.close_session("a", cascade=False), store.get_session("b").parent_session_id


def damaged(change: str, look: Scene) -> Scene:
    def scene(store: Any) -> Any:
        store._conn.execute(f"UPDATE {change}")
        return look(store)

    return scene


def interrupted(event: str, act: Scene) -> Scene:
    """The tables in which a call leaves traces that cannot end."""

    def scene(store: Any) -> Any:
        before = histories.dump(store._conn)
        store._conn.execute(f"CREATE TRIGGER no BEFORE {event} BEGIN SELECT RAISE(ABORT, 'no'); END")
        assert attempt(act, store) == "IntegrityError"
        after = histories.dump(store._conn)
        return [table for table in after if after[table] != before[table]]

    return scene


def chain(length: int, parent_of_first: str | None = None) -> Scene:
    """How many sessions are deleted with the first of a chain."""

    def scene(store: Any) -> Any:
        store._conn.executemany(
            "INSERT INTO sessions (session_id, parent_session_id, created_at, updated_at) VALUES (?, ?, 1, 1)",
            [(f"s{n}", f"s{n - 1}" if n else parent_of_first) for n in range(length)],
        )
        return store.close_session("s0")

    return scene


def clock_set_back(store: Any) -> Any:
    store._conn.execute("UPDATE sessions SET created_at = 4102444800000")
    store.append_message("a", role="user")
    return store.get_session("a").updated_at >= store.get_session("a").created_at


def attempt(scene: Scene, store: Any) -> Any:
    """What a call returns, or the name of what it raises."""
    try:
        return scene(store)
    except Exception as error:
        return f"{type(error).__name__}{f': {error}' if 'unknown' in str(error) else ''}"


UNKNOWN = "ValueError: unknown session: x"
DIVERGENCES: dict[str, tuple[Scene, Any, Any]] = {
    "archive": (call("archive_session", "x"), None, UNKNOWN),
    "prompt": (call("update_session_prompt", "x", "p"), None, UNKNOWN),
    "usage": (usage_of_nobody, 1, 0),
    "bound-str": (bad_fold(from_seq="1"), ((1, 3), 2, 4), ("TypeError", 0, 3)),
    "bound-float": (bad_fold(to_seq=2.0), ((1, 3), 2, 4), ("TypeError", 0, 3)),
    "bound-none": (bad_fold(to_seq=None), ("IntegrityError", 0, "IntegrityError"), ("TypeError", 0, 3)),
    "meta-set": (bad_fold(note_meta={"x": {1}}), ("TypeError", 2, 3), ("TypeError", 0, 3)),
    "meta-nan": (bad_fold(note_meta={"x": math.nan}), ((1, 3), 2, 4), ("ValueError", 0, 3)),
    "left-behind": (left_behind, (1, "a"), (1, None)),
    "config": (
        damaged("sessions SET config_json = '{'", lambda store: store.get_session("a").config),
        "JSONDecodeError",
        {"damaged": "{"},
    ),
    "status": (
        damaged("sessions SET status = 'odd'", lambda store: store.get_session("a").status),
        "ValueError",
        "odd",
    ),
    "calls": (
        damaged("messages SET tool_calls_json = '['", lambda store: store.get_message("a", 1).tool_calls),
        "JSONDecodeError",
        [{"damaged": "["}],
    ),
    "pending": (
        damaged("session_state SET pending_json = '!'", lambda store: store.get_state("a").pending),
        "JSONDecodeError",
        {"damaged": "!"},
    ),
    "not-utf-8": (
        damaged("messages SET content = CAST(x'61ff' AS TEXT)", lambda store: len(store.load_all_messages("a"))),
        "OperationalError",
        2,
    ),
    "half-create": (interrupted("INSERT ON session_state", call("create_session")), ["sessions"], []),
    "half-append": (interrupted("UPDATE ON session_state", call("append_message", "a", role="user")), ["messages"], []),
    "half-fold": (interrupted("INSERT ON compactions", compact()), ["messages"], []),
    "half-close": (interrupted("DELETE ON sessions", call("close_session", "a")), ["messages", "session_state"], []),
    "cycle": (chain(2, "s1"), "RecursionError", 2),
    "deep": (chain(1_500), "RecursionError", 1_500),
    "clock": (clock_set_back, False, True),
    # And two in which they are to agree: what an import may leave.
    "empty-json": (
        damaged(
            "sessions SET config_json = NULL, metadata_json = '[]'",
            lambda store: (store.get_session("a").config, store.get_session("a").metadata),
        ),
        ({}, {}),
        ({}, {}),
    ),
    "state-ahead": (damaged("session_state SET next_seq = 9, last_compact_seq = 7", compact()), (8, 9), (8, 9)),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_that_is_meant(name: str, module: ModuleType) -> None:
    scene, theirs, mine = DIVERGENCES[name]
    with module.SessionStore.open(":memory:") as store:
        store.create_session(session_id="a")
        for _ in range(2):
            store.append_message("a", role="user")
        assert attempt(scene, store) == (mine if module is ours else theirs)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("v8.0.0", ""),
        ("v0.2.0", "PRAGMA user_version = 3"),
        ("v0.2.0", "ALTER TABLE messages DROP COLUMN name"),
        ("v0.2.0", "ALTER TABLE usage_rounds RENAME TO todo"),
        ("v0.2.0", "PRAGMA user_version = 2"),
    ],
)
def test_a_file_of_another_layout_is_refused(name: str, change: str, module: ModuleType, sample: Any) -> None:
    path = sample(name)
    raw(path, change)
    before = path.read_bytes()
    if module is not ours or change.endswith("= 2"):
        module.SessionStore.open(path).close()
        return
    with pytest.raises(sqlite3.DatabaseError, match=f"{name}.db"):
        module.SessionStore.open(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_appends_of_two_do_not_collide_but_wait(module: ModuleType, tmp_path: Path) -> None:
    """Another appends when the first has read its seq: upstream both take that seq, with ours the other waits."""
    said: list[str] = []
    patience = {"timeout": 0.01} if module is ours else {}
    with (
        module.SessionStore.open(tmp_path / "a.db") as first,
        module.SessionStore.open(tmp_path / "a.db", **patience) as second,
    ):
        first.create_session(session_id="a")

        def between(statement: str) -> None:
            if "INSERT INTO messages" in statement and not said:
                said.append("once")
                said.extend([attempt(lambda store: store.append_message("a", role="user"), second)])

        first._conn.set_trace_callback(between)
        said.append(attempt(lambda store: store.append_message("a", role="user"), first))
        first._conn.set_trace_callback(None)
        assert said == (["once", "Locked", 1] if module is ours else ["once", 1, "IntegrityError"])


def test_a_lock_names_who_waited(module: ModuleType, tmp_path: Path) -> None:
    with module.SessionStore.open(tmp_path / "a.db") as store, closing(sqlite3.connect(tmp_path / "a.db")) as other:
        store.create_session(session_id="a")
        store._conn.execute("PRAGMA busy_timeout = 10")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="database is locked") as caught:
            store.append_message("a", role="user")
        assert ("append_message of a waited" in str(caught.value)) is (module is ours)


# -- names, signatures, tables, rows


def test_every_name_of_the_module_is_there(module: ModuleType) -> None:
    assert set(FACTS["names"]) <= set(vars(module))
    assert module is not ours or set(FACTS["names"]) <= set(ours.__all__) & set(package.__all__)
    facts = json.loads(histories.text(histories.describe(module)))
    for kind in ("constants", "enums", "rows", "schema"):
        assert facts[kind] == FACTS[kind]
    for name, (sort, parameters) in FACTS["methods"].items():
        mine = facts["methods"][name]
        known = [parameter[0] for parameter in parameters]
        assert [mine[0], [parameter for parameter in mine[1] if parameter[0] in known]] == [sort, parameters]
        added = [parameter for parameter in mine[1] if parameter[0] not in known]
        assert all(how == "KEYWORD_ONLY" and default != "<class 'inspect._empty'>" for _, how, default in added)


def test_a_new_database_has_upstreams_tables_and_settings(module: ModuleType, tmp_path: Path) -> None:
    with module.SessionStore.open(tmp_path / "a.db") as store:
        made = ";".join(sql for (sql,) in store._conn.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL"))
        set_to = [
            store._conn.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "busy_timeout",
                "user_version",
                "application_id",
            )
        ]
        assert store._conn.isolation_level is None
        assert store._conn.row_factory is sqlite3.Row
        assert store.path == str(tmp_path / "a.db")
    assert json.loads(histories.text(histories.schema(made))) == FACTS["schema"]
    assert set_to == ["wal", 1, 1, 5000, 0, 0]


def loaded(module: ModuleType) -> tuple[Any, Any]:
    """A session and a message as they come from a store, and nobody has looked at them yet."""
    with module.SessionStore.open(":memory:") as store:
        store.create_session(session_id="a", config={"n": [1]}, lifecycle=module.SubagentLifecycle.LINKED)
        store.append_message("a", role="tool", content="😀", tool_calls=[{"id": "x"}], meta={"m": {}})
        store._conn.execute("UPDATE sessions SET created_at = 5, updated_at = 6")
        store._conn.execute("UPDATE messages SET created_at = 7")
        return store.get_session("a"), store.get_message("a", 1)


SAY = [
    "SessionRow(session_id='a', created_at=5, updated_at=6, system_prompt=None, model=None, config={'n': [1]}, "
    "status=<SessionStatus.ACTIVE: 'active'>, kind=<SessionKind.ROOT: 'root'>, parent_session_id=None, "
    "spawn_tool_call_id=None, spawn_depth=0, lifecycle=<SubagentLifecycle.LINKED: 'linked'>, metadata={})",
    "MessageRow(session_id='a', seq=1, role='tool', name=None, content='😀', tool_calls=[{'id': 'x'}], "
    "tool_call_id=None, round_index=None, state=<MessageState.ACTIVE: 'active'>, meta={'m': {}}, created_at=7)",
]


def by_hand(row: Any) -> Any:
    """A row as a caller would make it, of values that are decoded."""
    return type(row)(**{field.name: getattr(row, field.name) for field in dataclasses.fields(row)})


LOOKS: dict[str, Scene] = {
    "repr": repr,
    "pprint": lambda row: " ".join(pprint.pformat(row).split()),
    "made": lambda row: repr(by_hand(row)),
    "copied": lambda row: repr(copy.copy(row)),
    "copied-deep": lambda row: repr(copy.deepcopy(row)),
    "pickled": lambda row: repr(pickle.loads(pickle.dumps(row))),
    "replaced": lambda row: repr(dataclasses.replace(row)),
    "vars": lambda row: repr(type(row)(**vars(row))),
    "tuple": lambda row: repr(type(row)(*dataclasses.astuple(row))),
    "dict": lambda row: repr(type(row)(**dataclasses.asdict(row))),
}


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("look", LOOKS)
def test_a_row_says_the_same_whoever_asks_first(look: str, at: int, module: ModuleType) -> None:
    assert LOOKS[look](loaded(module)[at]) == SAY[at]


@pytest.mark.parametrize("at", [0, 1])
def test_rows_compare_and_change_as_those_of_a_dataclass(at: int, module: ModuleType) -> None:
    row = loaded(module)[at]
    assert row == loaded(module)[at] == by_hand(loaded(module)[at])
    assert list(vars(row)) == list(dataclasses.asdict(row)) == [field.name for field in dataclasses.fields(row)]
    for field in dataclasses.fields(row):
        other = dataclasses.replace(row, **{field.name: "else"})
        assert ((other == row), (other != row)) == (False, True)
        setattr(row, field.name, "else")
        assert getattr(row, field.name) == "else"
        assert row != loaded(module)[at]
    assert row.__eq__(1) is NotImplemented
    with pytest.raises(TypeError):
        hash(row)
    with pytest.raises(TypeError):
        assert row < row
    with pytest.raises(TypeError):
        type(row)("a")


@pytest.mark.parametrize("at", [0, 1])
def test_equal_rows_are_not_unequal(at: int, module: ModuleType) -> None:
    assert (loaded(module)[at] != loaded(module)[at]) is False


def test_what_is_changed_within_a_row_stays_changed(module: ModuleType) -> None:
    session, message = loaded(module)
    session.config["n"].append(2)
    session.metadata["title"] = message.meta["m"]["x"] = "y"
    message.tool_calls[0]["id"] = "z"
    assert (session.config, session.metadata, message.meta, message.tool_calls) == (
        {"n": [1, 2]},
        {"title": "y"},
        {"m": {"x": "y"}},
        [{"id": "z"}],
    )
    made = [
        module.SessionRow(
            "a",
            1,
            2,
            None,
            None,
            {},
            module.SessionStatus.ACTIVE,
            module.SessionKind.ROOT,
            None,
            None,
            0,
            module.SubagentLifecycle.LINKED,
        )
        for _ in range(2)
    ]
    made[0].metadata["mine"] = 1
    assert made[1].metadata == {}
