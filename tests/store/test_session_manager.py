"""`SessionManager` as upstream has it: names, signatures, files that either reads; recorded, and where it is installed
side by side with the real one.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessionscope.store.nanobot.dropin.session_manager as ours
from sessionscope.store.nanobot import FILE_MAX_MESSAGES, Session, SessionManager

KEY = "telegram:42"
METHODS = {
    "__init__": "(self, workspace)",
    "_get_legacy_session_path": "(self, key)",
    "_get_session_path": "(self, key)",
    "_load": "(self, key)",
    "_repair": "(self, key)",
    "_session_payload": "(session)",
    "delete_session": "(self, key)",
    "flush_all": "(self)",
    "get_or_create": "(self, key)",
    "invalidate": "(self, key)",
    "list_sessions": "(self)",
    "read_session_file": "(self, key)",
    "safe_key": "(key)",
    "save": "(self, session, *, fsync=False)",
}
"""What 0.2.0's class has, by `inspect` of the package."""
ATTRIBUTES = ["_cache", "legacy_sessions_dir", "sessions_dir", "workspace"]
LISTED = ["created_at", "key", "path", "preview", "title", "updated_at"]
READ = ["created_at", "key", "messages", "metadata", "updated_at"]
HEAD = ["_type", "key", "created_at", "updated_at", "metadata", "last_consolidated"]

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=12)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant"]),
            "content": VALUES,
            "timestamp": st.just("2026-05-16T10:00:00"),
        },
        optional={"media": VALUES, "latency_ms": st.integers(0, 9)},
    ),
    max_size=4,
)
METADATA = st.dictionaries(st.sampled_from(["title", "goal_state", "x"]), VALUES)
KEYS = st.sampled_from([KEY, "cli:direct", "heartbeat", "slack:C1:17.5", "ünï:çøde", "my_chan:1"])


def plain(function: Any) -> str:
    """A signature without its annotations."""
    signature = inspect.signature(function)
    parameters = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def upstream(release: str) -> Any:
    """The real package's module, of just this release."""
    module = pytest.importorskip("nanobot.session.manager")
    try:
        found = version("nanobot-ai")
    except PackageNotFoundError:
        found = "none"
    if found != release:
        pytest.skip(f"nanobot-ai {release} is not installed")
    return module


def check_names(module: Any) -> None:
    for name, signature in METHODS.items():
        assert plain(getattr(module.SessionManager, name)) == signature
    for name in ("Session", "SessionManager", "FILE_MAX_MESSAGES"):
        assert hasattr(module, name)


# -- recorded


def test_names_and_signatures(tmp_path: Path) -> None:
    check_names(ours)
    manager = SessionManager(tmp_path / "ws")
    assert all(hasattr(manager, name) for name in ATTRIBUTES)
    assert manager.sessions_dir == tmp_path / "ws" / "sessions"
    assert manager.sessions_dir.is_dir()
    assert manager.legacy_sessions_dir == Path.home() / ".nanobot" / "sessions"
    assert manager._get_session_path("a:b/c") == manager.sessions_dir / "a_b_c.jsonl"
    assert manager.safe_key("a:b") == SessionManager.safe_key("a:b") == "a_b"
    assert FILE_MAX_MESSAGES == ours.FILE_MAX_MESSAGES == 2000


def test_what_upstream_does(tmp_path: Path) -> None:
    manager = SessionManager(tmp_path)
    session = manager.get_or_create(KEY)
    assert session == Session(KEY, created_at=session.created_at, updated_at=session.updated_at)
    assert manager.get_or_create(KEY) is session
    assert manager._load(KEY) is None
    assert manager.read_session_file(KEY) is None
    assert manager.list_sessions() == []
    assert manager.delete_session("cli:direct") is False
    session.add_message("user", "hello  you")
    session.metadata["title"] = "A talk"
    updated = session.updated_at
    manager.save(session)
    assert session.updated_at == updated
    path = manager._get_session_path(KEY)
    head, row = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [name for name in head if name in HEAD] == HEAD
    assert row == session.messages[0]
    (listed,) = manager.list_sessions()
    assert sorted(listed) == LISTED
    assert listed == {
        "key": KEY,
        "created_at": session.created_at.isoformat(),
        "updated_at": updated.isoformat(),
        "title": "A talk",
        "preview": "hello you",
        "path": str(path),
    }
    read = manager.read_session_file(KEY)
    assert read is not None
    assert sorted(read) == READ
    assert read == manager._session_payload(session)
    manager.invalidate(KEY)
    manager.invalidate(KEY)
    again = manager.get_or_create(KEY)
    assert again is not session
    assert again == session
    assert manager._repair(KEY) == session
    other = manager.get_or_create("cli:direct")
    assert manager.flush_all() == 2
    assert manager._get_session_path(other.key).exists()
    assert manager.delete_session(KEY) is True
    assert KEY not in manager._cache
    assert manager.delete_session(KEY) is False
    by_hand = Session("by:hand", [{"role": "user", "content": "x"}])
    manager.save(by_hand)
    assert manager.get_or_create("by:hand") is by_hand
    manager.save(Session("by:hand", [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]))
    assert len(manager.get_or_create("by:hand").messages) == 2
    assert {file.suffix for file in manager.sessions_dir.iterdir()} <= {".jsonl", ".lock"}


def test_the_newest_is_listed_first(tmp_path: Path) -> None:
    manager = SessionManager(tmp_path)
    for day in (2, 9, 5):
        manager.save(Session(f"cli:{day}", updated_at=datetime(2026, 1, day)))
    assert [one["key"] for one in manager.list_sessions()] == ["cli:9", "cli:5", "cli:2"]
    manager._get_session_path("cli:5").write_text('{"_type": "metadata", "key": "cli:5", "updated_at": null}\n')
    assert [one["key"] for one in manager.list_sessions()] == ["cli:9", "cli:2", "cli:5"]


def test_a_save_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    manager = SessionManager(tmp_path)
    session = manager.get_or_create(KEY)
    session.add_message("user", "hi")
    manager.save(session)
    path = manager._get_session_path(KEY)
    before = path.stat()
    for fsync in (False, True):
        manager.save(session, fsync=fsync)
    assert path.stat() == before


def test_a_session_that_grew_is_appended_to(tmp_path: Path) -> None:
    manager = SessionManager(tmp_path)
    session = manager.get_or_create(KEY)
    session.add_message("user", "hi")
    manager.save(session)
    path = manager._get_session_path(KEY)
    inode, before = path.stat().st_ino, path.read_bytes()
    for at in range(20):
        session.add_message("assistant", f"{at}")
        session.metadata["title"] = "t" * at
        manager.save(session)
        manager.append(session, [{"role": "user", "content": "x"}])
    now = path.read_bytes()
    assert path.stat().st_ino == inode
    cut = before.index(b"\n") + 1
    assert now.index(b"\n") + 1 == cut
    assert now[cut:].startswith(before[cut:])
    session.metadata["title"] = "t" * 9_000
    manager.save(session)
    assert path.stat().st_ino != inode
    assert SessionManager(tmp_path).get_or_create(KEY) == session


def test_a_replace_copies_what_did_not_change(tmp_path: Path) -> None:
    """Byte for byte, however it was written."""
    manager = SessionManager(tmp_path)
    rows = [{"role": "user", "content": f"é {at}"} for at in range(30)]
    lines = [
        json.dumps(row, ensure_ascii=bool(at % 2), separators=((",", ":"), None)[at % 3 == 0]).encode() + b"\n"
        for at, row in enumerate(rows)
    ]
    manager._get_session_path(KEY).write_bytes(b'{"_type":"metadata","key":"telegram:42"}\n' + b"".join(lines))
    session = manager.get_or_create(KEY)
    moved = session.messages.pop(20)
    session.messages.insert(3, moved)
    del session.messages[10:12]
    session.messages[15] = {"role": "user", "content": "other"}
    lines.insert(3, lines.pop(20))
    del lines[10:12]
    lines[15] = b'{"role": "user", "content": "other"}\n'
    for _ in range(2):
        manager.save(session)
        assert manager._get_session_path(KEY).read_bytes().splitlines(True)[1:] == lines
        session.metadata["more"] = "x" * 5_000


# -- side by side


def fill(session: Any, rows: list[Any], metadata: dict[str, Any]) -> None:
    session.messages.extend(json.loads(json.dumps(rows)))
    session.metadata.update(json.loads(json.dumps(metadata)))
    session.last_consolidated = len(rows) // 2


def same(one: Any, other: Any) -> None:
    for name in ("key", "messages", "created_at", "updated_at", "metadata", "last_consolidated"):
        assert getattr(one, name) == getattr(other, name)


def alike(one: dict[str, Any]) -> dict[str, Any]:
    """A row of a listing; a title of blanks alone is none to us."""
    return one | {"title": one["title"] if one["title"].strip() else ""}


def test_the_facts_are_upstreams(tmp_path: Path) -> None:
    module = upstream("0.2.0")
    check_names(module)
    manager = module.SessionManager(tmp_path)
    assert sorted(vars(manager)) == ATTRIBUTES
    assert manager.legacy_sessions_dir == SessionManager(tmp_path).legacy_sessions_dir
    manager.save(module.Session(KEY))
    assert sorted(manager.list_sessions()[0]) == LISTED
    assert sorted(manager.read_session_file(KEY)) == READ
    assert list(json.loads(manager._get_session_path(KEY).read_bytes())) == HEAD
    assert module.FILE_MAX_MESSAGES == FILE_MAX_MESSAGES


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(KEYS, st.booleans(), ROWS, METADATA, st.booleans()), max_size=6))
def test_either_goes_on_with_what_the_other_wrote(steps: list[Any]) -> None:
    module = upstream("0.2.0")
    with tempfile.TemporaryDirectory() as folder:
        managers = [SessionManager(Path(folder)), module.SessionManager(Path(folder))]
        for key, which, rows, metadata, change in steps:
            manager, other = managers[which], managers[not which]
            for one in managers:
                one.invalidate(key)
            session = manager.get_or_create(key)
            if change and session.messages:
                session.messages[0]["content"] = "changed"
            fill(session, rows, metadata)
            manager.save(session)
            other.invalidate(key)
            same(other.get_or_create(key), session)
            assert managers[0].read_session_file(key) == managers[1].read_session_file(key)
            listings = [sorted(map(alike, one.list_sessions()), key=lambda row: row["key"]) for one in managers]
            assert listings[0] == listings[1]
        assert not Path(folder, "sessions.sessionscope").exists()


@settings(max_examples=30)
@given(key=KEYS, rows=ROWS, metadata=METADATA, more=ROWS)
def test_the_later_release_reads_what_ours_wrote(key: str, rows: list[Any], metadata: Any, more: list[Any]) -> None:
    module = upstream("0.3.5")
    with tempfile.TemporaryDirectory() as folder:
        manager = SessionManager(Path(folder, "ours"))
        session = manager.get_or_create(key)
        fill(session, rows, metadata)
        manager.save(session)
        manager.append(session, more)
        theirs = module.SessionManager(Path(folder, "theirs"), sessions_root=Path(folder, "root"))
        path = theirs._get_session_path(key)
        path.write_bytes(manager._get_session_path(key).read_bytes())
        found = theirs.get_or_create(key)
        same(found, session)
        (listed,) = theirs.list_sessions()
        (own,) = manager.list_sessions()
        assert (listed["key"], listed["updated_at"]) == (own["key"], own["updated_at"])
        theirs.save(found)
        # The other way round it is read, and left alone.
        back = SessionManager(Path(folder, "back"))
        back._get_session_path(key).write_bytes(path.read_bytes())
        read = back.read_session_file(key)
        assert read is not None
        assert read["messages"] == session.messages
        with pytest.raises(ours.SessionChanged, match=r"nanobot 0\.3"):
            back.get_or_create(key)
