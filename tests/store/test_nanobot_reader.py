"""A folder of nanobot's sessions as an archive: what reading costs, what changes do, and where sessions are found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sessionscope.store import Busy, Certainty, Limits, NotAnArchive, Place, State, UnknownSession, View, open_archive
from sessionscope.store.nanobot.format.file import opening
from sessionscope.store.nanobot.format.line_scan import outline_rows

from .workspaces import (
    KEY,
    NAME,
    counted,
    encoded,
    found,
    lines,
    long_ago,
    rows,
    talk,
    the_session,
    workspace,
    write,
)

MANY = 60_000
LATE = "0" * 31 + "1"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of many messages, too long to be read while a screen waits."""
    path = write(tmp_path_factory.mktemp("long") / "sessions", talk(MANY), last_consolidated=1_000)
    assert path.stat().st_size > 4_000_000
    return path


# -- what reading costs


def test_the_end_of_a_long_session_costs_the_same_at_any_length(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, ref = the_session(long)
    with counted(monkeypatch) as work:
        timeline = reader.timeline(ref, View.ALL)
        assert not timeline.length.exact
        newest = timeline.window(timeline.length.value - 64, timeline.length.value)
    assert [row.head for row in newest] == [f"message {at}" for at in range(MANY - 64, MANY)]
    assert all(row.seq is None and row.state == "" for row in newest)
    assert work.bytes < 300_000
    assert reader.timeline(ref, View.ACTIVE).length.value == 0


def test_any_row_of_a_long_session_is_read_alone(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, ref = the_session(long)
    outline = reader.outline(ref)
    timeline = reader.timeline(ref, View.ALL, outline)
    assert timeline.length.value == timeline.highest == MANY
    for seq in (1, 999, 1_000, 1_001, MANY // 2, MANY):
        with counted(monkeypatch) as work:
            at = timeline.locate(seq)
            assert at is not None
            (row,) = timeline.window(at, at + 1)
            assert (row.seq, row.head) == (seq, f"message {seq - 1}")
            assert row.state == (State.COMPACTED if seq <= 1_000 else State.ACTIVE)
            assert reader.message(ref, row.row or "").content == f"message {seq - 1}"
        assert work.bytes < 2_000
    with counted(monkeypatch) as work:
        page = timeline.window(30_000, 30_064)
    assert [row.seq for row in page] == list(range(30_001, 30_065))
    # Near rows are one read, not one each.
    assert (work.expanded, work.bytes < 64 * 200) == (1, True)


def test_what_grew_is_read_alone(long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / NAME
    path.write_bytes(long.read_bytes())
    reader, ref = the_session(path)
    outline = reader.outline(ref)
    with path.open("ab") as file:
        file.write(b"".join(json.dumps(row).encode() + b"\n" for row in talk(10, MANY)))
    with counted(monkeypatch) as work:
        grown = reader.grown(ref, outline)
    assert grown is not None
    assert work.bytes < 200_000
    assert (grown.starts, grown.states) == (reader.outline(ref).starts, reader.outline(ref).states)
    assert [row.head for row in reader.timeline(ref, View.ALL, grown).window(MANY, MANY + 10)] == [
        f"message {at}" for at in range(MANY, MANY + 10)
    ]
    # Saved anew, it is for a worker to read.
    write(tmp_path, talk(MANY - 7))
    assert reader.grown(ref, grown) is None
    assert reader.outline(ref).messages == MANY - 7


def test_a_cut_line_that_is_completed_is_one_row(tmp_path: Path) -> None:
    path = write(tmp_path, talk(3))
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    reader, ref = the_session(path)
    before = reader.outline(ref)
    assert [row.seq for row in rows(reader, ref)] == [1, 2, None]
    with path.open("ab") as file:
        file.write(data[-20:])
    grown = reader.grown(ref, before)
    assert grown is not None
    assert [row.seq for row in reader.timeline(ref, View.ALL, grown).window(0, 9)] == [1, 2, 3]


def test_rows_of_an_outline_from_before_a_save_are_left_open(tmp_path: Path) -> None:
    """Rather than taking the bytes that stand there now for them."""
    path = write(tmp_path, talk(9))
    reader, ref = the_session(path)
    stale = reader.timeline(ref, View.ALL, reader.outline(ref))
    row = stale.window(4, 5)[0].row or ""
    write(tmp_path, talk(9, text="quite another text {}"))
    assert {(line.head, line.state) for line in stale.window(0, 9)} == {("…", "")}
    with pytest.raises(UnknownSession, match="is gone"):
        reader.message(ref, row)


def test_a_session_table_reads_the_heads_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(400):
        write(tmp_path, talk(200), f"telegram_{at}.jsonl", f"telegram:{at}")
    (archive,) = open_archive(tmp_path)
    reader = archive.reader()
    assert reader.session_table_if_small() is None
    with counted(monkeypatch) as work:
        session_table = reader.session_table()
    assert len(session_table) == 400
    assert (work.expanded, work.bytes <= 400 * 4_096) == (400, True)
    assert all(150 < size < 250 for size in session_table.sizes)
    write(tmp_path, talk(201), "telegram_7.jsonl", "telegram:7", metadata={"title": "Seven"})
    with counted(monkeypatch) as work:
        later = reader.session_table()
    assert work.expanded == 1
    changes = session_table.changes(later)
    (key,) = changes.appended | changes.edited
    assert reader.summaries([key])[0].title == "Seven"
    assert not changes.added
    assert not changes.gone
    assert [summary.ref.id for summary in reader.newest(1)] == ["telegram:7"]


def test_a_message_of_any_size_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'é"\\ \u2028😀x\n' * 1_200_000
    path = write(tmp_path, [*talk(1), {"role": "tool", "tool_call_id": "c", "name": "cat", "content": text}, *talk(1)])
    assert path.stat().st_size > 12_000_000
    reader, ref = the_session(path)
    outline = reader.outline(ref)
    timeline = reader.timeline(ref, View.ALL, outline)
    with counted(monkeypatch) as work:
        big = timeline.window(0, 3)[1]
    assert work.bytes < 100_000
    assert (big.role, big.name, big.tool_call_id, big.head) == ("tool", "cat", "c", text[:200])
    at, pieces = 0, []
    while True:
        with counted(monkeypatch) as work:
            message = reader.message(ref, big.row or "", at, at + 1_000_000)
        assert work.bytes < 1_200_000
        pieces.append(message.content or "")
        if message.stop >= message.size:
            break
        assert message.stop > at
        at = message.stop
    assert "".join(pieces) == text
    # Anywhere else a piece begins with a whole character or escape.
    for start in range(5_000_000, 5_000_030):
        piece = reader.message(ref, big.row or "", start, start + 64).content or ""
        assert piece[:20] in text[:40]


# -- changes


def test_each_save_changes_the_stamp(tmp_path: Path) -> None:
    path = write(tmp_path / "sessions", talk(2))
    write(tmp_path / "sessions", talk(1), "a_b.jsonl", "a:b")
    (archive,) = open_archive(tmp_path)
    archive.reader().session_table()
    stamps = [archive.stamp()]
    assert archive.stamp() == stamps[0]
    write(tmp_path / "sessions", talk(3))
    stamps.append(archive.stamp())
    with path.open("ab") as file:
        file.write(b"{}\n")
    stamps.append(archive.stamp())
    (tmp_path / "sessions" / "a_b.checkpoint.json").write_text("{}")
    stamps.append(archive.stamp())
    path.unlink()
    stamps.append(archive.stamp())
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "history.jsonl").write_text("{}\n")
    stamps.append(archive.stamp())
    assert len(set(stamps)) == len(stamps)


def test_in_a_large_folder_every_file_is_looked_at_in_turn(tmp_path: Path) -> None:
    for at in range(700):
        os.utime(write(tmp_path, talk(1), f"telegram_{at}.jsonl", f"telegram:{at}"), ns=(0, at))
    (archive,) = open_archive(tmp_path)
    archive.reader().session_table()
    known = archive.stamp()
    with (tmp_path / "telegram_3.jsonl").open("ab") as file:
        file.write(b'{"role": "user", "content": "late"}\n')
    assert any(archive.stamp() != known for _ in range(4))


def test_a_session_that_goes_away(tmp_path: Path) -> None:
    path = write(tmp_path, talk(2))
    (archive,) = open_archive(tmp_path)
    reader, (ref,) = archive.reader(), found(archive).values()
    row = rows(reader, ref)[0].row or ""
    path.unlink()
    assert reader.key(ref) is None
    assert len(reader.session_table()) == 0
    for question in (
        lambda: reader.outline(ref),
        lambda: reader.session(ref),
        lambda: reader.message(ref, row),
        lambda: reader.timeline(ref, View.ALL),
    ):
        with pytest.raises(UnknownSession, match="is gone"):
            question()


def test_one_file_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, talk(2))
    (tmp_path / "slack_1.jsonl").symlink_to(tmp_path / "slack_1.jsonl")
    (tmp_path / "cli_1.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe_1.jsonl")
    (archive,) = open_archive(tmp_path)
    assert list(found(archive)) == [NAME]
    reader = archive.reader()
    assert reader.resolve(KEY).file == NAME


def test_a_save_between_two_questions(tmp_path: Path) -> None:
    """Answers are of the file as it is, not of where things stood in it."""
    path = write(tmp_path, talk(12))
    reader, ref = the_session(path)
    before = reader.outline(ref)
    write(tmp_path, talk(12), last_consolidated=4, metadata={"title": "longer", "_last_summary": {"text": "s"}})
    (compaction,) = reader.audit(ref, before).compactions
    assert (compaction.from_seq, compaction.to_seq, compaction.note) == (1, 4, "s")
    sent = reader.timeline(ref, View.CONTEXT, before)
    assert [row.seq for row in sent.window(0, sent.length.value)] == list(range(5, 13))


def test_a_long_session_saved_between_two_questions_is_not_guessed(long: Path, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(long.read_bytes())
    reader, ref = the_session(path)
    before = reader.outline(ref)
    write(tmp_path, talk(MANY, text="another {}"), last_consolidated=7)
    for question in (lambda: reader.audit(ref, before), lambda: reader.timeline(ref, View.CONTEXT, before)):
        with pytest.raises(Busy, match="saved anew"):
            question()
    (compaction,) = reader.audit(ref, reader.outline(ref)).compactions
    assert compaction.to_seq == 7


def test_what_seems_to_be_appended_is_checked_by_whoever_has_the_time(long: Path, tmp_path: Path) -> None:
    """A line lost in the middle is not seen by a look at the ends; the next full reading sees it."""
    path = tmp_path / NAME
    data = long.read_bytes()
    path.write_bytes(data)
    reader, ref = the_session(path)
    outline = reader.outline(ref)
    middle = outline.starts[30_001] - 1
    with path.open("r+b") as file:
        file.seek(middle)
        file.write(b" ")
        file.seek(0, 2)
        file.write(json.dumps(talk(1)[0]).encode() + b"\n")
    grown = reader.grown(ref, outline)
    assert grown is None or not grown.certain
    truth = reader.outline(ref)
    assert (truth.messages, len(truth.rows_without_seq)) == (MANY - 1, 2)


def test_the_session_that_is_watched_keeps_its_outline(tmp_path: Path) -> None:
    for at in range(20):
        write(tmp_path, talk(2), f"a_{at}.jsonl", f"a:{at}")
    (archive,) = open_archive(tmp_path)
    reader, refs = archive.reader(), found(archive)
    watched = reader.outline(refs["a_0.jsonl"])
    for at in range(1, 20):
        reader.outline(refs[f"a_{at}.jsonl"])
        assert reader.outline(refs["a_0.jsonl"]).starts == watched.starts
        assert "a_0.jsonl" in archive._source.outlines  # type: ignore[attr-defined]


# -- names and places


def test_every_layout_of_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / ".nanobot"
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    write(home / "sessions", talk(1), "cli_old.jsonl", None)
    write(home / "workspace" / "sessions", talk(2))
    write(home / "sessions" / LATE, talk(3), f"{encoded('cli:new')}.jsonl", "cli:new", last_archived=1)
    (home / "workspace" / ".nanobot").mkdir()
    (home / "workspace" / ".nanobot" / "workspace-id").write_text(f"{LATE}\n")
    write(home / "sessions" / ".migration-conflicts", talk(4), "cli_lost.jsonl", "cli:lost")

    def ids(path: str | Path) -> dict[str, list[str]]:
        return {archive.info.layout: archive.reader().session_table().ids for archive in open_archive(path)}

    assert ids(home / "workspace") == {"": [KEY], LATE: ["cli:new"], "legacy": ["cli:old"]}
    assert ids(home / "workspace" / "sessions") == {"": [KEY]}
    assert ids(home / "sessions") == {"": ["cli:old"], ".migration-conflicts": ["cli:lost"], LATE: ["cli:new"]}
    assert ids(f"{home}/sessions#{LATE}") == {LATE: ["cli:new"]}
    assert ids(home / "sessions" / LATE) == {"": ["cli:new"]}
    assert sorted(id_ for some in ids(home).values() for id_ in some) == ["cli:lost", "cli:new", "cli:old", KEY]
    with pytest.raises(NotAnArchive, match="has no sessions of 'no'"):
        open_archive(f"{home}/sessions#no")
    (early, late, _) = open_archive(home / "workspace")
    assert (early.info.format, late.info.format) == ("nanobot 0.1.4-0.2", "nanobot 0.3.5")
    assert open_archive(home / "sessions")[0].info.format == "nanobot 0.1"


def test_a_path_that_a_folder_names_is_not_followed(tmp_path: Path) -> None:
    """A workspace's marker is shown; only an id that looks like one is believed."""
    folder = tmp_path / "sessions" / LATE
    write(folder, talk(1))
    (folder / ".workspace").write_text("/etc/evil\x1b[31m\n")
    (archive,) = open_archive(tmp_path / "sessions")
    assert archive.info.name == f"evil\x1b[31m {LATE[:8]}"
    assert archive.info.location == str(folder)
    workspace_ = tmp_path / "ws"
    write(workspace_ / "sessions", talk(1))
    (workspace_ / ".nanobot").mkdir()
    (workspace_ / ".nanobot" / "workspace-id").write_text("../../etc")
    assert [archive.info.layout for archive in open_archive(workspace_)] == [""]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: None, "holds no sessions"),
        (lambda folder: (folder / "notes.txt").write_text("hello"), "holds no sessions"),
        (lambda folder: (folder / "data.jsonl").write_text('{"x": 1}\n'), "holds no sessions"),
    ],
)
def test_a_folder_that_holds_no_sessions(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    make(tmp_path)
    with pytest.raises(NotAnArchive, match=why):
        open_archive(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 5_000,
        lines(talk(2))[:40],
        lines(talk(6)).replace(b"_type", b"_typf", 1),
        b'{"content": "no role"}\n' + lines(talk(6)),
        b"garbage \xff\n",
        b"",
    ],
)
def test_no_file_of_a_folder_is_hidden_by_damage(tmp_path: Path, data: bytes) -> None:
    write(tmp_path, talk(1))
    (tmp_path / "cli_1.jsonl").write_bytes(data)
    (tmp_path / "memory_history.jsonl").write_bytes(b'{"cursor": 1, "timestamp": "2026-11-20 19:57", "content": "s"}\n')
    (archive,) = open_archive(tmp_path)
    assert sorted(found(archive)) == ["cli_1.jsonl", NAME]
    reader = archive.reader()
    (summary,) = (one for one in reader.summaries(reader.session_table().keys) if one.ref.file == "cli_1.jsonl")
    assert summary.damage or summary.message_count.value


def test_a_sessions_folder_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    for path in (tmp_path, tmp_path / "sessions"):
        (archive,) = open_archive(path)
        reader = archive.reader()
        assert len(reader.session_table()) == 0
        write(tmp_path / "sessions", talk(1))
        assert reader.session_table().ids == [KEY]
        (tmp_path / "sessions" / NAME).unlink()


def test_a_single_file_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path, talk(2), "backup.bak")
    write(tmp_path, talk(1))
    (archive,) = open_archive(tmp_path / "backup.bak")
    assert archive.info.name == "backup.bak"
    assert archive.info.location == str(tmp_path / "backup.bak")
    assert found(archive).keys() == {"backup.bak"}


def test_two_files_of_one_key(tmp_path: Path) -> None:
    write(tmp_path, talk(2))
    write(tmp_path, talk(5), f"{encoded(KEY)}.jsonl", last_archived=0)
    (archive,) = open_archive(tmp_path)
    reader, refs = archive.reader(), found(archive)
    assert [ref.id for ref in refs.values()] == [KEY, KEY]
    with pytest.raises(UnknownSession, match=f":{KEY}@{NAME}"):
        reader.resolve(KEY)
    for name, ref in refs.items():
        assert reader.resolve(name) == reader.resolve(str(ref)) == ref
    assert sorted(reader.outline(ref).count() for ref in refs.values()) == [2, 5]


@pytest.mark.parametrize("name", [f"{NAME}.tmp", f".{NAME}.0123456789abcdef.tmp"])
def test_what_a_save_left_behind(tmp_path: Path, name: str) -> None:
    write(tmp_path, talk(2))
    left = write(tmp_path, talk(3), name)
    (archive,) = open_archive(tmp_path)
    reader = archive.reader()
    assert reader.session_table().ids == [KEY], "a save may be under way"
    long_ago(left)
    session_table = reader.session_table()
    summaries = {summary.ref.file: summary for summary in reader.summaries(session_table.keys)}
    assert (summaries[NAME].kind, summaries[name].kind) == ("root", "leftover")
    (child,) = session_table.children(next(at for at in range(2) if not session_table.parents[at] >= 0))
    assert reader.summaries([session_table.keys[child]])[0].ref.file == name
    # The name alone means the session that nanobot reads.
    assert reader.key(reader.resolve(NAME)) == summaries[NAME].key


def test_a_fork_stands_below_what_it_was_copied_from(tmp_path: Path) -> None:
    rows_ = talk(6)
    write(tmp_path, rows_, created_at="2026-05-16T08:00:00.000001")
    write(tmp_path, rows_[:3], "websocket_1.jsonl", "websocket:1", created_at="2026-05-16T08:30:00.000001")
    write(tmp_path, talk(4, 50), "websocket_2.jsonl", "websocket:2", created_at="2026-05-16T08:40:00.000001")
    (archive,) = open_archive(tmp_path)
    reader = archive.reader()
    session_table = reader.session_table()
    fork = session_table.ids.index("websocket:1")
    assert [session_table.place_in_tree(at) for at in range(3)].count(Place.CHILD) == 1
    assert session_table.ids[session_table.parents[fork]] == KEY
    ref = reader.resolve("websocket:1")
    link = reader.spawner(ref)
    assert link is not None
    assert (link.ref.id, link.certainty) == (KEY, Certainty.INFERRED)
    (summary,) = reader.summaries([session_table.keys[fork]])
    assert (summary.kind, summary.parent_id) == ("fork", KEY)
    assert reader.spawner(reader.resolve("websocket:2")) is None


def test_times_without_a_zone_are_in_the_zone_that_is_set(tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            {"role": "user", "content": "x", "timestamp": "2026-05-16T12:00:00.123999"},
            {"role": "user", "content": "y", "timestamp": "2026-05-16T12:00:00.5+00:00"},
            {"role": "user", "content": "z", "timestamp": "yesterday"},
        ],
    )
    (archive,) = open_archive(tmp_path, lambda: ZoneInfo("Europe/Berlin"))
    reader = archive.reader()
    (ref,) = found(archive).values()
    naive, aware, anomalies = rows(reader, ref)
    assert naive.created_at == datetime(2026, 5, 16, 10, 0, 0, 123000, UTC).timestamp() * 1000
    assert aware.created_at == datetime(2026, 5, 16, 12, 0, 0, 500000, UTC).timestamp() * 1000
    assert (anomalies.created_at, anomalies.damage) == (None, ("timestamp is no date",))


# -- what the model sees


def test_limits_of_the_context(tmp_path: Path) -> None:
    reader, ref = the_session(write(tmp_path, talk(300), last_consolidated=10))

    def sent(limits: Limits | None = None) -> list[int | None]:
        timeline = reader.timeline(ref, View.CONTEXT, reader.outline(ref), limits)
        return [row.seq for row in timeline.window(0, timeline.length.value)]

    assert sent() == list(range(181, 301))
    assert sent(Limits(4)) == list(range(297, 301))
    assert sent(Limits(5)) == list(range(297, 301))
    assert sent(Limits(0)) == list(range(11, 301))
    assert len(sent(Limits(1_000))) == 290
    assert sent(Limits(100, 20)) == [299, 300]


def test_later_releases_send_all_that_is_not_archived(tmp_path: Path) -> None:
    name = f"{encoded(KEY)}.jsonl"
    reader, ref = the_session(write(tmp_path, talk(300), name, last_archived=10, last_consolidated=3))
    assert [row.seq for row in rows(reader, ref, View.CONTEXT)] == list(range(11, 301))
    reader, ref = the_session(write(tmp_path, talk(300), name, last_archived=999))
    assert len(rows(reader, ref, View.CONTEXT)) == 300
    assert any("it is read as 0" in damage for damage in reader.session(ref).damage)


@pytest.mark.parametrize(
    ("stored", "active", "sent"),
    [
        (999, 0, 0),
        (-1, 1, 1),
        (True, 3, 2),
        (None, 4, 4),
        ("2", 4, 0),
        (1.5, 4, 0),
        ([1], 4, 0),
        (0, 4, 4),
        (4, 0, 0),
    ],
)
def test_an_offset_that_cannot_be(tmp_path: Path, stored: object, active: int, sent: int) -> None:
    """As 0.2.0 slices with it, or fails to."""
    reader, ref = the_session(write(tmp_path, talk(4), last_consolidated=stored))
    assert reader.session(ref).summary.active_count.value == active
    assert len(rows(reader, ref, View.CONTEXT)) == sent
    if type(stored) is not int or stored in (999, -1):
        assert any("last_consolidated" in damage for damage in reader.session(ref).damage)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"content": "x"}, "there is no role"),
        ({"role": "assistant", "tool_calls": 5}, "tool_calls is no list"),
    ],
)
def test_a_row_for_which_every_turn_fails(tmp_path: Path, row: dict[str, object], why: str) -> None:
    reader, ref = the_session(write(tmp_path, [*talk(2), row, *talk(2)]))
    sent = reader.timeline(ref, View.CONTEXT, reader.outline(ref))
    assert (sent.length.value, sent.about) == (0, f"no turn works: of message 3 {why}")
    # What would be sent without it can still be looked at.
    assert reader.timeline(ref, View.CONTEXT, reader.outline(ref), Limits(0)).length.value >= 4


def test_an_idle_session_that_was_cut_to_its_end(tmp_path: Path) -> None:
    """Its summary tells of rows that are gone, and stands in the prompt all the same."""
    reader, ref = the_session(write(tmp_path, talk(8), metadata={"_last_summary": {"text": "so far"}}))
    (compaction,) = reader.audit(ref, reader.outline(ref)).compactions
    assert (compaction.from_seq, compaction.rows, compaction.set_is, compaction.note, compaction.anomalies) == (
        None,
        None,
        Certainty.UNKNOWN,
        "so far",
        (),
    )
    assert (
        "the summary of those before stands in the prompt"
        in reader.timeline(ref, View.CONTEXT, reader.outline(ref)).about
    )


def test_the_context_shows_what_is_sent(tmp_path: Path) -> None:
    reader, ref = the_session(
        write(
            tmp_path,
            [
                {"role": "user", "content": "/new", "_command": True},
                {"role": "user", "content": "see", "media": ["/a.png"]},
                {"role": "assistant", "content": "[Message Time: 2026]\nit is a cat"},
                {"role": "assistant", "content": " "},
            ],
        )
    )
    assert [(row.seq, row.head) for row in rows(reader, ref, View.CONTEXT)] == [
        (2, "see\n[image: /a.png]"),
        (3, "it is a cat"),
    ]
    assert [row.label for row in rows(reader, ref)] == ["command", "", "", ""]


def test_what_a_later_release_added_for_the_model_is_not_what_somebody_said(tmp_path: Path) -> None:
    suffix = "[Runtime Context]\nnow\n[/Runtime Context]"
    reader, ref = the_session(
        write(
            tmp_path,
            [
                {"role": "user", "content": f"hello\n\n{suffix}", "_runtime_context": {"version": 1, "suffix": suffix}},
                {"role": "user", "content": "Continue the task.", "_hidden_history": True},
            ],
            last_archived=0,
        )
    )
    first, second = rows(reader, ref)
    assert (first.head, second.label) == ("hello", "hidden")
    assert reader.session(ref).summary.preview == "hello"
    assert reader.message(ref, first.row or "").content == f"hello\n\n{suffix}"
    assert [row.head for row in rows(reader, ref, View.CONTEXT)] == [f"hello\n\n{suffix}", "Continue the task."]


# -- beyond rows


def test_links(tmp_path: Path) -> None:
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "spawn", "arguments": "{}"}}],
    }
    started = {"role": "tool", "tool_call_id": "c", "name": "spawn", "content": "Subagent [r] started (id: T1). Wait."}
    report = {
        "role": "assistant",
        "content": "[Subagent 'r' completed]",
        "injected_event": "subagent_result",
        "subagent_task_id": "T1",
    }
    reader, ref = the_session(write(tmp_path, [*talk(1), call, started, *talk(2, 1), report, *talk(1, 3)]))
    shown = rows(reader, ref)

    def leads(seq: int) -> tuple[int | None, Certainty] | None:
        link = reader.follow(ref, shown[seq - 1].row or "")
        if link is None:
            return None
        assert link.seq is not None
        assert link.row == shown[link.seq - 1].row
        return link.seq, link.certainty

    assert leads(2) == (3, Certainty.RECORDED)
    assert leads(3) == (2, Certainty.RECORDED)
    assert leads(6) == (2, Certainty.INFERRED)
    assert leads(1) is leads(7) is None
    assert shown[5].label == "subagent"


def test_unanswered_calls(tmp_path: Path) -> None:
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for id_, name in (("c", "grep"), ("d", "exec"))
    ]
    reader, ref = the_session(
        write(
            tmp_path,
            [
                *talk(1),
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": "c", "content": "ok"},
            ],
        )
    )
    assert reader.session(ref).unanswered == ((2, "exec"),)


def test_finding(tmp_path: Path) -> None:
    reader, ref = the_session(
        write(tmp_path, [*talk(3_000), {"role": "tool", "content": [{"type": "text", "text": "Größe"}]}])
    )
    assert reader.find(ref, "MESSAGE 1500", 1, True) == 1_501
    assert reader.find(ref, "message 1500", 1_502, True) is None
    assert reader.find(ref, "message 1500", 3_000, False) == 1_501
    assert reader.find(ref, "nowhere", 1, True) is None
    assert reader.find(ref, "GRÖSSE", 1, True) == reader.find(ref, "größe", 1, True) == 3_001


def sidecar(path: Path, **values: object) -> None:
    held = {
        "version": 1,
        "session_key": KEY,
        "base_updated_at": "2026-05-16T10:00:00.000002",
        "base_message_count": 2,
        "checkpoint": {"phase": "awaiting_tools", "pending_tool_calls": [{"id": "c", "function": {"name": "ls"}}]},
        "provider_state": None,
    } | values
    beside = path.with_name(f"{encoded(KEY)}.checkpoint.json")
    beside.write_text(json.dumps(held))
    status = path.stat()
    os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns + 5))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, ""),
        ({"version": 2}, "its version is not 1"),
        ({"session_key": "x"}, "it names another session"),
        ({"base_updated_at": "x"}, "the session was changed since"),
        ({"base_message_count": 3}, "other messages"),
        ({"checkpoint": None}, "no checkpoint"),
    ],
)
def test_a_checkpoint_beside_a_session(tmp_path: Path, values: dict[str, object], why: str) -> None:
    path = write(tmp_path, talk(2), f"{encoded(KEY)}.jsonl", last_archived=0)
    sidecar(path, **values)
    reader, ref = the_session(path)
    detail = reader.session(ref)
    (text,) = (text for label, text in detail.extras if label == "checkpoint")
    assert why in text
    assert ("not used" in text) == bool(why)
    assert (detail.pending is not None) == (not why)
    if not why:
        assert text.endswith("awaiting_tools · 1 waiting: ls")
        os.utime(path.with_name(f"{encoded(KEY)}.checkpoint.json"), ns=(0, 0))
        assert any("saved after it" in text for _, text in reader.session(ref).extras)


def test_a_long_checkpoint_is_one_too(tmp_path: Path) -> None:
    path = write(tmp_path, talk(2), f"{encoded(KEY)}.jsonl", last_archived=0)
    sidecar(path, checkpoint={"phase": "tools_completed", "completed_tool_results": [{"content": "x" * 1_500_000}]})
    detail = the_session(path)[0].session(the_session(path)[1])
    assert detail.pending["phase"] == "tools_completed"


def test_the_log_of_later_releases_says_whose_a_summary_is(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "ws")
    log = folder / "memory" / "history.jsonl"
    with log.open("a") as file:
        for number, owner in enumerate(("loop:plain", "loop:other", None), 2):
            file.write(
                json.dumps(
                    {"cursor": number, "timestamp": "2026-11-21 08:00", "content": f"s{number}", "session_key": owner}
                )
                + "\n"
            )
        file.write('{"cursor": 9, "timestamp": "2026')
    (archive,) = open_archive(folder)
    reader = archive.reader()
    ref = reader.resolve("loop:plain")
    entries = reader.audit(ref, reader.outline(ref)).archived or ()
    assert [(entry.number, entry.of_this_session) for entry in entries] == [(1, False), (2, True), (4, False)]


def test_an_outline_says_on_which_lines_damage_stands(tmp_path: Path) -> None:
    path = tmp_path / NAME
    whole = lines(talk(4)).split(b"\n")
    path.write_bytes(b"\n".join([*whole[:2], b"", b"123", whole[2], b"{", *whole[3:]]))
    with opening(str(path)) as file:
        outline = outline_rows(file, lambda: False)
    assert [unloaded.line for unloaded in outline.unloaded_lines] == [4, 6]
    assert outline.rows_without_seq == [1, 3]
    assert [outline.row_of(seq) for seq in range(1, 5)] == [0, 2, 4, 5]
    assert [outline.seq_of(row) for row in (0, 2, 4, 5)] == [1, 2, 3, 4]
    assert outline.lost == (("JSON that is no object", 4),)


def test_a_log_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "ws")
    log = folder / "memory" / "history.jsonl"
    log.unlink()
    log.mkdir()
    (archive,) = open_archive(folder)
    reader = archive.reader()
    ref = reader.resolve("loop:plain")
    (entry,) = reader.audit(ref, reader.outline(ref)).archived or ()
    assert entry.damage == (f"{log}: is not a regular file.",)
    log.rmdir()
    assert not reader.audit(ref, reader.outline(ref)).archived


def test_damage_at_the_end_of_a_file_whose_lines_are_not_counted_yet(long: Path) -> None:
    with long.open("ab") as file:
        file.write(b'{"role": "user", "content": "torn\n')
    reader, ref = the_session(long)
    rows = reader.timeline(ref, View.ALL)
    torn = rows.window(rows.length.value - 1, rows.length.value)[0]
    assert (torn.seq, torn.line, torn.role) == (None, None, "user")
    assert torn.damage
    assert "line" not in torn.damage[0].split(":")[0]
    message = reader.message(ref, torn.row or "")
    assert message.raw["as stored"] == '{"role": "user", "content": "torn'
    assert "line" not in message.raw


def test_a_long_session_that_is_not_outlined_yet_has_no_links(long: Path) -> None:
    reader, ref = the_session(long)
    newest = reader.timeline(ref, View.ALL).window(0, 1)[0]
    assert reader.follow(ref, newest.row or "") is None
    outline = reader.outline(ref)
    row = reader.timeline(ref, View.ALL, outline).window(5, 6)[0].row or ""
    fresh, same = the_session(long)
    with pytest.raises(Busy, match="still being read"):
        fresh.follow(same, row)
