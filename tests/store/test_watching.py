"""Looking leaves no trace: with real processes that write, arrive, leave and die beside the one that reads."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sessionscope.store import Archive, Busy, Damaged, Ref, StoreError, View, open_archive
from sessionscope.store.io import sqlitefile
from sessionscope.store.io.sqlitefile import SqliteFile

from .helpers import everything, only, raw, seqs
from .writer import SESSION, Writer, writing

Sample = Callable[[str], Path]
Look = dict[str, tuple[bytes, int, int, int, int]]
REF = Ref("", SESSION)


def look(path: Path) -> Look:
    """Every file in the folder: its bytes, mode, inode, size and time of change. What a -shm holds is not looked at."""
    found = {}
    for file in sorted(path.parent.iterdir()):
        status = file.stat()
        plain = not file.name.endswith("-shm")
        found[file.name] = (
            file.read_bytes() if plain else b"",
            status.st_mode,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns if plain else 0,
        )
    return found


def count(archive: Archive) -> int:
    """How many messages the session that the writer writes has, after a look at all there is."""
    everything(archive)
    return len(seqs(archive.reader(), REF, View.ALL))


def wal(path: Path, suffix: str = "-wal") -> Path:
    return path.with_name(path.name + suffix)


def aside(archive: Archive) -> str | None:
    return archive.aside


@pytest.fixture
def db(sample: Sample) -> Path:
    """A file as 0.2.0 left it: WAL in its header, and nothing beside it."""
    path = sample("v0.2.0")
    assert path.read_bytes()[18:20] == b"\2\2"
    assert [file.name for file in path.parent.iterdir()] == ["v0.2.0.db"]
    return path


@pytest.fixture
def rollback(db: Path) -> Path:
    """The same file in rollback mode."""
    raw(db, "SELECT 1")
    assert db.read_bytes()[18:20] == b"\1\1"
    return db


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private copies go, so that what is left of them is seen."""
    folder = tmp_path / "scratch"
    folder.mkdir(mode=0o1777)
    folder.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


# -- at rest


def test_an_idle_file(db: Path) -> None:
    before = look(db)
    assert count(only(db)) == 2
    assert look(db) == before


def test_an_idle_file_in_rollback_mode(rollback: Path) -> None:
    before = look(rollback)
    assert count(only(rollback)) == 2
    assert look(rollback) == before


def test_what_the_newest_release_left(sample: Sample) -> None:
    path = sample("v8.0.0")
    before = look(path)
    assert len(everything(only(path))) == 7
    assert look(path) == before


def test_an_empty_wal_beside_it_stays_empty(db: Path) -> None:
    wal(db).touch()
    before = look(db)
    assert count(only(db)) == 2
    assert look(db) == before


@pytest.mark.parametrize("mode", ["PERSIST", "TRUNCATE"])
def test_a_journal_kept_for_reuse_is_not_hot(mode: str, rollback: Path) -> None:
    with writing(rollback, f"sql PRAGMA journal_mode={mode}", "append 3"):
        before = look(rollback)
        assert set(before) == {"v0.2.0.db", "v0.2.0.db-journal"}
        assert (before["v0.2.0.db-journal"][3] > 0) is (mode == "PERSIST")
        archive = only(rollback)
        assert (count(archive), aside(archive)) == (5, None)
        assert look(rollback) == before


def test_nothing_stays_open_after_a_read(db: Path) -> None:
    with writing(db, "append 3"):
        archive = only(db)
        reader = archive.reader()
        assert count(archive) == 5
        held = (
            [
                os.readlink(f"/proc/self/fd/{fd}")
                for fd in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{fd}")
            ]
            if os.path.exists("/proc/self/fd")
            else []
        )
        assert not [name for name in held if str(db) in name]
        assert reader.newest(1)


# -- beside a writer


def test_a_live_writer_with_a_wal(db: Path) -> None:
    with writing(db, "append 3"):
        before = look(db)
        assert set(before) == {"v0.2.0.db", "v0.2.0.db-wal", "v0.2.0.db-shm"}
        archive = only(db)
        assert (count(archive), aside(archive)) == (5, None)
        assert look(db) == before


def test_a_writer_is_never_held_up(db: Path) -> None:
    """It can truncate its -wal, and take it along when it leaves, although we looked and still watch."""
    with writing(db, "sql PRAGMA busy_timeout=0", "append 3") as writer:
        archive = only(db)
        reader = archive.reader()
        timeline = reader.timeline(REF, View.ALL)
        assert len(timeline.window(0, 9)) == 5
        assert writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0
        assert wal(db).stat().st_size == 0
        assert len(timeline.window(0, 9)) == 5
        writer.do("append 1")
        assert count(archive) == 6
        writer.quit()
        assert [file.name for file in db.parent.iterdir()] == ["v0.2.0.db"]
        before = look(db)
        assert count(archive) == 6
        assert look(db) == before


def test_a_writer_in_rollback_mode_is_never_held_up(rollback: Path) -> None:
    with writing(rollback, "sql PRAGMA busy_timeout=0", "append 3") as writer:
        archive = only(rollback)
        assert count(archive) == 5
        writer.sql("BEGIN EXCLUSIVE")
        writer.sql("COMMIT")
        writer.do("append 1")
        assert count(archive) == 6


def test_a_writer_that_arrives_between_two_reads(db: Path) -> None:
    archive = only(db)
    assert count(archive) == 2
    stamp = archive.stamp()
    with writing(db, "append 3") as writer:
        assert archive.stamp() != stamp
        before = look(db)
        assert count(archive) == 5
        assert look(db) == before
        stamp = archive.stamp()
        assert count(archive) == 5
        assert archive.stamp() == stamp
        writer.do("append 1")
        assert archive.stamp() != stamp
        assert count(archive) == 6


@pytest.mark.parametrize("mode", ["wal", "rollback"])
def test_a_writer_that_arrives_during_a_read(mode: str, db: Path) -> None:
    """What was read while the file changed is thrown away and read again."""
    if mode == "rollback":
        raw(db, "SELECT 1")
    file, seen = SqliteFile(db), []
    with writing(db) as writer:

        def work(conn: sqlite3.Connection) -> int:
            before = conn.execute("SELECT count(*) FROM messages WHERE session_id = ?", (SESSION,)).fetchone()[0]
            if not seen:
                writer.do("append 3")
            seen.append(before)
            return int(before)

        assert file.read(work) == 5
        assert seen == [2, 5]


def test_a_writer_that_leaves_between_two_reads(db: Path) -> None:
    archive = only(db)
    with writing(db, "append 3") as writer:
        assert count(archive) == 5
        writer.do("append 1")
        writer.quit()
    before = look(db)
    assert set(before) == {"v0.2.0.db"}
    assert count(archive) == 6
    assert look(db) == before


def test_a_writer_that_leaves_during_a_read(db: Path) -> None:
    """It leaves its -wal as for any other reader; nothing is lost, and the next writer clears it away."""
    file = SqliteFile(db)
    with writing(db, "append 3") as writer:

        def work(conn: sqlite3.Connection) -> int:
            first = conn.execute("SELECT count(*) FROM messages WHERE session_id = ?", (SESSION,)).fetchone()[0]
            writer.do("append 1")
            writer.do("close")
            again = conn.execute("SELECT count(*) FROM messages WHERE session_id = ?", (SESSION,)).fetchone()[0]
            assert again == first
            return int(first)

        assert file.read(work) == 5
    assert count(only(db)) == 6
    with writing(db, "append 1", "close"):
        assert [name.name for name in db.parent.iterdir()] == ["v0.2.0.db"]
        assert count(only(db)) == 7


def test_a_writer_that_leaves_between_the_choice_and_the_read(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The -wal that made us join it is gone: what SQLite then makes of it is taken back."""
    file, choose = SqliteFile(db), SqliteFile._choose
    with writing(db, "append 3") as writer:

        def slow(self: SqliteFile, before: sqlitefile.Parts) -> object:
            chosen = choose(self, before)
            if "mode=ro" in chosen[0]:
                writer.quit()
                left.update(look(db))
            return chosen

        left: Look = {}
        monkeypatch.setattr(SqliteFile, "_choose", slow)
        assert file.read(_consistent) == 6
    assert set(left) == {"v0.2.0.db"}
    assert look(db) == left


def test_an_empty_wal_of_a_writer_is_not_taken_from_it(db: Path) -> None:
    """The writer emptied its -wal during the read and goes on with it."""
    with writing(db, "append 3") as writer:
        assert SqliteFile(db).read(_consistent) == 6
        file = SqliteFile(db)
        before = file.parts()
        writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        file._tidy(before)
        assert set(look(db)) == {"v0.2.0.db", "v0.2.0.db-wal", "v0.2.0.db-shm"}
        writer.do("append 1")
        assert file.read(_consistent) == 7


def test_a_file_put_in_its_place_during_a_read(db: Path, tmp_path: Path) -> None:
    """A restore by renaming, beside a filled -wal or not."""
    other = tmp_path / "other.db"
    shutil.copy(db, other)
    raw(other, "DELETE FROM messages")
    calls = []

    def work(conn: sqlite3.Connection) -> int:
        found = conn.execute("SELECT count(*) FROM messages").fetchone()[0]
        if not calls:
            other.rename(db)
        calls.append(found)
        return int(found)

    assert SqliteFile(db).read(work) == 0
    assert len(calls) == 2


@pytest.mark.parametrize("mode", ["wal", "rollback"])
def test_a_file_that_keeps_changing_is_busy(mode: str, db: Path) -> None:
    calls = []
    if mode == "rollback":
        raw(db, "SELECT 1")

    def work(conn: sqlite3.Connection) -> None:
        conn.execute("SELECT count(*) FROM messages").fetchone()
        calls.append(1)
        with writing(db, "append 1"):
            pass
        if mode == "wal":
            with writing(db, "append 1", "close"):
                pass

    with pytest.raises(Busy, match="another process keeps changing it") as caught:
        SqliteFile(db).read(work)
    assert "\n" not in str(caught.value)
    assert len(calls) == sqlitefile.TRIES


@pytest.mark.parametrize("error", [sqlite3.DatabaseError("database disk image is malformed"), TypeError("no such row")])
def test_an_error_in_a_read_of_a_changed_file_is_tried_again(error: Exception, db: Path) -> None:
    calls = []

    def work(conn: sqlite3.Connection) -> str:
        calls.append(1)
        if len(calls) < 3:
            with writing(db, "append 1", "close"):
                pass
            raise error
        return "fine"

    assert SqliteFile(db).read(work) == "fine"
    assert len(calls) == 3


def test_an_error_beside_a_writer_that_goes_on_is_the_files(db: Path) -> None:
    """What is appended to a -wal changes nothing of what a read sees, so its errors count."""
    calls = []
    with writing(db, "append 1") as writer:

        def work(conn: sqlite3.Connection) -> None:
            calls.append(conn.execute("SELECT count(*) FROM messages").fetchone())
            writer.do("append 1")
            raise sqlite3.DatabaseError("database disk image is malformed")

        with pytest.raises(Damaged, match="some of its pages are damaged"):
            SqliteFile(db).read(work)
    assert len(calls) == 1


def test_an_error_of_our_own_is_not_taken_for_the_file_s(db: Path) -> None:
    def work(conn: sqlite3.Connection) -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        SqliteFile(db).read(work)


def test_two_writes_within_one_tick_of_the_clock_are_not_missed(db: Path) -> None:
    """A burst begins only when another write would be told from the last one by its time."""
    os.utime(db, ns=(now := time.time_ns(), now))
    began: list[int] = []
    SqliteFile(db).read(lambda conn: began.append(time.time_ns()))
    assert began[0] - db.stat().st_mtime_ns >= sqlitefile.TICK_NS


@pytest.mark.parametrize("ahead_s", [-3600, 3600])
def test_a_file_that_is_old_or_from_the_future_is_not_waited_for(
    ahead_s: int, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = time.time_ns() + ahead_s * 1_000_000_000
    os.utime(db, ns=(moment, moment))
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    SqliteFile(db).read(lambda conn: conn.execute("SELECT 1"))
    assert naps == []


def _consistent(conn: sqlite3.Connection) -> int:
    titles = conn.execute("SELECT DISTINCT metadata_json FROM sessions WHERE rowid IN (1, 2)").fetchall()
    first, last, rows = conn.execute(
        "SELECT min(seq), max(seq), count(*) FROM messages WHERE session_id = ?", (SESSION,)
    ).fetchone()
    (next_seq,) = conn.execute("SELECT next_seq FROM session_state WHERE session_id = ?", (SESSION,)).fetchone()
    assert (first, last, rows) == (1, next_seq - 1, next_seq - 1)
    if next_seq > 3:
        assert titles == [(f'{{"title": "{next_seq}"}}',)]
    return int(next_seq)


@pytest.mark.parametrize(
    ("mode", "command"),
    [("wal", "hammer 600"), ("wal", "visits 150"), ("rollback", "hammer 150"), ("rollback", "visits 100")],
)
def test_reads_beside_a_writer_that_never_rests_are_whole_transactions(mode: str, command: str, db: Path) -> None:
    if mode == "rollback":
        raw(db, "SELECT 1")
    file, seen = SqliteFile(db), [0]
    with writing(db, "sql PRAGMA wal_autocheckpoint=20") as writer:
        writer.send(command)
        done = threading.Thread(target=writer.answer)
        done.start()
        while done.is_alive():
            try:
                seen.append(file.read(_consistent))
            except Busy:
                continue
        done.join()
        assert seen == sorted(seen)
        total = 3 + int(command.split()[1])
        assert file.read(_consistent) == total
        assert writer.sql("PRAGMA integrity_check") == [["ok"]]
    with writing(db, "append 1", "close"):
        assert [name.name for name in db.parent.iterdir()] == ["v0.2.0.db"]


# -- after a crash


def test_a_wal_that_goes_while_it_is_copied_aside_is_no_missing_file(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last to close takes it along, and the next to come makes another."""
    with writing(db, "append 3") as writer:
        writer.kill()
    copyfile, missed = shutil.copyfile, list[str]()
    later: sqlite3.Connection | None = None

    def late(source: str, target: Path) -> Path:
        nonlocal later
        if source.endswith("-wal") and not missed:
            with closing(sqlite3.connect(db)) as conn:
                conn.execute("SELECT count(*) FROM sessions").fetchone()
            missed.append(source)
            try:
                return Path(copyfile(source, target))
            finally:
                later = sqlite3.connect(db)
                later.execute("UPDATE sessions SET updated_at = updated_at + 1")
                later.commit()
        return Path(copyfile(source, target))

    monkeypatch.setattr(SqliteFile, "_may_share", lambda self: False)
    monkeypatch.setattr(shutil, "copyfile", late)
    try:
        assert count(only(db)) == 5
    finally:
        if later is not None:
            later.close()
    assert missed


@pytest.mark.parametrize("shm", [True, False])
def test_data_left_in_the_wal_by_kill_9(shm: bool, db: Path) -> None:
    with writing(db, "append 3") as writer:
        writer.kill()
    if not shm:
        wal(db, "-shm").unlink()
    before = look(db)
    archive = only(db)
    assert (count(archive), aside(archive)) == (5, None)
    after = look(db)
    assert {name: what for name, what in after.items() if name in before} == before
    assert set(after) - set(before) <= {"v0.2.0.db-shm"}
    with writing(db, "append 1", "close"):
        assert count(archive) == 6


def test_a_torn_end_of_the_wal_costs_only_the_last_transaction(db: Path) -> None:
    with writing(db, "append 3") as writer:
        whole = wal(db).stat().st_size
        writer.do("append 2")
        writer.kill()
    os.truncate(wal(db), whole + 4_000)
    before = look(db)
    assert count(only(db)) == 5
    after = look(db)
    after.pop("v0.2.0.db-shm", None)
    before.pop("v0.2.0.db-shm", None)
    assert after == before


def _spilled(path: Path) -> Writer:
    """A writer in the middle of a transaction in rollback mode, part of which is in the file already."""
    writer = Writer(path)
    for command in (
        "open",
        "sql PRAGMA cache_size=2",
        "sql PRAGMA synchronous=FULL",
        "sql BEGIN IMMEDIATE",
        "sql UPDATE messages SET content = content || hex(zeroblob(3000))",
        'sql UPDATE sessions SET metadata_json = \'{"title": "half done"}\'',
    ):
        writer.do(command)
    return writer


@pytest.mark.parametrize("alive", [False, True])
def test_a_hot_journal_is_rolled_back_in_a_private_copy(alive: bool, rollback: Path, scratch: Path) -> None:
    calm = everything(only(rollback))
    bytes_before = rollback.read_bytes()
    writer = _spilled(rollback)
    try:
        if not alive:
            writer.kill()
        assert rollback.read_bytes() != bytes_before
        before = look(rollback)
        assert before["v0.2.0.db-journal"][3] > 0
        archive = only(rollback)
        assert everything(archive) == calm
        assert aside(archive) == "its journal awaits recovery"
        assert look(rollback) == before
        (folder,) = scratch.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        archive.close()
        archive.close()
        assert list(scratch.iterdir()) == []
        if alive:
            writer.sql("COMMIT")
            assert set(archive.reader().session_table().titles.values()) == {"half done"}
            assert aside(archive) is None
    finally:
        writer.kill()
        writer.quit()


def test_a_copy_goes_with_the_archive_that_made_it(rollback: Path, scratch: Path) -> None:
    writer = _spilled(rollback)
    writer.kill()
    writer.quit()
    archive = only(rollback)
    assert count(archive) == 2
    assert len(list(scratch.iterdir())) == 1
    del archive
    assert list(scratch.iterdir()) == []


# -- where nothing may be written


def _as_nobody(check: Callable[[], object]) -> None:
    """Runs a check in a child that has no rights, also where the tests run as root."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            check()
            code = 0
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _sealed(folder: Path) -> None:
    """A folder that others may read and nobody may write, on a path that they may walk."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    for above in folder.parents:
        if above.stat().st_uid == os.getuid() and not above.stat().st_mode & 1:
            above.chmod(above.stat().st_mode | 0o011)


@pytest.mark.parametrize("shm", [True, False])
@pytest.mark.parametrize("filled", [True, False])
def test_read_only_media(shm: bool, filled: bool, db: Path, scratch: Path) -> None:
    """With a filled -wal a private copy is read, and said so; without, nothing but the file."""
    if filled:
        with writing(db, "append 3") as writer:
            writer.kill()
        if not shm:
            wal(db, "-shm").unlink()
    elif not shm:
        wal(db).touch()
    everything(only(db)) if not filled else None
    _sealed(db.parent)
    before = look(db)

    def check() -> None:
        archive = only(db)
        assert count(archive) == (5 if filled else 2)
        assert aside(archive) == ("its folder cannot be written" if filled else None)
        assert len(list(scratch.iterdir())) == filled
        archive.close()
        assert list(scratch.iterdir()) == []

    try:
        _as_nobody(check)
    finally:
        db.parent.chmod(0o755)
    assert look(db) == before | {}
    assert list(scratch.iterdir()) == []


def test_a_copy_is_made_anew_when_the_file_changed(db: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteFile, "_may_share", lambda self: False)
    with writing(db, "append 3") as writer:
        archive = only(db)
        assert count(archive) == 5
        (first,) = scratch.iterdir()
        assert count(archive) == 5
        assert list(scratch.iterdir()) == [first]
        writer.do("append 1")
        assert count(archive) == 6
        (second,) = scratch.iterdir()
        assert second != first


def test_threads_share_a_copy_and_none_reads_one_that_is_gone(
    db: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteFile, "_may_share", lambda self: False)
    file = SqliteFile(db)
    failures: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        last = 0
        try:
            while not stop.is_set():
                try:
                    found = file.read(_consistent)
                except Busy:
                    continue
                assert found >= last
                last = found
        except BaseException as error:
            failures.append(error)
            stop.set()

    with writing(db, "append 3") as writer:
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            writer.do("append 1")
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert file.read(_consistent) == 46
        assert len(list(scratch.iterdir())) == 1
        file.close()
        assert list(scratch.iterdir()) == []


def test_no_room_for_a_copy_is_said(db: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(SqliteFile, "_may_share", lambda self: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with writing(db, "append 3"), pytest.raises(StoreError, match="cannot be read") as caught:
        open_archive(db)
    assert "\n" not in str(caught.value)


# -- kept out


@pytest.mark.parametrize("when", ["before", "later"])
def test_a_file_held_exclusively_by_another_process_is_busy(when: str, db: Path) -> None:
    archive = only(db) if when == "later" else None
    with writing(db, "sql PRAGMA locking_mode=EXCLUSIVE", "append 3") as writer:
        before = look(db)
        with pytest.raises(Busy, match="another process holds it exclusively") as caught:
            archive.reader().newest(1) if archive else open_archive(db)
        assert "\n" not in str(caught.value)
        assert look(db) == before
        writer.quit()
    assert count(archive or only(db)) == 5


def test_a_lock_of_a_moment_is_waited_for(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that is recovering or leaving locks readers out only briefly."""
    monkeypatch.setattr(sqlitefile, "LOCK_WAIT_S", 20.0)
    with writing(db, "append 3", "sql PRAGMA locking_mode=EXCLUSIVE", "append 1") as writer:
        freed = threading.Timer(0.05, writer.quit)
        freed.start()
        assert SqliteFile(db).read(_consistent) == 7
        freed.join()


def test_an_exclusive_holder_in_rollback_mode_keeps_nobody_out(rollback: Path) -> None:
    with writing(rollback, "sql PRAGMA locking_mode=EXCLUSIVE", "append 3"):
        before = look(rollback)
        assert count(only(rollback)) == 5
        assert look(rollback) == before


# -- broken pages


def test_broken_pages_are_said_and_left_alone(db: Path) -> None:
    (size,) = (len(db.read_bytes()),)
    with db.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    before = look(db)
    archive = only(db)
    with pytest.raises(Damaged, match="some of its pages are damaged") as caught:
        everything(archive)
    assert "\n" not in str(caught.value)
    assert look(db) == before


def test_a_broken_schema_is_said(db: Path) -> None:
    with db.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3_900)
    with pytest.raises(StoreError) as caught:
        open_archive(db)
    assert isinstance(caught.value, Damaged)


def test_half_a_file_is_said(db: Path) -> None:
    os.truncate(db, 20_000)
    before = look(db)
    with pytest.raises(Damaged):
        everything(only(db))
    assert look(db) == before


def test_a_schema_that_would_act_is_not_obeyed(db: Path) -> None:
    """A view or a generated value that calls out is never run; the tables beside it read as always."""
    with closing(sqlite3.connect(db, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode=DELETE")
        conn.execute("CREATE VIEW evil_sessions AS SELECT load_extension('/tmp/x.so') AS session_id")
        conn.execute("CREATE TABLE trap (a, b AS (a + 1))")
    before = look(db)
    assert count(only(db)) == 2
    assert look(db) == before
