"""`SessionStore` opens what 0.2.0's statements fit, and leaves every other file as it is."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Timer

import pytest

from sessionscope.store import NotAnArchive, SessionStore
from sessionscope.store.powerloop import DEFAULT_DB_PATH
from sessionscope.store.powerloop.format.schema import STATEMENTS, TABLES

from .helpers import NAMES, ROOT, raw
from .test_refusals import tree

Sample = Callable[[str], Path]
OTHERS = {
    "v2.2.0": "power-loop 2.0 or later, in tables named pl_*",
    "v8.0.0": "power-loop 2.0 or later, in tables named pl_*",
    "v8.0.0-prefix-empty": "power-loop 2.2 or later",
}


def untouched(folder: Path) -> dict[str, tuple[int, ...]]:
    """As `tree`, but for change times: SQLite sets the owner of a -wal that it opens as root."""
    return {path: status[:4] for path, status in tree(folder).items()}


def refused(path: Path, words: str) -> None:
    """Whether a file is refused as one sentence, without a trace."""
    before = untouched(path.parent)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        SessionStore.open(path)
    sentence = str(caught.value)
    assert isinstance(caught.value, NotAnArchive)
    assert words in sentence
    assert str(path) in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert untouched(path.parent) == before


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(OTHERS)))
def test_a_sample_that_it_writes(name: str, sample: Sample) -> None:
    path = sample(name)
    tables = raw(path, "SELECT * FROM sqlite_master", "PRAGMA user_version")
    with SessionStore.open(path) as store:
        id_ = store.list_sessions()[0].session_id
        known = store.counts(id_).messages
        seq = store.append_message(id_, role="user", content="one more")
        store.record_usage(id_, round_index=99, prompt_tokens=1, completion_tokens=1, total_tokens=2)
        store.record_compaction(
            id_, from_seq=1, to_seq=seq, note_content="all", before_tokens=1, after_tokens=1, round_index=0
        )
        assert [row.content for row in store.load_active_messages(id_)] == ["all"]
        assert store.counts(id_).messages == known + 2
        assert store.close_session(id_) >= 1
    assert raw(path, "SELECT * FROM sqlite_master", "PRAGMA user_version") == tables


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_sample_of_another_layout(name: str, sample: Sample) -> None:
    refused(sample(name), OTHERS[name])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("CREATE TABLE books (title)", "another program"),
        ("CREATE VIEW sessions AS SELECT 1 AS session_id", "another program"),
        ("CREATE TABLE Sessions (id)", "its sessions has no config_json, created_at"),
        (f"{STATEMENTS[0]}; CREATE TABLE books (title)", "another program"),
        (f"{TABLES}; ALTER TABLE messages RENAME seq TO number", "its messages has no seq"),
        (f"{TABLES}; PRAGMA user_version = 3", "later than we know (user_version 3)"),
        ("PRAGMA user_version = 99", "user_version 99"),
    ],
)
def test_another_layout(script: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    raw(path, script=script)
    refused(path, words)


@pytest.mark.parametrize("wal", [False, True])
def test_another_programs_database_in_use(wal: bool, tmp_path: Path) -> None:
    """Neither its journal mode nor its -wal is touched."""
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        conn.execute("CREATE TABLE books (title)")
        conn.execute("INSERT INTO books VALUES ('a')")
        conn.commit()
        refused(path, "another program")


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_file_of_a_synchronous_store(version: int, tmp_path: Path) -> None:
    """One more column, and other tables beside the five, are no reason to refuse."""
    path = tmp_path / "kin.db"
    raw(
        path,
        script=f"{TABLES}; ALTER TABLE usage_rounds ADD COLUMN send_index INTEGER NOT NULL DEFAULT 0; "
        f"CREATE TABLE timers (id); PRAGMA user_version = {version}",
    )
    with SessionStore.open(path) as store:
        id_ = store.create_session()
        store.record_usage(id_, round_index=0, prompt_tokens=1, completion_tokens=1, total_tokens=2)
        assert len(store.usage(id_)) == 1
    assert raw(path, "PRAGMA user_version") == [[(version,)]]


@pytest.mark.parametrize("made", range(len(STATEMENTS) + 1))
def test_a_creation_that_was_cut_short_is_finished(made: int, tmp_path: Path) -> None:
    path = tmp_path / "half.db"
    raw(path, *STATEMENTS[:made])
    with SessionStore.open(path) as store:
        assert store.append_message(store.create_session(), role="user") == 1


def test_what_is_no_database(tmp_path: Path) -> None:
    text, folder = tmp_path / "text.db", tmp_path / "folder"
    text.write_text("just words\n" * 500)
    folder.mkdir()
    before = tree(tmp_path)
    refused(text, "is not a SQLite database")
    with pytest.raises(sqlite3.OperationalError):
        SessionStore.open(folder)
    assert tree(tmp_path) == before
    with pytest.raises(OSError, match=r"text\.db"):
        SessionStore.open(text / "below.db")


def test_where_a_new_file_comes_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "empty.db").touch()
    for path, place in (
        (DEFAULT_DB_PATH, tmp_path / "power_loop_sessions.db"),
        ("~/a/b.db", tmp_path / "home/a/b.db"),
        (Path("c/d.db"), tmp_path / "c/d.db"),
        ("empty.db", tmp_path / "empty.db"),
    ):
        with SessionStore.open(path) as store:
            assert store.path == str(Path(path).expanduser())
            store.create_session()
        assert raw(place, "SELECT count(*) FROM sessions") == [[(1,)]]
        assert not list(place.parent.glob("*-wal"))
    with SessionStore.open() as store:
        assert len(store.list_sessions()) == 1
    with SessionStore.open(":memory:") as store:
        assert (store.path, len(store.list_sessions())) == (":memory:", 0)


@pytest.mark.parametrize(("durability", "synchronous"), [("NORMAL", 1), ("FULL", 2), ("full", 2)])
def test_how_a_connection_is_set(durability: str, synchronous: int, tmp_path: Path) -> None:
    with SessionStore.open(tmp_path / "new.db", durability=durability, timeout=1.5) as store:
        conn = store._conn
        assert isinstance(conn, sqlite3.Connection)
        assert conn.row_factory is sqlite3.Row
        assert conn.isolation_level is None
        found = [
            conn.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys", "page_size", "encoding")
        ]
        assert found == ["wal", synchronous, 1500, 1, 4096, "UTF-8"]


def test_a_durability_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NORMAL or FULL, not 'OFF'"):
        SessionStore.open(tmp_path / "new.db", durability="OFF")
    assert not list(tmp_path.iterdir())


def test_a_new_file_is_as_upstream_makes_it(tmp_path: Path, sample: Sample) -> None:
    """To the column, type, default and key; only the spacing of the statements differs."""
    SessionStore.open(tmp_path / "new.db").close()
    theirs = sample("v0.2.0")
    for pragma in ("table_info", "index_list"):
        for table in ("sessions", "messages", "compactions", "usage_rounds", "session_state"):
            question = f"PRAGMA {pragma}({table})"
            assert raw(tmp_path / "new.db", question) == raw(theirs, question)


def test_both_layouts_in_one_file(sample: Sample) -> None:
    """An agent of 0.2.0 goes on in a file that a later release put its own tables into."""
    path = sample("mixed-0.2.0-then-8.0.0")
    theirs = raw(path, "SELECT * FROM pl_messages", "SELECT * FROM pl_sessions")
    with SessionStore.open(path) as store:
        assert store.close_session(ROOT) == 3
    assert raw(path, "SELECT * FROM pl_messages", "SELECT * FROM pl_sessions") == theirs


def test_a_file_in_another_journal_mode_waits_for_its_writer(tmp_path: Path) -> None:
    """Switching the mode does not wait by itself."""
    path = tmp_path / "old.db"
    raw(path, script=TABLES)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match=r"database is locked: opening waited 0\.[3-9]") as caught:
            SessionStore.open(path, timeout=0.3)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        timer = Timer(0.3, lambda: writer.execute("COMMIT"))
        timer.start()
        SessionStore.open(path, timeout=30).close()
        timer.join()
