"""Values that cannot be written, values that look alike, and what else a file is besides its rows."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store.nanobot import SessionChanged, SessionManager, Unwritable
from sessionscope.store.nanobot.dropin import session, session_manager

from .manager_worker import KEY, rows, state
from .workspaces import talk, write


@pytest.fixture
def manager(tmp_path: Path) -> SessionManager:
    return SessionManager(tmp_path)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({1, 2}, r"messages\[1\]\['a'\]"),
        ({"x": [0, {"y": b""}]}, r"messages\[1\]\['a'\]\['x'\]\[1\]\['y'\]"),
        (datetime(2026, 1, 1), r"messages\[1\]\['a'\]"),
        (10**5000, r"messages\[1\]\['a'\]"),
        ({1: "a", "1": "b"}, r"messages\[1\]\['a'\]"),
        ({(1,): 2}, r"messages\[1\]\['a'\]"),
        ([({"x": {None: 1, "null": 2}},)], r"messages\[1\]\['a'\]\[0\]\[0\]\['x'\]"),
    ],
    ids=["set", "bytes", "date", "huge", "two keys", "no key", "two keys within a tuple"],
)
@pytest.mark.parametrize("known", [False, True])
def test_what_cannot_be_written_is_refused_with_its_place(
    value: Any,
    place: str,
    known: bool,
    manager: SessionManager,
) -> None:
    found = manager.get_or_create(KEY)
    found.messages += rows(1)
    if known:
        found.messages += rows(1)
    manager.save(found)
    before = manager._get_session_path(KEY).read_bytes()
    row = {"role": "user", "a": value}
    if known:
        found.messages[1] = row
        with pytest.raises(Unwritable, match=place):
            manager.save(found)
    else:
        with pytest.raises(Unwritable, match=place):
            manager.append(found, [row])
        assert found.messages == rows(1)
    assert isinstance(Unwritable(), TypeError)
    assert manager._get_session_path(KEY).read_bytes() == before
    assert manager.flush_all() == 0**known
    found.messages[1:] = rows(1)
    manager.save(found)


def test_more_that_cannot_be_written(manager: SessionManager) -> None:
    found = manager.get_or_create(KEY)
    circle: dict[str, Any] = {"role": "user"}
    circle["self"] = [circle]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for row, place in (
        (circle, "messages"),
        ("text", "messages"),
        ({"_type": "metadata"}, "_type"),
        ({"role": "user", "content": deep}, r"messages\[0\]"),
    ):
        found.messages = [row]  # type: ignore[list-item]
        with pytest.raises(Unwritable, match=place):
            manager.save(found)
    found.messages = rows(1)
    found.metadata = {"a": {"b": object()}}
    with pytest.raises(Unwritable, match=r"metadata\['a'\]\['b'\]"):
        manager.save(found)
    found.metadata, found.updated_at = {}, None  # type: ignore[assignment]
    with pytest.raises(Unwritable, match="updated_at"):
        manager.save(found)
    assert not manager._get_session_path(KEY).exists()
    assert manager.flush_all() == 0


@pytest.mark.parametrize(
    "value", ["\ud83d", float("nan"), float("inf"), {1: "a"}, ("a", ["b"]), 10**4000, -0.0, True, 1]
)
def test_odd_values_that_can_be_written(value: Any, manager: SessionManager) -> None:
    """Half a surrogate pair as its escape; NaN as nanobot does; other keys and tuples as JSON has them."""
    found = manager.get_or_create(KEY)
    found.metadata["odd"] = value
    manager.append(found, [{"role": "user", "content": value}, *rows(2)])
    expected = json.dumps(json.loads(json.dumps([value, value])))
    for change in (lambda: None, lambda: found.messages.append(rows(1)[0]), lambda: found.messages[1].clear()):
        change()
        manager.save(found)
        again = SessionManager(manager.workspace).get_or_create(KEY)
        assert json.dumps([again.messages[0]["content"], again.metadata["odd"]]) == expected
        again.messages[1]["more"] = value
        assert len(again.messages) == len(found.messages)
    other = SessionManager(manager.workspace)
    found.messages += rows(1)
    other.append(other.get_or_create(KEY), rows(1, "theirs"))
    manager.save(found)
    assert [row.get("content") for row in found.messages[-2:]] == ["theirs 0", "said 0"]


@pytest.mark.parametrize("pair", [(1, True), (1, 1.0), (0.0, -0.0), ("1", 1), (None, False), ([], {}), ("", None)])
def test_values_that_are_alike_are_not_the_same(pair: tuple[Any, Any], manager: SessionManager) -> None:
    found = manager.get_or_create(KEY)
    found.messages.append({"role": "user", "content": [{"x": pair[0]}]})
    found.metadata["x"] = pair[0]
    manager.save(found)
    found.messages[0]["content"][0]["x"] = pair[1]
    manager.save(found)
    found.metadata["x"] = pair[1]
    manager.save(found)
    again = SessionManager(manager.workspace).get_or_create(KEY)
    assert repr([again.messages[0]["content"][0]["x"], again.metadata["x"]]) == repr([pair[1]] * 2)


@pytest.mark.parametrize("offset", [999, -1, "2", 1.5, [1], None, True])
def test_an_offset_that_cannot_be(offset: Any, manager: SessionManager, caplog: pytest.LogCaptureFixture) -> None:
    write(manager.sessions_dir, talk(4), last_consolidated=offset)
    with caplog.at_level(logging.WARNING):
        found = manager.get_or_create(KEY)
    assert (found.last_consolidated, found.messages) == (0, talk(4))
    assert "last_consolidated" in caplog.text
    found.last_consolidated = offset
    found.add_message("user", "hi")
    caplog.clear()
    manager.save(found)
    assert "last_consolidated" in caplog.text
    assert json.loads(manager._get_session_path(KEY).read_bytes().splitlines()[0])["last_consolidated"] == 0


# -- the file itself


def test_mode_and_links_stay(manager: SessionManager, tmp_path: Path) -> None:
    found, path = manager.get_or_create(KEY), manager._get_session_path(KEY)
    manager.append(found, rows(3))
    path.chmod(0o600)
    elsewhere = tmp_path / "elsewhere" / "real.jsonl"
    elsewhere.parent.mkdir()
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    for change in (
        lambda: found.messages[0].update(content="other"),
        lambda: found.messages.extend(rows(1)),
        found.clear,
    ):
        change()
        manager.save(found)
        assert path.is_symlink()
        assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o600
        assert state(tmp_path)[1] == found.messages
    assert [one.name for one in elsewhere.parent.iterdir()] == ["real.jsonl"]


def test_a_hard_link_is_a_copy_that_stays(manager: SessionManager, tmp_path: Path) -> None:
    found, path = manager.get_or_create(KEY), manager._get_session_path(KEY)
    manager.append(found, rows(3))
    os.link(path, tmp_path / "backup")
    before = path.read_bytes()
    manager.append(found, rows(1))
    assert (tmp_path / "backup").read_bytes() == before
    assert state(tmp_path)[1] == found.messages


def test_a_file_that_may_only_be_read_is_replaced(manager: SessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """As upstream does; its mode stays."""
    found, path = manager.get_or_create(KEY), manager._get_session_path(KEY)
    manager.append(found, rows(1))
    path.chmod(0o400)
    monkeypatch.setattr(os, "access", lambda path, mode: os.stat(path).st_mode & 0o200 > 0)
    inode = path.stat().st_ino
    manager.append(found, rows(1), fsync=True)
    manager.save(found, fsync=True)
    assert state(manager.workspace)[1] == found.messages
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert path.stat().st_ino != inode


def test_what_a_killed_save_left_is_swept_up(manager: SessionManager) -> None:
    manager.append(manager.get_or_create(KEY), rows(1))
    left = manager.sessions_dir / f".telegram_42.jsonl.{'0a' * 8}.tmp"
    others = [manager.sessions_dir / "telegram_42.jsonl.tmp", manager.sessions_dir / f".gone.jsonl.{'0a' * 8}.tmp"]
    for path in (left, *others):
        path.write_bytes(b"{}")
    again = SessionManager(manager.workspace)
    again.append(again.get_or_create(KEY), rows(1))
    assert not left.exists()
    assert all(path.exists() for path in others)


def test_a_clock_that_goes_backwards(manager: SessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    found = manager.get_or_create(KEY)
    manager.append(found, rows(1))
    late = found.updated_at

    class Early(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Early:
            return cls(2001, 1, 1, tzinfo=tz)

    for module in (session_manager, session):
        monkeypatch.setattr(module, "datetime", Early)
    path = manager._get_session_path(KEY)
    found.created_at, found.updated_at = Early(2026, 1, 1), Early.fromisoformat(late.isoformat())
    manager.save(found)
    for at in range(3):
        manager.append(found, rows(1))
        assert found.updated_at == late
        found.messages[0]["content"] = f"changed {at}"
        manager.save(found)
        os.utime(path, ns=(0, 0))
    found.add_message("user", "early")
    manager.save(found)
    assert state(manager.workspace)[1] == found.messages


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "deepcopy", "pickle"]
)
def test_copies_of_a_session(make: Any, manager: SessionManager) -> None:
    found = manager.get_or_create(KEY)
    manager.append(found, rows(3))
    other = make(found)
    assert other == found
    other.messages = [*other.messages, *rows(1, "copied")]
    manager.append(found, rows(1, "since"))
    before = manager._get_session_path(KEY).read_bytes()
    with pytest.raises(SessionChanged):
        manager.save(other)
    assert manager._get_session_path(KEY).read_bytes() == before
    last = make(found)
    last.messages = [*last.messages, *rows(1, "copied")]
    manager.save(last)
    assert state(manager.workspace)[1] == last.messages
    assert manager.get_or_create(KEY) is last


def test_an_archive_callback_that_raises(manager: SessionManager) -> None:
    found = manager.get_or_create(KEY)
    manager.append(found, rows(10))
    before = manager._get_session_path(KEY).read_bytes()

    def failing(_: Any) -> None:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        found.enforce_file_cap(failing, 4)
    manager.save(found)
    assert manager._get_session_path(KEY).read_bytes() == before
    found.enforce_file_cap(None, 4)
    manager.save(found)
    assert len(state(manager.workspace)[1]) == 4


def test_members_that_nobody_knows_stay(manager: SessionManager) -> None:
    write(manager.sessions_dir, talk(2), our_own={"a": 1})
    found = manager.get_or_create(KEY)
    for _ in range(2):
        found.add_message("user", "hi")
        manager.save(found)
        found.messages[0]["content"] = "changed"
        head = json.loads(manager._get_session_path(KEY).read_bytes().splitlines()[0])
        assert head["our_own"] == {"a": 1}
