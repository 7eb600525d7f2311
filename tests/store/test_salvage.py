"""Salvage: what is on pages that can be read is in the new database, value by value; what is not is told."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import (
    Cancelled,
    Damaged,
    Misused,
    NotAnArchive,
    Refused,
    Salvaged,
    StoreError,
    diagnose,
    salvage,
)

from .defects import dump, sample
from .helpers import NAMES, ROOT, build, fill, only, raw

PAGE = 4096


def rows_of(path: Path) -> set[Any]:
    return set(dump(path))


def settled(path: Path) -> Path:
    """A sample with some more, larger sessions, so that trees have several levels and rows overflow pages."""
    sample(path)
    for many, size in ((300, 50), (40, 9_000)):
        fill(
            path,
            f"long-{size}",
            [{"seq": seq, "role": "user", "content": f"{seq} " + "x" * size} for seq in range(1, many + 1)],
        )
    raw(path)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return settled(tmp_path_factory.mktemp("whole") / "whole.db")


def damaged(whole: Path, path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(whole.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def saved(path: Path) -> tuple[Salvaged, Path]:
    target = path.with_suffix(".saved.db")
    target.unlink(missing_ok=True)
    before = path.read_bytes()
    found = salvage(path, target)
    assert path.read_bytes() == before
    assert raw(target, "PRAGMA integrity_check") == [[("ok",)]]
    return found, target


@pytest.mark.parametrize("name", NAMES)
def test_an_intact_database_is_copied_value_by_value(tmp_path: Path, name: str) -> None:
    path = sample(tmp_path / "a.db", name)
    found, target = saved(path)
    assert found.whole
    assert dump(target) == dump(path)
    for pragma in ("user_version", "page_size", "auto_vacuum", "encoding", "application_id"):
        assert raw(target, f"PRAGMA {pragma}") == raw(path, f"PRAGMA {pragma}")
    schema = "SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name"
    assert raw(target, schema) == raw(path, schema)


def only_there(after: set[Any], before: set[Any], found: Salvaged) -> None:
    """Nothing is made up; a row that lost a part of its text to another page is told of."""
    made = {row for row in after - before if not row[0].startswith("sqlite_")}
    keys = {(row[0], *row[1:6]) for row in before}
    assert {(row[0], *row[1:6]) for row in made} <= keys
    assert not made or found.pages or any("lack a part" in note for note in found.notes)


def test_noise_over_any_page_costs_only_what_stood_there(whole: Path, tmp_path: Path) -> None:
    before = rows_of(whole)
    pages = whole.stat().st_size // PAGE
    per_page = {}
    for number in (*range(1, 12), *range(12, pages + 1, 5)):
        noise = random.Random(number).randbytes(PAGE)

        def change(data: bytearray, number: int = number, noise: bytes = noise) -> None:
            data[(number - 1) * PAGE : number * PAGE] = noise

        path = damaged(whole, tmp_path / "noisy.db", change)
        told = list(diagnose(path))
        found, target = saved(path)
        after = rows_of(target)
        only_there(after, before, found)
        lost = {row for row in before - after if not row[0].startswith("sqlite_")}
        per_page[number] = len(lost)
        assert not lost or not found.whole or found.notes, f"page {number} cost rows and nothing says so"
        if lost:
            assert told, f"page {number} cost {len(lost)} rows and the doctor says nothing"
    # A leaf holds some dozen rows; without its inner page a table is read leaf by leaf, so none costs more than that.
    assert max(per_page.values()) < 100
    assert sum(1 for lost in per_page.values() if lost) > 5


@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.95])
def test_a_file_that_ends_too_early_gives_what_is_left(whole: Path, tmp_path: Path, share: float) -> None:
    data = whole.read_bytes()
    path = tmp_path / "short.db"
    path.write_bytes(data[: int(len(data) * share)])
    codes = {finding.code for finding in diagnose(path)}
    assert codes & {"truncated-file", "damaged-pages", "not-a-database"}
    try:
        found, target = saved(path)
    except Damaged:
        assert share < 0.1
        return
    only_there(rows_of(target), rows_of(whole), found)
    assert not found.whole or "pages too early" in " ".join(found.notes)


def test_without_a_header_and_a_schema_the_tables_are_made_as_power_loop_makes_them(
    whole: Path, tmp_path: Path
) -> None:
    path = damaged(whole, tmp_path / "a.db", lambda data: data.__setitem__(slice(0, PAGE), bytes(PAGE)))
    assert {finding.code for finding in diagnose(path)} == {"not-a-database"}
    found, target = saved(path)
    assert rows_of(target) >= {row for row in rows_of(whole) if row[0] in ("messages", "sessions", "session_state")}
    assert {table.name for table in found.tables} >= {"messages", "sessions", "session_state", "compactions"}
    assert only(target).reader().resolve(ROOT)


def test_what_stands_in_a_wal_is_saved_too(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    shutil.copyfile(whole, path)
    source = tmp_path / "source.db"
    shutil.copyfile(whole, source)
    with closing(sqlite3.connect(source, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("PRAGMA wal_autocheckpoint=0")
        conn.execute("UPDATE sessions SET system_prompt = 'from the wal'")
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{source}{suffix}", f"{path}{suffix}")
    found, target = saved(path)
    assert found.whole
    assert {prompt for (prompt,) in raw(target, "SELECT system_prompt FROM sessions")[0]} == {"from the wal"}
    assert os.path.getsize(f"{path}-wal") > 0


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON messages BEGIN DELETE FROM sessions; END",
        "CREATE VIEW v AS SELECT load_extension('x')",
        "CREATE TABLE other AS SELECT 1 AS one",
        "CREATE TABLE strange (a, b GENERATED ALWAYS AS (a || 'x') STORED)",
    ],
)
def test_a_schema_is_a_strangers(tmp_path: Path, statement: str) -> None:
    path = sample(tmp_path / "a.db")
    raw(path, statement)
    _, target = saved(path)
    kept = {row for row in rows_of(path) if row[0] in ("sessions", "messages")}
    assert kept <= rows_of(target)
    assert raw(target, "SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')") == [[]]


def test_values_of_every_kind_come_over(tmp_path: Path) -> None:
    path = fill(build(tmp_path / "a.db"), "s", [{"seq": seq, "role": "user"} for seq in range(1, 9)])
    for seq, value in enumerate(
        ("9e999", "-1", "x'00ff'", "CAST(x'ff41' AS TEXT)", "1.5", "9223372036854775807", "''", "'\u00e4\u4f60'"), 1
    ):
        raw(path, f"UPDATE messages SET content = {value} WHERE seq = {seq}")
    _, target = saved(path)
    assert dump(target) == dump(path)


def test_what_cannot_be_is_said_in_one_sentence(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAnArchive, match="does not exist"):
        salvage(tmp_path / "missing.db", tmp_path / "new.db")
    with pytest.raises(Misused, match="is there already"):
        salvage(whole, whole)
    with pytest.raises(Refused, match="cannot be written"):
        salvage(whole, tmp_path / "no" / "folder.db")
    with pytest.raises(Cancelled):
        salvage(whole, tmp_path / "new.db", cancel=lambda: True)
    text = tmp_path / "text.db"
    text.write_text("this is a text, and no database at all\n" * 200)
    with pytest.raises(Damaged, match="nothing in it looks like a page"):
        salvage(text, tmp_path / "new.db")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["text.db"]


@pytest.mark.parametrize("seed", range(12))
def test_any_damage_gives_an_answer(whole: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)

    def change(data: bytearray) -> None:
        for _ in range(rng.randint(1, 400)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if seed % 3 == 0:
            at, size = rng.randrange(len(data)), rng.randrange(20_000)
            data[at : at + size] = bytes(size)

    path = damaged(whole, tmp_path / "a.db", change)
    list(diagnose(path))
    with suppress(StoreError):
        saved(path)
