"""What every reader of every format promises, on every sample."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from sessionscope.store import Archive, Reader, Ref, State, TimelineRow, UnknownSession, View, diagnose, open_archive
from sessionscope.store.model.outline import Outline, holds, size

from .samples import SAMPLES, everything_below, rows, sessions, told

pytestmark = pytest.mark.parametrize("place", SAMPLES, indirect=True)
NOBODY = Ref("", "nobody of this name", "nobody.jsonl")


def views(archive: Archive) -> list[tuple[Reader, Ref, Outline, View]]:
    return [(reader, ref, reader.outline(ref), view) for reader, ref in sessions(archive) for view in View]


def test_windows_agree_with_whole_reads(archives: list[Archive]) -> None:
    for reader, ref, outline, view in chain.from_iterable(map(views, archives)):
        timeline = reader.timeline(ref, view, outline)
        length = timeline.length.value
        assert timeline.length.exact
        whole = timeline.window(0, length)
        assert len(whole) == length
        for step in (1, 3, 7):
            pieces = [timeline.window(start, start + step) for start in range(0, length, step)]
            assert list(chain.from_iterable(pieces)) == whole
        assert timeline.window(length, length + 5) == []
        assert timeline.window(max(0, length - 2), length + 9) == whole[-2:]
        assert reader.timeline(ref, view).window(0, length) == whole


def test_locate_agrees_with_seqs(archives: list[Archive]) -> None:
    for reader, ref, outline, view in chain.from_iterable(map(views, archives)):
        timeline = reader.timeline(ref, view, outline)
        whole = timeline.window(0, timeline.length.value)
        places = {row.seq: at for at, row in enumerate(whole) if row.seq is not None}
        assert len(places) == sum(row.seq is not None for row in whole)
        assert all(timeline.locate(seq) == at for seq, at in places.items())
        assert all(timeline.nearest(seq) == at for seq, at in places.items())
        holes = [row.hole for row in whole if row.hole is not None]
        assert timeline.highest == max([*places, *(last for _, last in holes)], default=0)
        for seq in (0, timeline.highest + 1, *(first for first, _ in holes)):
            assert timeline.locate(seq) is None
            assert 0 <= timeline.nearest(seq) <= max(0, len(whole) - 1)
        assert all(len(str(seq)) <= timeline.digits for seq in places)


def test_views_agree_with_states(archives: list[Archive]) -> None:
    for reader, ref in chain.from_iterable(map(sessions, archives)):
        outline, shown = reader.outline(ref), {view: rows(reader, ref, view) for view in View}
        by_state: dict[str, list[int]] = {}
        for row in shown[View.ALL]:
            if row.seq is not None:
                by_state.setdefault(row.state, []).append(row.seq)
        assert {state: sorted(seqs) for state, seqs in by_state.items()} == {
            state: [seq for first, last in runs for seq in range(first, last + 1)]
            for state, runs in outline.states.items()
            if runs
        }
        for view, state in ((View.ACTIVE, State.ACTIVE), (View.COMPACTED, State.COMPACTED)):
            assert {row.state for row in shown[view]} <= {state}
            assert [row.seq for row in shown[view]] == by_state.get(state, [])
        assert {row.seq for row in shown[View.CONTEXT]} <= set(by_state.get(State.ACTIVE, []))
        assert all((row.row is None) == (row.state == State.HOLE) for row in shown[View.ALL])


def test_outlines_agree_with_each_other(archives: list[Archive]) -> None:
    for reader, ref in chain.from_iterable(map(sessions, archives)):
        outline = reader.outline(ref)
        assert reader.outline_if_small(ref) == outline
        assert reader.grown(ref, outline) in (outline, None)


def test_summaries_agree_with_the_session_table_and_with_rows(archives: list[Archive]) -> None:
    for archive in archives:
        reader = archive.reader()
        session_table = reader.session_table()
        keys = list(session_table.keys)
        assert len(set(keys)) == len(keys)
        summaries = reader.summaries(keys, exact=True)
        assert [summary.key for summary in summaries] == keys
        assert [summary.ref.id for summary in summaries] == session_table.ids
        assert reader.summaries(keys[::-1], exact=True) == summaries[::-1]
        assert reader.previews(keys) == {summary.key: summary.preview for summary in summaries}
        small = reader.session_table_if_small()
        assert small is None or small.ids == session_table.ids
        newest = [summary.ref for summary in reader.newest(len(keys))]
        assert [summary.ref for summary in reader.newest(2)] == newest[:2]
        assert len(set(newest)) == len(newest)
        assert set(newest) <= {summary.ref for summary in summaries}
        for summary in summaries:
            assert reader.key(summary.ref) == summary.key
            assert reader.resolve(str(summary.ref)) == summary.ref
            outline = reader.outline(summary.ref)
            assert summary.message_count.exact
            assert summary.message_count.value - size(outline.runs()) in (0, len(outline.rows_without_seq))
            assert summary.active_count.value == outline.count(State.ACTIVE)
            assert reader.session(summary.ref).summary == summary


def test_messages_agree_with_rows(archives: list[Archive]) -> None:
    for reader, ref in chain.from_iterable(map(sessions, archives)):
        shown = [row for row in rows(reader, ref) if row.row is not None]
        found = reader.messages(ref, [row.row or "" for row in shown])
        assert [message.row for message in found] == [row.row for row in shown]
        for row, message in zip(shown, found, strict=True):
            assert (message.seq, message.state, message.role) == (row.seq, row.state, row.role)
            assert message.created_at == row.created_at
            assert reader.message(ref, message.row) == message
            assert message.raw


def test_pieces_make_the_content(archives: list[Archive]) -> None:
    for reader, ref in chain.from_iterable(map(sessions, archives)):
        for row in (row.row for row in rows(reader, ref) if row.row is not None):
            whole = reader.message(ref, row, 0, 1 << 24)
            if not whole.content:
                continue
            text, at = "", 0
            while at < whole.size:
                piece = reader.message(ref, row, at, at + max(7, whole.size // 3))
                assert piece.start == at < piece.stop
                text, at = text + (piece.content or ""), piece.stop
            assert text == whole.content


def test_links_lead_to_messages(archives: list[Archive]) -> None:
    for reader, ref in chain.from_iterable(map(sessions, archives)):
        links = [reader.follow(ref, row.row) for row in rows(reader, ref) if row.row is not None]
        for link in (*links, reader.spawner(ref)):
            if link is None:
                continue
            assert (link.row is None) == (link.seq is None)
            assert reader.key(link.ref) is not None
            if link.row is not None and link.seq is not None:
                assert reader.message(link.ref, link.row).seq == link.seq
                at = reader.timeline(link.ref, View.ALL).locate(link.seq)
                assert at is not None
                assert rows(reader, link.ref)[at].row == link.row


def test_compactions_take_rows_that_exist(archives: list[Archive]) -> None:
    for reader, ref in chain.from_iterable(map(sessions, archives)):
        outline = reader.outline(ref)
        audit = reader.audit(ref, outline)
        numbers = [compaction.number for compaction in audit.compactions]
        assert numbers == sorted(set(numbers))
        for compaction in audit.compactions:
            taken = reader.timeline_of_runs(ref, outline, compaction.set_runs)
            seqs = [row.seq for row in taken.window(0, taken.length.value)]
            assert seqs == [row.seq for row in rows(reader, ref) if row.seq and holds(compaction.set_runs, row.seq)]
            assert compaction.rows is None or compaction.rows == size(compaction.set_runs) == len(seqs)
            assert compaction.note_row is None or reader.message(ref, compaction.note_row).seq == compaction.note_seq
        assert all(holds(outline.runs(State.COMPACTED), first) for first, _ in audit.unexplained)


def test_the_context_agrees_with_its_view(archives: list[Archive]) -> None:
    for reader, ref in chain.from_iterable(map(sessions, archives)):
        context, outline = reader.context(ref), reader.outline(ref)
        active = [seq for first, last in outline.runs(State.ACTIVE) for seq in range(first, last + 1)]
        assert sorted(row.seq for row in context.rows) == active
        assert all(row.tokens > 0 for row in context.rows)
        assert len(reader.growth(ref, reader.audit(ref, outline))) <= size(outline.runs()) + len(
            outline.rows_without_seq
        )


def test_what_is_found_holds_the_words(archives: list[Archive]) -> None:
    def words_of(row: TimelineRow) -> str:
        return max(row.head.split(), key=len, default="")

    for reader, ref in chain.from_iterable(map(sessions, archives)):
        shown = [row for row in rows(reader, ref) if row.seq and row.state in (State.ACTIVE, State.COMPACTED)]
        for row in (row for row in shown if words_of(row).isalnum() and words_of(row).isascii()):
            seq = row.seq or 0
            assert reader.find(ref, words_of(row), seq, True) == seq
            assert reader.find(ref, words_of(row), seq, False) == seq
        assert reader.find(ref, "no message says this, in any sample", 0, True) is None


def test_what_does_not_exist_is_unknown(archives: list[Archive]) -> None:
    for archive in archives:
        reader = archive.reader()
        assert reader.key(NOBODY) is None
        assert reader.summaries([2**40]) == []
        with pytest.raises(UnknownSession):
            reader.resolve(NOBODY.id)
        for ask in (reader.session, reader.context):
            with pytest.raises(UnknownSession):
                ask(NOBODY)
        for _, ref in sessions(archive):
            with pytest.raises(UnknownSession):
                reader.message(ref, "no row is called this")
            assert reader.messages(ref, ["no row is called this"]) == []
            assert reader.follow(ref, "no row is called this") is None


def test_looking_changes_nothing(place: Path) -> None:
    before = everything_below(place.parent)
    archives = open_archive(place)
    stamps = [archive.stamp() for archive in archives]
    for archive in archives:
        told(archive)
    list(diagnose(place))
    assert [archive.stamp() for archive in archives] == stamps
    for archive in archives:
        archive.close()
    assert everything_below(place.parent) == before
