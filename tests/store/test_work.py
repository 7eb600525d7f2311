"""Work counted: which statements a read costs, what they look at, and how much memory it takes."""

from __future__ import annotations

import gc
import json
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessionscope.store import Archive, Reader, Ref, View, open_archive
from sessionscope.store.io import sqlitefile

from .helpers import LAYOUTS, NAMES, add_messages, add_session, build, call, fill, only, prefix_of

ROWS, FOLDS = 12_000, 4
SAMPLE = Callable[[str], Path]


@cache
def _big(layout: str) -> bytes:
    """A session of many rows with folds, a spawning call and a child; one with rows that are damaged; small ones."""
    with TemporaryDirectory() as folder:
        path, prefix = build(Path(folder) / "big.db", layout), prefix_of(layout)
        with closing(sqlite3.connect(path)) as conn, conn:
            add_session(conn, "big", prefix, ROWS + 1)
            folded = ROWS // 2
            notes = {folded * (at + 1) // FOLDS + 1: folded * at // FOLDS + 1 for at in range(FOLDS)}
            add_messages(
                conn,
                "big",
                (
                    {
                        "seq": seq,
                        "role": "assistant" if seq % 2 else "user",
                        "created_at": seq * 10,
                        "content": f"words {seq} " + "x" * 300,
                        "tool_calls_json": json.dumps([call("run_agent", f"c{seq}", spec="s")])
                        if seq % 501 == 0
                        else None,
                        "tool_call_id": f"c{seq - 1}" if seq % 501 == 1 else None,
                        "name": "compact_note" if seq in notes else None,
                        "meta_json": json.dumps({"ord": notes[seq]}) if seq in notes else "{}",
                        "state": "compacted_out" if seq <= folded and seq not in notes else "active",
                    }
                    for seq in range(1, ROWS + 1)
                ),
                prefix,
            )
            for number, (note, first) in enumerate(notes.items(), 1):
                conn.execute(
                    f"INSERT INTO {prefix}compactions VALUES ('big', ?, ?, ?, ?, 9, 5, 0, 1)",
                    (number, note, first, note - 1),
                )
            for at in range(300):
                add_session(
                    conn,
                    f"s{at}",
                    prefix,
                    4,
                    parent_session_id="big" if at % 3 else None,
                    created_at=at * 100,
                    kind="subagent" if at % 3 else "root",
                )
                add_messages(conn, f"s{at}", ({"seq": seq, "content": f"{at} {seq}"} for seq in (1, 2, 3)), prefix)
            conn.execute(f"UPDATE {prefix}messages SET seq = 'odd' WHERE session_id = 's0' AND seq = 2")
            conn.execute(f"UPDATE {prefix}sessions SET session_id = x'00' WHERE session_id = 's7'")
            conn.execute(f"UPDATE {prefix}messages SET session_id = x'00' WHERE session_id = 's7'")
        return path.read_bytes()


@pytest.fixture(params=LAYOUTS)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    path = tmp_path / "big.db"
    path.write_bytes(_big(request.param))
    return only(path)


class Trace:
    """Statements that reads ran, with their values put in, and how many bursts they came in."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.bursts = 0

    def on(self, table: str) -> list[str]:
        return [statement for statement in self.statements if f'FROM "{table}"' in statement]


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Trace:
    found = Trace()
    connect = sqlitefile._connect

    @contextmanager
    def traced(uri: str) -> Iterator[sqlite3.Connection]:
        with connect(uri) as conn:
            found.bursts += 1
            # A burst begins by asking for the schema's number, which reads no table.
            conn.set_trace_callback(
                lambda statement: None if statement == "PRAGMA schema_version" else found.statements.append(statement)
            )
            yield conn
            conn.set_trace_callback(None)

    monkeypatch.setattr(sqlitefile, "_connect", traced)
    return found


def plan(archive: Archive, statement: str) -> list[str]:
    with closing(sqlite3.connect(f"file:{archive.info.location}?mode=ro", uri=True)) as conn:
        return [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}")]


def check(archive: Archive, trace: Trace, *bounded: str) -> None:
    """No statement looks at a whole table, or sorts what an index has in order; but for those that have a bound."""
    assert trace.statements
    for statement in trace.statements:
        for step in plan(archive, statement):
            harmless = step.startswith(
                (
                    "SEARCH",
                    "SCALAR SUBQUERY",
                    "CO-ROUTINE",
                    "SCAN (subquery",
                    "LIST SUBQUERY",
                    "CORRELATED SCALAR SUBQUERY",
                    "USING",
                )
            )
            assert harmless or any(step.startswith(allowed) for allowed in bounded), (step, statement)


@pytest.mark.parametrize(
    "read",
    [
        lambda reader, prefix: reader.newest(50),
        lambda reader, prefix: reader.summaries(range(1, 60)),
        lambda reader, prefix: reader.previews(range(1, 60)),
        lambda reader, prefix: reader.key(Ref(prefix, "big")),
        lambda reader, prefix: reader.resolve("s1"),
        lambda reader, prefix: reader.resolve("\0@9"),
        lambda reader, prefix: reader.session(Ref(prefix, "big")),
        lambda reader, prefix: reader.session(Ref(prefix, "\0@9")),
        lambda reader, prefix: reader.outline(Ref(prefix, "big")),
        lambda reader, prefix: reader.outline(Ref(prefix, "s0")),
        lambda reader, prefix: reader.outline(Ref(prefix, "\0@9")),
        lambda reader, prefix: reader.outline_if_small(Ref(prefix, "big")),
        lambda reader, prefix: reader.timeline(Ref(prefix, "big"), View.ALL).window(9_000, 9_060),
        lambda reader, prefix: reader.message(Ref(prefix, "big"), "11000"),
        lambda reader, prefix: reader.messages(Ref(prefix, "big"), ["1", "11000"]),
        lambda reader, prefix: reader.message(Ref(prefix, "s0"), "@12003"),
        lambda reader, prefix: reader.follow(Ref(prefix, "big"), "10020"),
        lambda reader, prefix: reader.follow(Ref(prefix, "big"), "10021"),
        lambda reader, prefix: reader.spawner(Ref(prefix, "s299")),
        lambda reader, prefix: reader.usage(Ref(prefix, "big")),
        lambda reader, prefix: reader.find(Ref(prefix, "big"), "words 11000 ", 1, True),
        lambda reader, prefix: reader.find(Ref(prefix, "big"), "words 1 ", 12_000, False),
    ],
)
def test_every_read_goes_by_an_index(read: Callable[[Reader, str], object], archive: Archive, trace: Trace) -> None:
    assert read(archive.reader(), archive.info.layout) is not False
    check(archive, trace)


def test_what_grew_and_how_many_are_read_by_an_index(archive: Archive, trace: Trace) -> None:
    reader, ref = archive.reader(), Ref(archive.info.layout, "big")
    outline = reader.outline(ref)
    trace.statements.clear()
    assert reader.grown(ref, outline) == outline
    assert reader.audit(ref, outline).compactions
    check(archive, trace)
    trace.statements.clear()
    assert reader.session_table_if_small()
    assert "LIMIT 2000" in trace.statements[0]


def test_a_session_table_walks_the_sessions_once_and_sorts_nothing(archive: Archive, trace: Trace) -> None:
    assert len(archive.reader().session_table()) == 301
    check(archive, trace, f"SEARCH {archive.info.layout}sessions")
    assert len(trace.statements) == 1


@pytest.mark.parametrize("view", View)
def test_a_window_is_one_statement_and_one_burst(view: View, archive: Archive, trace: Trace) -> None:
    reader, ref = archive.reader(), Ref(archive.info.layout, "big")
    lines = reader.timeline(ref, view, reader.outline(ref))
    for start in (0, 2_000, lines.length.value - 60):
        trace.statements.clear()
        trace.bursts = 0
        assert len(lines.window(start, start + 60)) == 60
        assert len(trace.statements) == trace.bursts == 1
        check(archive, trace)


def test_a_window_with_holes_is_one_statement_and_with_strays_two(tmp_path: Path, trace: Trace) -> None:
    path = fill(build(tmp_path / "s.db"), "s", [{"seq": seq} for seq in (3, 4, 9, "x", "y")])
    reader, ref = only(path).reader(), Ref("", "s")
    lines = reader.timeline(ref, View.ALL, reader.outline(ref))
    trace.statements.clear()
    assert [row.hole or row.row for row in lines.window(0, 5)] == [(1, 2), "3", "4", (5, 8), "9"]
    assert len(trace.statements) == 1
    assert [row.row for row in lines.window(4, 99)] == ["9", "@4", "@5"]
    assert len(trace.statements) == 3
    trace.statements.clear()
    assert [row.hole for row in lines.window(0, 1)] == [(1, 2)]
    assert trace.statements == []


def test_locating_costs_no_read(archive: Archive, trace: Trace) -> None:
    reader, ref = archive.reader(), Ref(archive.info.layout, "big")
    lines = reader.timeline(ref, View.CONTEXT, reader.outline(ref))
    trace.statements.clear()
    assert lines.locate(11_000) is not None
    assert lines.nearest(5) >= 0
    assert lines.length.value > 0
    assert archive.stamp() == archive.stamp()
    assert trace.statements == []


def test_a_long_session_shows_a_page_before_it_is_outlined(archive: Archive, trace: Trace) -> None:
    """A few looks at the ends of its seqs, and one at a page of rows."""
    lines = archive.reader().timeline(Ref(archive.info.layout, "big"), View.ALL)
    assert (lines.length.value, lines.length.exact) == (ROWS, False)
    assert str(lines.length) == f"~{ROWS}"
    assert trace.bursts <= 2
    assert len(trace.statements) <= 4
    trace.statements.clear()
    assert len(lines.window(ROWS - 50, ROWS)) == 50
    assert len(trace.statements) == 1
    for view in (View.ACTIVE, View.COMPACTED, View.CONTEXT):
        provisional = archive.reader().timeline(Ref(archive.info.layout, "big"), view)
        assert (provisional.length.value, provisional.length.exact) == (0, False)


def test_counts_of_a_list_are_bounded(archive: Archive) -> None:
    reader = archive.reader()
    (big,) = reader.summaries([1])
    assert (str(big.message_count), str(big.active_count), big.compaction_count) == (f"~{ROWS}", f"~{ROWS}", FOLDS)
    (exact,) = reader.summaries([1], exact=True)
    assert (str(exact.message_count), str(exact.active_count)) == (str(ROWS), str(ROWS // 2 + FOLDS - 1))


def test_long_walks_can_be_stopped(archive: Archive) -> None:
    from sessionscope.store import Cancelled

    reader, ref = archive.reader(), Ref(archive.info.layout, "big")
    for walk in (
        lambda: reader.session_table(lambda: True),
        lambda: reader.outline(ref, lambda: True),
        lambda: reader.find(ref, "nothing", 1, True, lambda: True),
    ):
        with pytest.raises(Cancelled):
            walk()
    asked: list[int] = []
    with pytest.raises(Cancelled):
        reader.find(ref, "nothing", 1, True, lambda: asked.append(1) or len(asked) > 1)
    assert len(asked) == 2


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_read_by_index_too(name: str, sample: SAMPLE, trace: Trace) -> None:
    for archive in open_archive(sample(name)):
        trace.statements.clear()
        reader, layout = archive.reader(), archive.info.layout
        for summary in reader.newest(9):
            reader.session(summary.ref)
            outline = reader.outline(summary.ref)
            reader.audit(summary.ref, outline)
            reader.usage(summary.ref)
            for view in View:
                for row in reader.timeline(summary.ref, view, outline).window(0, 99):
                    if row.row is not None:
                        reader.message(summary.ref, row.row)
                        reader.follow(summary.ref, row.row)
        assert layout == archive.info.layout
        check(archive, trace)


# -- memory


def peak(work: Callable[[], object]) -> int:
    """The most bytes that Python held at a time while it worked, beyond what it held before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = work()
        found = tracemalloc.get_traced_memory()[1] - before
        del kept
        return found
    finally:
        tracemalloc.stop()


@cache
def _uniform(rows: int) -> bytes:
    """A session half of which is folded under a note, made by the database itself."""
    with TemporaryDirectory() as folder:
        path = build(Path(folder) / "s.db")
        with closing(sqlite3.connect(path)) as conn, conn:
            add_session(conn, "s", next_seq=rows + 1)
            conn.execute(
                "WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?) "
                "INSERT INTO messages (session_id, seq, role, content, state, created_at) "
                "SELECT 's', seq, 'user', 'words ' || seq, iif(seq <= ?, 'compacted_out', 'active'), 1 FROM n",
                (rows, rows // 2),
            )
            conn.execute("INSERT INTO compactions VALUES ('s', 1, ?, 1, ?, 9, 5, 0, 1)", (rows // 2 + 1, rows // 2))
        return path.read_bytes()


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    used = []
    for rows in (10_000, 300_000):
        path = tmp_path / f"{rows}.db"
        path.write_bytes(_uniform(rows))
        reader, ref = only(path).reader(), Ref("", "s")
        reader.outline(ref)

        def browse(reader: Reader = reader, ref: Ref = ref, rows: int = rows) -> object:
            outline = reader.outline(ref)
            assert outline.count() == rows
            audit = reader.audit(ref, outline)
            assert audit.compactions[0].rows == rows // 2
            kept = [outline, audit]
            for view in View:
                lines = reader.timeline(ref, view, outline)
                assert lines.window(lines.length.value - 50, lines.length.value)[-1].row
                kept.append(lines)
            return kept

        used.append(peak(browse))
    assert max(used) < 500_000
    assert used[1] < used[0] * 1.2 + 20_000


MB = 1_000_000


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six messages of 21 MB each, in content, tool calls and meta. It is only read."""
    path = build(tmp_path_factory.mktemp("heavy") / "heavy.db")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA synchronous=OFF")
        add_session(conn, "s", next_seq=7)
        add_messages(conn, "s", ({"seq": seq} for seq in range(1, 7)))
        for seq, column in enumerate(("content", "content", "tool_calls_json", "meta_json", "content", "content"), 1):
            conn.execute(
                f"UPDATE messages SET {column} = replace(hex(zeroblob({7 * MB})), '00', '€') WHERE seq = ?", (seq,)
            )
        huge = f"hex(zeroblob({10 * MB}))"
        conn.execute(f"UPDATE sessions SET system_prompt = {huge}, config_json = {huge}, metadata_json = {huge}")
        conn.execute(f"UPDATE session_state SET pending_json = {huge}")
    return path


@pytest.mark.parametrize(
    "read",
    [
        lambda reader, ref: reader.timeline(ref, View.ALL).window(0, 6),
        lambda reader, ref: reader.message(ref, "1"),
        lambda reader, ref: reader.message(ref, "1", 19 * MB, 19 * MB + 65_536),
        lambda reader, ref: reader.message(ref, "3"),
        lambda reader, ref: reader.message(ref, "4"),
        lambda reader, ref: reader.messages(ref, ["1", "3"], 1_000),
        lambda reader, ref: reader.newest(5),
        lambda reader, ref: reader.session(ref),
        lambda reader, ref: reader.audit(ref, reader.outline(ref)),
        lambda reader, ref: reader.follow(ref, "3"),
    ],
)
def test_huge_values_are_never_read_whole(read: Callable[[Reader, Ref], object], heavy: Path) -> None:
    reader, ref = only(heavy).reader(), Ref("", "s")
    read(reader, ref)
    assert peak(lambda: read(reader, ref)) < 4 * MB


def test_the_size_of_a_huge_message_is_told(heavy: Path) -> None:
    reader, ref = only(heavy).reader(), Ref("", "s")
    row = reader.timeline(ref, View.ALL).window(0, 1)[0]
    assert (row.size, row.head, row.damage) == (21 * MB, "€" * 200, ())
    message = reader.message(ref, "1")
    assert (message.start, message.stop, message.size) == (0, 65_535, 21 * MB)
    end = reader.message(ref, "1", 21 * MB - 4, 30 * MB)
    assert (end.content, end.start, end.stop) == ("€€", 21 * MB - 6, 21 * MB)
    past = reader.message(ref, "1", 30 * MB, 40 * MB)
    assert (past.content, past.size) == ("", 21 * MB)


# -- pieces

PIECES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("a\0é€😀\n\ufeff"), max_size=60)


@cache
def _holder() -> tuple[TemporaryDirectory[str], Path]:
    folder = TemporaryDirectory()
    return folder, fill(build(Path(folder.name) / "s.db"), "s", [{"seq": 1, "content": ""}])


def store(content: str | bytes) -> Reader:
    _, path = _holder()
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA synchronous=OFF")
        conn.execute(
            "UPDATE messages SET content = CAST(? AS TEXT)",
            (content if isinstance(content, bytes) else content.encode(),),
        )
    return only(path).reader()


@settings(max_examples=60)
@given(PIECES, st.integers(1, 40))
def test_pieces_put_together_are_the_content(content: str, step: int) -> None:
    reader, ref = store(content), Ref("", "s")
    size = len(content.encode())
    pieces, at = [], 0
    while True:
        message = reader.message(ref, "1", at, at + step)
        assert message.damage == ()
        assert (message.start, message.size) == (at, size)
        assert message.content == content.encode()[message.start : message.stop].decode()
        pieces.append(message.content)
        assert message.stop > at or message.stop == size
        assert message.stop - at <= max(step, 4)
        at = message.stop
        if at == size:
            break
    assert "".join(pieces) == content


@settings(max_examples=60)
@given(PIECES, st.integers(0, 80), st.integers(1, 40))
def test_a_piece_from_anywhere_is_whole_characters(content: str, start: int, step: int) -> None:
    reader, stored = store(content), content.encode()
    message = reader.message(Ref("", "s"), "1", start, start + step)
    assert message.damage == ()
    assert message.content == stored[message.start : message.stop].decode()
    assert min(start, len(stored)) - 3 <= message.start <= start or start > len(stored)


@settings(max_examples=60)
@given(st.binary(max_size=60), st.integers(1, 20))
@example(b"\0\0\0\0\xc0\xc0\0", 6)
def test_pieces_of_broken_text_lose_no_byte(stored: bytes, step: int) -> None:
    reader, at, shown = store(stored), 0, ""
    while at < len(stored):
        message = reader.message(Ref("", "s"), "1", at, at + step)
        assert message.start == at
        assert message.stop > at
        shown += message.content or ""
        at = message.stop
    assert shown == stored.decode("utf-8", "backslashreplace")
