"""Damage, foreign files, keys that share a name: nothing is lost, and it is said."""

from __future__ import annotations

import errno
import json
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionscope.store.io.jsonlines import scan
from sessionscope.store.nanobot import Session, SessionChanged, SessionManager
from sessionscope.store.nanobot.dropin import loading

from .faults import failing
from .helpers import DATA
from .manager_worker import KEY, prepare, rows, state
from .workspaces import DAMAGED, SAMPLES, damaged, encoded, lines, talk, write

MORE = {
    "no metadata in it": b'{"_type": "metadata", "key": "telegram:42"}\n{"role": "user"}\n',
    "empty": b"",
    "blank": b"\n \n",
    "NULs": b"\0" * 50,
    "garbage": b"not json at all\n{[\n",
    "half": b"\xff\xfe\x00{",
    "number": b"12\n",
    "CRLF": lines(talk(3)).replace(b"\n", b"\r\n"),
    "CR": lines(talk(3)).replace(b"\n", b"\r"),
    "UTF-16": lines(talk(3)).decode().encode("utf-16"),
    "no end": lines(talk(3))[:-1],
    "control": lines([*talk(2), {"role": "user", "content": "a"}]).replace(b'"a"', b'"a\tb"'),
    "huge": lines([{"role": "user", "n": 0}]).replace(b'"n": 0', b'"n": ' + b"7" * 5_000),
    "deep": lines(talk(1)) + b'{"role": "user", "content": ' + b"[" * 5_000 + b"]" * 5_000 + b"}\n",
    "two heads": lines(talk(2)) + lines(talk(1, 5), title="other"),
    "head last": lines(talk(2))[200:] + lines([]),
    "metadata is a list": lines(talk(2), metadata=[1, 2]),
    "no date": lines(talk(2), created_at="yesterday"),
    "glued": lines(talk(3)).replace(b"}\n{", b"}{"),
    "repeated": lines([{"role": "user", "content": "same"}] * 3),
}


@pytest.fixture
def manager(tmp_path: Path) -> SessionManager:
    return SessionManager(tmp_path)


def quarantined(manager: SessionManager) -> list[bytes]:
    return [
        path.read_bytes()
        for path in sorted((manager.workspace / "sessions.sessionscope" / "quarantine").glob("*/*.kept"))
    ]


def check_kept(manager: SessionManager, key: str, original: bytes) -> None:
    """Loads and saves; every line of the file is still there or the whole file is kept aside, and all is in order."""
    path = manager._get_session_path(key)
    before = path.stat().st_mtime_ns
    found = manager.get_or_create(key)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (original, before), "looking changes nothing"
    assert len(found.messages) <= len(list(scan(original)))
    found.add_message("user", "one more")
    manager.save(found)
    now = path.read_bytes()
    head, *stored = [json.loads(line) for line in now.split(b"\n")[:-1]]
    assert (head["_type"], head["key"], len(stored)) == ("metadata", key, len(found.messages))
    assert SessionManager(manager.workspace).get_or_create(key).messages == found.messages
    kept = quarantined(manager)
    if kept != [original]:
        assert kept == []
        # What is not there byte for byte was laid out otherwise.
        values = [span.value for span in scan(original) if original[span.start : span.stop].strip() not in now]
        assert [one for one in values if one and one.get("_type") != "metadata" and one not in stored] == []
    manager.save(found)
    manager.append(found, rows(1))
    assert quarantined(manager) == kept, "it is kept once"
    assert [one["key"] for one in manager.list_sessions() if one["path"] == str(path)] == [key]


@pytest.mark.parametrize("path", DAMAGED, ids=lambda path: path.name)
def test_a_damaged_sample(path: Path, manager: SessionManager) -> None:
    expected = json.loads((path / "EXPECTED.json").read_text())
    for file in damaged(path.name, manager.workspace / "sample").iterdir():
        file.rename(manager.sessions_dir / file.name)
    key, file = expected["key"], manager._get_session_path(expected["key"])
    if path.name != "30_zero_bytes_with_full_tmp":
        assert len(manager._load(key).messages) == expected["recoverable"]["count"]
        assert manager.read_session_file(key)["messages"] == manager._load(key).messages
    beside = file.with_name(f"{file.name}.tmp")
    temporary = beside.read_bytes() if beside.exists() else None
    check_kept(manager, key, file.read_bytes())
    assert temporary is None or beside.read_bytes() == temporary


@pytest.mark.parametrize("name", MORE)
def test_more_damage(name: str, manager: SessionManager) -> None:
    manager._get_session_path(KEY).write_bytes(MORE[name])
    check_kept(manager, KEY, MORE[name])


@pytest.mark.parametrize("name", ["NULs", "garbage", "half", "number"])
def test_nothing_but_damage_is_no_session(name: str, manager: SessionManager) -> None:
    manager._get_session_path(KEY).write_bytes(MORE[name])
    assert manager._load(KEY) is None
    assert manager._repair(KEY) is None
    assert manager.read_session_file(KEY) is None
    manager.save(manager.get_or_create(KEY))
    assert quarantined(manager) == [MORE[name]]


@pytest.mark.parametrize("cut", range(1, 400, 13))
def test_a_file_cut_off_anywhere(cut: int, manager: SessionManager) -> None:
    data = lines(talk(3))[:-cut]
    manager._get_session_path(KEY).write_bytes(data)
    if data.strip():
        check_kept(manager, KEY, data)


DATA_OF_THREE = lines([*talk(2), {"role": "tool", "content": 'é {"a": [1, 2]} 😀', "tool_call_id": "c"}])
PIECES = st.binary(max_size=4) | st.sampled_from(
    [
        b"\0",
        b"\n",
        b"{",
        b"}",
        b'"',
        b"\\",
        b"}{",
        b"[1]\n",
        b"\xff",
        b"\r",
        b'{"_type": "metadata"}\n',
        b'{"a": 1}',
        b"\xef\xbb\xbf",
        b", ",
    ]
)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(DATA_OF_THREE)), st.integers(0, 40), PIECES), min_size=1, max_size=3))
def test_bytes_that_somebody_changed(changes: list[tuple[int, int, bytes]]) -> None:
    data = DATA_OF_THREE
    for at, size, piece in changes:
        data = data[:at] + piece + data[at + size :]
    with tempfile.TemporaryDirectory() as folder:
        manager = SessionManager(Path(folder))
        manager._get_session_path(KEY).write_bytes(data)
        check_kept(manager, KEY, data)


def test_quarantine_is_private_and_says_why(manager: SessionManager) -> None:
    path = manager._get_session_path(KEY)
    path.write_bytes(MORE["garbage"])
    manager.save(manager.get_or_create(KEY))
    aside = manager.workspace / "sessions.sessionscope"
    (folder,) = (aside / "quarantine").iterdir()
    assert {stat.S_IMODE(one.stat().st_mode) for one in (aside, aside / "quarantine", folder)} == {0o700}
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert (manifest["what"], manifest["from"]) == (KEY, str(manager.sessions_dir))
    # Nothing that is kept may look like a session to whoever lists one folder too many.
    assert manifest["files"] == [f"{path.name}.kept"]


def test_a_save_that_never_ended_is_left_out_and_kept(manager: SessionManager) -> None:
    prepare(manager.workspace, "unfinished")
    path = manager._get_session_path(KEY)
    data = path.read_bytes()
    assert b"pending_from" in data
    assert b"never sav" in data
    found = manager.get_or_create(KEY)
    assert found.messages == rows(4)
    assert path.read_bytes() == data
    manager.append(found, rows(1))
    assert quarantined(manager) == [data]
    assert b"pending_from" not in path.read_bytes()
    assert state(manager.workspace)[1] == rows(4) + rows(1)


def test_a_save_of_another_that_never_ended_is_no_conflict(manager: SessionManager, tmp_path: Path) -> None:
    """The other process died while this one had the session open."""
    found = manager.get_or_create(KEY)
    found.messages += rows(4)
    found.metadata["title"] = "before"
    manager.save(found)
    path = manager._get_session_path(KEY)
    data = path.read_bytes()
    torn = data.replace(b'"save_id"', b'"pending_from": %d, "save_id"' % len(data), 1)
    torn = torn.replace(b" " * 40, b" " * (40 - len(torn) + len(data)), 1) + b'{"role": "us'
    path.write_bytes(torn)
    manager.append(found, rows(1, "ours"))
    assert quarantined(manager) == [torn]
    assert state(tmp_path) == ["before", rows(4) + rows(1, "ours")]
    assert not (tmp_path / "sessions.sessionscope" / "conflicts").exists()


# -- errors that pass


def test_a_read_error_is_an_error(manager: SessionManager) -> None:
    manager.append(manager.get_or_create(KEY), rows(3))
    manager.invalidate(KEY)
    before = manager._get_session_path(KEY).read_bytes()
    for call in (manager.get_or_create, manager.read_session_file, manager._load):
        with failing(loading, "open", errno.EIO), pytest.raises(OSError, match="Input/output"):
            call(KEY)
        assert KEY not in manager._cache
    assert manager._get_session_path(KEY).read_bytes() == before
    assert manager.get_or_create(KEY).messages == rows(3)


# -- keys


@pytest.mark.parametrize("other", ["telegram_42", "telegram/42", " telegram:42", "telegram?42"])
def test_two_keys_never_share_a_file(other: str, manager: SessionManager) -> None:
    both = [manager.get_or_create(KEY), manager.get_or_create(other)]
    for one in both:
        one.add_message("user", one.key)
    manager.save(both[0])
    with pytest.raises(SessionChanged, match="share that file"):
        manager.save(both[1])
    with pytest.raises(SessionChanged, match=KEY):
        manager.get_or_create(other)
    assert manager.read_session_file(other) is None
    assert manager.delete_session(other) is False
    assert state(manager.workspace)[1] == both[0].messages
    assert [one["key"] for one in manager.list_sessions()] == [KEY]
    (kept,) = (manager.workspace / "sessions.sessionscope" / "conflicts").glob("*/*.kept")
    assert json.loads(kept.read_bytes().splitlines()[1])["content"] == other
    assert manager.delete_session(KEY)
    manager.save(both[1])
    assert [one["key"] for one in manager.list_sessions()] == [other]


def test_whatever_is_listed_can_be_loaded_saved_and_deleted(manager: SessionManager) -> None:
    for name, key in (
        ("telegram_42", KEY),
        ("telegram_42 (copy)", KEY),
        ("my_chan_1", None),
        ("heartbeat", None),
        ("a_b", "a:b"),
        ("x_y", 7),
    ):
        write(manager.sessions_dir, talk(2), f"{name}.jsonl", key)  # type: ignore[arg-type]
    listed = manager.list_sessions()
    assert len({one["key"] for one in listed}) == len(listed) == 6
    for one in listed:
        path = Path(one["path"])
        assert manager._get_session_path(one["key"]) == path
        found = manager.get_or_create(one["key"])
        assert found.messages == talk(2)
        found.add_message("user", "hi")
        manager.save(found)
        assert [row["path"] for row in manager.list_sessions() if row["key"] == one["key"]] == [str(path)]
        assert manager.delete_session(one["key"])
        assert not path.exists()
    assert manager.list_sessions() == []


@pytest.mark.parametrize("length", [180, 230, 245])
def test_long_keys(length: int, manager: SessionManager) -> None:
    key = "telegram:".ljust(length, "x")
    found = manager.get_or_create(key)
    for _ in range(3):
        found.add_message("user", "hi")
        manager.save(found)
        found.messages[0]["content"] += "!"
    manager._get_session_path(key).open("ab").write(b"{")
    manager.invalidate(key)
    manager.save(manager.get_or_create(key))
    assert len(quarantined(manager)) == 1
    assert len(SessionManager(manager.workspace).get_or_create(key).messages) == 3


# -- files of other releases


def legacy(manager: SessionManager, key: str | None = KEY) -> Path:
    return write(manager.legacy_sessions_dir, talk(2), manager._get_session_path(KEY).name, key)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return tmp_path / "home"


def test_a_file_of_the_first_releases(home: Path, tmp_path: Path) -> None:
    manager = SessionManager(tmp_path / "ws")
    path = legacy(manager)
    path.chmod(0o600)
    data = path.read_bytes()
    assert manager.list_sessions() == []
    assert manager.read_session_file(KEY) is None
    assert path.exists()
    assert manager.get_or_create(KEY).messages == talk(2)
    assert not path.exists()
    now = manager._get_session_path(KEY)
    assert (now.read_bytes(), stat.S_IMODE(now.stat().st_mode)) == (data, 0o600)
    legacy(manager)
    assert manager.delete_session(KEY)
    assert not path.exists()
    assert SessionManager(tmp_path / "ws").get_or_create(KEY).messages == []


@pytest.mark.parametrize(
    ("workspace", "key", "moved"),
    [("ws", None, False), (".nanobot/workspace", None, True), (".nanobot/workspace", "telegram_42", False)],
)
def test_whose_a_file_of_the_first_releases_is(workspace: str, key: str | None, moved: bool, home: Path) -> None:
    manager = SessionManager(home / workspace)
    path = legacy(manager, key)
    assert manager.get_or_create(KEY).messages == (talk(2) if moved else [])
    assert path.exists() is not moved
    assert manager.delete_session(KEY) is moved
    assert path.exists() is not moved


@pytest.mark.parametrize(
    "data",
    [
        lines(talk(2), last_archived=1),
        lines([{"_type": "provider_state", "state": {}}, *talk(2)]),
    ],
    ids=["archived", "state"],
)
def test_a_file_of_a_later_release_is_left_to_it(data: bytes, manager: SessionManager) -> None:
    path = manager._get_session_path(KEY)
    path.write_bytes(data)
    assert [one["key"] for one in manager.list_sessions()] == [KEY]
    assert manager.read_session_file(KEY)["messages"] == talk(2)
    with pytest.raises(SessionChanged, match=r"nanobot 0\.3; use that release"):
        manager.get_or_create(KEY)
    with pytest.raises(SessionChanged, match=r"nanobot 0\.3"):
        manager.save(Session(KEY, talk(2)))
    assert manager.delete_session(KEY) is False
    assert path.read_bytes() == data


def test_a_name_of_a_later_release_is_left_to_it(manager: SessionManager) -> None:
    path = write(manager.sessions_dir, talk(2), f"{encoded(KEY)}.jsonl")
    assert [one["key"] for one in manager.list_sessions()] == [KEY]
    for call in (manager.get_or_create, lambda key: manager.save(Session(key, talk(1)))):
        with pytest.raises(SessionChanged, match=r"nanobot 0\.3; use that release"):
            call(KEY)
    assert manager.delete_session(KEY) is False
    assert list(manager.sessions_dir.glob("*.jsonl")) == [path]


def test_the_samples_load_and_are_saved_as_they_are(manager: SessionManager) -> None:
    for sample in ("v0.2.0", "loop-v0.2.0"):
        for path in (SAMPLES / sample).glob("*.jsonl"):
            if path.name == "memory_history.jsonl":
                continue
            data = path.read_bytes()
            copied = manager.sessions_dir / path.name
            copied.write_bytes(data)
            key = json.loads(data.splitlines()[0])["key"]
            manager.save(manager.get_or_create(key), fsync=True)
            assert copied.read_bytes() == data
            manager.append(manager.get_or_create(key), rows(1))
            assert copied.read_bytes().splitlines()[1:-1] == data.splitlines()[1:]
    assert not (manager.workspace / "sessions.sessionscope").exists()


def test_samples_are_where_they_should_be() -> None:
    assert DAMAGED
    assert (DATA / "nanobot").is_dir()
