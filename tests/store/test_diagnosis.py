"""Diagnosis of whatever is at a place: each archive's own doctor, and words where nothing opens."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessionscope.store import Cancelled, NotAnArchive, UnknownSession, diagnose

from .defects import DEFECTS, made, sample
from .helpers import DATA, ROOT, raw
from .test_nanobot_repair import DAMAGED, sessions


def codes(place: Path | str, session: str | None = None) -> set[str]:
    return {finding.code for finding in diagnose(place, session)}


def test_each_layout_of_a_file_and_one_by_its_prefix(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db", "mixed-0.2.0-then-8.0.0")
    raw(path, "UPDATE pl_session_state SET next_seq = 1")
    assert "next-seq-behind" in codes(path)
    assert "next-seq-behind" in codes(f"{path}#pl_")
    assert "next-seq-behind" not in codes(f"{path}#")
    with pytest.raises(NotAnArchive, match="no tables with prefix"):
        codes(f"{path}#other_")


def test_one_session_by_its_id(tmp_path: Path) -> None:
    path = made(tmp_path / "a.db", DEFECTS["half an append"])
    assert "next-seq-behind" in codes(path, ROOT)
    assert codes(path, "sess_archived00000000000000") == set()
    with pytest.raises(UnknownSession):
        codes(path, "nobody")


def test_a_folder_and_one_file_of_nanobots(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=DAMAGED["no-json"], slack_1__jsonl=DAMAGED["bad-date"])
    assert codes(folder) >= {"no-json", "bad-date"}
    assert codes(folder / "telegram_42.jsonl") == {"no-json"}
    assert codes(tmp_path) >= {"no-json", "bad-date"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty-file"),
        (b"SQLite format 3\0" + bytes(200), "not-a-database"),
        (bytes(8_192), "not-a-database"),
    ],
)
def test_a_file_that_is_a_database_no_more(tmp_path: Path, data: bytes, code: str) -> None:
    path = tmp_path / "power_loop_sessions.db"
    path.write_bytes(data)
    assert codes(path) == {code}
    assert path.read_bytes() == data


def test_what_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with closing(sqlite3.connect(tmp_path / "other.db")) as conn:
        conn.execute("CREATE TABLE things (a)")
    for name in ("a.txt", "missing.db"):
        with pytest.raises(NotAnArchive):
            codes(tmp_path / name)
    assert codes(tmp_path / "other.db") == {"no-sessions"}


def test_a_hot_journal_is_told(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA cache_size=1")
        conn.execute("PRAGMA cache_spill=1")
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("UPDATE messages SET content = hex(randomblob(2000))")
        for suffix in ("", "-journal"):
            shutil.copyfile(f"{path}{suffix}", tmp_path / f"hot.db{suffix}")
        conn.execute("ROLLBACK")
    assert "hot-journal" in codes(tmp_path / "hot.db")
    assert (tmp_path / "hot.db-journal").exists()


def test_it_stops(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        list(diagnose(sample(tmp_path / "a.db"), cancel=lambda: True))
    with pytest.raises(Cancelled):
        list(diagnose(DATA / "nanobot" / "v0.2.0", cancel=lambda: True))
