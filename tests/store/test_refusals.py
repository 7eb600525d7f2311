"""What is no archive is refused in one sentence, and nothing comes to be or changes by asking."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sessionscope.store import Busy, NotAnArchive, StoreError, UnknownSession, open_archive, usual_places

from .helpers import ROOT, only, raw, refs

Sample = Callable[[str], Path]


def tree(folder: Path) -> dict[str, tuple[int, ...]]:
    """Every path below a folder with its stat, but for access times."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        found[os.fspath(path)] = (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def refused(place: str | os.PathLike[str], folder: Path, words: str, kind: type[StoreError] = NotAnArchive) -> None:
    """Whether a place is refused as one sentence that has these words, leaving the folder as it is."""
    before = tree(folder)
    with pytest.raises(kind) as caught:
        open_archive(place)
    sentence = str(caught.value)
    assert words in sentence
    assert "\n" not in sentence
    assert sentence.endswith((".", ")."))
    assert isinstance(caught.value, kind)
    assert tree(folder) == before


def _text(path: Path) -> None:
    path.write_text("just words\n" * 500)


def _short(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as server:
        cwd = Path.cwd()
        os.chdir(path.parent)  # The name of a socket has to be short.
        try:
            server.bind(path.name)
        finally:
            os.chdir(cwd)


NEITHER = "holds no sessions of a known format (power-loop databases, nanobot session folders)"


def _unrelated(path: Path) -> None:
    raw(path, "CREATE TABLE users (id, name)", "INSERT INTO users VALUES (1, 'x')")


def _other_app(path: Path) -> None:
    raw(
        path,
        "CREATE TABLE sessions (session_id, token, expires)",
        "CREATE TABLE messages (id, body)",
        "INSERT INTO sessions VALUES ('a', 'b', 5)",
    )


def _views(path: Path) -> None:
    raw(
        path,
        "CREATE TABLE t (session_id, seq, role, state, next_seq)",
        *(f"CREATE VIEW {name} AS SELECT * FROM t" for name in ("sessions", "messages", "session_state")),
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.touch(), "is empty"),
        (_text, NEITHER),
        (lambda path: path.write_bytes(b"x"), NEITHER),
        (lambda path: path.write_bytes(os.urandom(5_000)), NEITHER),
        (_short, "is not a SQLite database"),
        (_fifo, "is not a regular file"),
        (_socket, "is not a regular file"),
        (lambda path: path.mkdir(), NEITHER),
        (lambda path: path.symlink_to("nowhere"), "does not exist"),
        (lambda path: path.symlink_to(path.name), "cannot be read"),
        (_unrelated, "holds no power-loop sessions that we know"),
        (_other_app, "holds no power-loop sessions that we know"),
        (_views, "holds no power-loop sessions that we know"),
    ],
)
def test_what_is_no_archive(make: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    make(path)
    refused(path, tmp_path, words)
    refused(f"{path}#pl_", tmp_path, words)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("gone/deeper/x.db", "does not exist"),
        ("x" * 300, "cannot be read"),
        ("file.db/below", "cannot be read"),
        ("nul\0inside", "NUL"),
        ("new\nline.db", "does not exist"),
        ("~nobody-of-this-name/x.db", "does not exist"),
        ("gone#pl_", "does not exist"),
        ("gone##", "does not exist"),
    ],
)
def test_paths_that_lead_nowhere(place: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.db").write_text("x")
    if "\n" in place:
        with pytest.raises(NotAnArchive, match="does not exist"):
            open_archive(place)
        return
    refused(place, tmp_path, words)
    if not place.startswith(("~", "nul")):
        refused(os.path.join(tmp_path, place), tmp_path, words)


def test_the_default_name_is_found_in_a_folder(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample("v0.2.0").rename(tmp_path / "sample" / "power_loop_sessions.db")
    monkeypatch.chdir(tmp_path / "sample")
    assert [str(place) for place in usual_places()[1:]] == [
        str(Path.home() / ".nanobot" / "workspace" / "sessions"),
        str(Path.home() / ".nanobot" / "sessions"),
    ]
    for place in (tmp_path / "sample", ".", "power_loop_sessions.db", usual_places()[0]):
        assert len(refs(only(place))) == 7
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(refs(only("~/sample/power_loop_sessions.db"))) == 7


def test_an_unknown_layout_names_the_known_ones(sample: Sample, tmp_path: Path) -> None:
    path = sample("mixed-0.2.0-then-8.0.0")
    refused(f"{path}#other_", tmp_path, f"has no tables with prefix 'other_'; there is {path}#, {path}#pl_.")
    path = sample("v0.2.0")
    refused(f"{path}#pl_", tmp_path, f"there is {path}#.")


def test_a_file_that_may_not_be_read(sample: Sample, tmp_path: Path) -> None:
    """As a user without any right, root or not."""
    path = sample("v0.2.0")
    path.chmod(0)
    pid = os.fork()
    if pid == 0:
        words = "nothing"
        try:
            for folder in [tmp_path, *tmp_path.parents]:
                if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 1:
                    folder.chmod(0o711)
            if os.getuid() == 0:
                os.setgroups([])
                os.setuid(65534)
            open_archive(path)
        except NotAnArchive as refusal:
            words = str(refusal)
        os._exit("you may not read this file" not in words)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


NAMES = [
    "with space.db",
    "ques?tion.db",
    "per%41cent.db",
    "ha#sh.db",
    "ha#sh#.db",
    "semi;colon&and.db",
    "quo'te\".db",
    "back\\slash.db",
    "new\nline.db",
    "ünï😀.db",
    b"not-\xff-utf8.db",
    "file:x.db",
    "?mode=memory",
    "-wal",
    ":memory:",
    " ",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_opens(name: str | bytes, sample: Sample, tmp_path: Path) -> None:
    text = os.fsdecode(name)
    folder = tmp_path / text / "in a folder"
    folder.mkdir(parents=True)
    path = sample("mixed-0.2.0-then-8.0.0").rename(folder / text)
    before = tree(tmp_path)
    for archive in open_archive(path):
        assert archive.reader().newest(1)
    assert [archive.info.layout for archive in open_archive(path)] == ["", "pl_"]
    assert only(f"{path}#pl_").info.layout == "pl_"
    assert only(f"{path}#").info.layout == ""
    assert only(f"/{path}#").info.layout == ""
    assert tree(tmp_path) == before


def test_an_existing_path_with_a_hash_wins(sample: Sample, tmp_path: Path) -> None:
    with_prefix = sample("mixed-0.2.0-then-8.0.0").rename(tmp_path / "a.db")
    plain = sample("v2.2.0").rename(tmp_path / "a.db#pl_")
    assert [archive.info.location for archive in open_archive(f"{with_prefix}#pl_")] == [str(plain)]
    assert only(f"{with_prefix}#").info.location == str(with_prefix)
    assert only(f"{plain}#pl_").info.location == str(plain)


def test_a_link_is_followed_to_the_files_beside_its_target(sample: Sample, tmp_path: Path) -> None:
    path = sample("v0.2.0")
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute('UPDATE sessions SET metadata_json = \'{"title": "in the wal"}\'')
        before = tree(link.parent)
        archive = only(link)
        assert archive.info.location == str(link)
        assert set(archive.reader().session_table().titles.values()) == {"in the wal"}
        assert tree(link.parent) == before


def test_a_file_that_goes_away_is_said_to_be_gone(sample: Sample, tmp_path: Path) -> None:
    path = sample("v0.2.0")
    archive = only(path)
    path.unlink()
    with pytest.raises(NotAnArchive, match="the file is gone"):
        archive.reader().newest(1)
    assert list(path.parent.iterdir()) == []


def test_an_unknown_session_lists_candidates(sample: Sample) -> None:
    reader = only(sample("v0.2.0")).reader()
    with pytest.raises(UnknownSession, match=f"no session 'sess_ROOT'; did you mean {ROOT}"):
        reader.resolve("sess_ROOT")
    with pytest.raises(UnknownSession) as caught:
        reader.resolve("sess_")
    assert str(caught.value).count("sess_") == 6
    for name in ("zzz", "", "\ud800", "x@99999999999999999999", "null@1", "pl_:" + ROOT, "a\0b"):
        with pytest.raises(UnknownSession):
            reader.resolve(name)
    gone = refs(only(sample("v8.0.0")))[0]
    for name in ("zzz", "\ud800", "null@1"):
        ref = type(gone)("", name)
        assert reader.key(ref) is None
        assert reader.spawner(ref) is None
        with pytest.raises(UnknownSession):
            reader.session(ref)


@pytest.mark.parametrize("row", ["99", "@99", "-1", "", "x", "@", "1e3", "²", "9" * 25, "@" + "9" * 19, "1 ", "--1"])
def test_an_unknown_row(row: str, sample: Sample) -> None:
    archive = only(sample("v0.2.0"))
    with pytest.raises(UnknownSession, match="is gone"):
        archive.reader().message(refs(archive)[0], row)


def test_a_file_held_exclusively_is_busy(sample: Sample, tmp_path: Path) -> None:
    path = sample("v0.2.0")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("UPDATE sessions SET updated_at = 1")
        refused(path, tmp_path, "another process holds it exclusively", Busy)
