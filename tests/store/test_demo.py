"""The sample: shaped as power-loop 0.2.0 writes it, the same for the same time, with one of everything."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import Archive, Certainty, Place, Reader, SessionSummary, open_archive, write_demo

NOW, MINUTE, DAY = 1_750_000_000_000, 60_000, 86_400_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    folder.mkdir()
    write_demo(folder / "demo.db", NOW)
    return folder / "demo.db"


@pytest.fixture
def archive(path: Path) -> Archive:
    (archive,) = open_archive(path)
    return archive


@pytest.fixture
def reader(archive: Archive) -> Reader:
    return archive.reader()


@pytest.fixture
def sessions(reader: Reader) -> list[SessionSummary]:
    return reader.summaries(list(reader.session_table().keys))


@pytest.fixture
def main(sessions: list[SessionSummary]) -> SessionSummary:
    return next(session for session in sessions if session.title == "Fix the flaky importer")


def rows(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(statement).fetchall()


def test_the_same_time_gives_the_same_rows(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.db"
    write_demo(again, NOW)
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(again)) as two:
        assert list(one.iterdump()) == list(two.iterdump())


def test_a_file_that_is_there_is_left_alone(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write_demo(path, NOW)
    assert path.read_bytes() == before


def test_nothing_lies_beside_it(path: Path, archive: Archive) -> None:
    assert [file.name for file in path.parent.iterdir()] == ["demo.db"]
    assert archive.info.format.startswith("power-loop 0.2")


def test_times_spread_over_three_days_up_to_two_minutes_ago(sessions: list[SessionSummary], path: Path) -> None:
    times = [time for (time,) in rows(path, "SELECT created_at FROM messages")]
    assert max(session.updated_at or 0 for session in sessions) == max(times) == NOW - 2 * MINUTE
    assert 2 * DAY < NOW - min(times) < 3 * DAY


def test_times_never_run_backwards_in_a_session(path: Path) -> None:
    last: dict[str, int] = {}
    for session, time in rows(path, "SELECT session_id, created_at FROM messages ORDER BY session_id, seq"):
        assert last.get(session, 0) <= time
        last[session] = time


def test_there_is_one_of_everything(reader: Reader, sessions: list[SessionSummary]) -> None:
    session_table = reader.session_table()
    assert {session_table.place_in_tree(at) for at in range(len(session_table))} == {
        Place.ROOT,
        Place.CHILD,
        Place.SURVIVOR,
        Place.ORPHAN,
    }
    assert max(session_table.depth(at) for at in range(len(session_table))) == 3
    subagents = [session for session in sessions if session.kind == "subagent"]
    assert {session.lifecycle for session in subagents} == {"linked", "detached", "ephemeral"}
    assert {session.status for session in sessions} == {"active", "archived"}
    assert any(not session.message_count.value for session in sessions)
    assert not any(session.damage for session in sessions)


def test_every_child_is_linked_to_the_call_that_started_it(reader: Reader) -> None:
    session_table = reader.session_table()
    children = [at for at in range(len(session_table)) if session_table.parents[at] >= 0]
    links = [reader.spawner(session.ref) for session in reader.summaries([session_table.keys[at] for at in children])]
    assert all(link and link.row for link in links)
    assert {link.certainty for link in links if link} == {Certainty.RECORDED, Certainty.INFERRED}


def test_the_bookkeeping_is_that_of_the_rows(path: Path) -> None:
    stored = rows(
        path,
        "SELECT next_seq, last_compact_seq, (SELECT count(*) FROM messages m WHERE m.session_id = "
        "s.session_id), (SELECT count(*) FROM compactions c WHERE c.session_id = s.session_id) "
        "FROM session_state s",
    )
    assert all(next_seq == messages + 1 and last == compactions for next_seq, last, messages, compactions in stored)


def test_a_later_fold_swallows_the_note_of_an_earlier_one(reader: Reader, main: SessionSummary) -> None:
    outline = reader.outline(main.ref)
    audit = reader.audit(main.ref, outline)
    first, second = audit.compactions
    assert 60 <= main.message_count.value <= 80
    assert second.from_seq is not None
    assert second.to_seq is not None
    assert second.from_seq <= (first.note_seq or 0) <= second.to_seq
    assert not first.anomalies
    assert not second.anomalies
    assert not audit.unexplained
    assert outline.count("compacted_out") == (first.rows or 0) + (second.rows or 0)
    meta = reader.message(main.ref, str(second.note_seq)).meta
    assert meta == {
        "compacted_at_round": 0,
        "from_seq": second.from_seq,
        "to_seq": second.to_seq,
        "original_tokens": second.before_tokens,
        "summary_tokens": second.after_tokens,
    }


def test_one_fold_is_odd(reader: Reader, sessions: list[SessionSummary]) -> None:
    anomalies = [
        compaction.anomalies
        for session in sessions
        for compaction in reader.audit(session.ref, reader.outline(session.ref)).compactions
        if compaction.anomalies
    ]
    assert len(anomalies) == 1
    assert "its span is inverted" in anomalies[0]


def test_a_call_still_awaits_its_answer(reader: Reader, sessions: list[SessionSummary]) -> None:
    (waiting,) = [detail for detail in (reader.session(session.ref) for session in sessions) if detail.unanswered]
    assert waiting.pending["assistant_seq"] == waiting.unanswered[0][0]
    assert len(waiting.pending["tool_call_ids"]) == 1


def test_usage_is_recorded(reader: Reader, main: SessionSummary) -> None:
    usage = reader.usage(main.ref)
    assert usage.rounds
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_content_is_of_every_kind(path: Path) -> None:
    contents = [content for (content,) in rows(path, "SELECT content FROM messages")]
    assert 25_000 < max(map(len, contents)) < 40_000
    for words in ("\x1b[31m", "[bold red]", "\u202e", "請求書", "👩‍💻", "```python", "Error: exit status 1"):
        assert any(words in content for content in contents), words


def test_calls_have_arguments_as_the_agent_writes_them(path: Path) -> None:
    for (stored,) in rows(path, "SELECT tool_calls_json FROM messages WHERE tool_calls_json IS NOT NULL"):
        for call in json.loads(stored):
            arguments = json.loads(call["function"]["arguments"])
            assert call["type"] == "function"
            assert call["function"]["name"] != "run_agent" or ({"spec", "input"} == set(arguments))
