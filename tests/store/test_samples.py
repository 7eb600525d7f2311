"""Every sample that a real power-loop wrote reads as that release reads it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sessionscope.store import Archive, Certainty, NotAnArchive, Order, Place, Ref, State, View, open_archive
from sessionscope.store.io.sqlitefile import SqliteFile
from sessionscope.store.powerloop.format.layout import layouts

from .helpers import DATA, DETACHED, LINKED, NAMES, ROOT, call, everything, fill, only, raw, refs, rows, seqs

Sample = Callable[[str], Path]
ORACLE: dict[str, dict[str, dict[str, Any]]] = json.loads((DATA / "oracle.json").read_text())
FORMATS = {
    "v0.2.0": {"": "power-loop 0.2-0.3"},
    "damaged-0.2.0-half-append": {"": "power-loop 0.2-0.3"},
    "damaged-0.2.0-orphans": {"": "power-loop 0.2-0.3"},
    "v0.18.0": {"": "power-loop 0.15-1.0"},
    "folds-0.18.0-ambiguous": {"": "power-loop 0.15-1.0"},
    "folds-0.18.0-three-generations": {"": "power-loop 0.15-1.0"},
    "v2.2.0": {"pl_": "power-loop 2.2-3.1"},
    "v8.0.0": {"pl_": "power-loop 8.0"},
    "v8.0.0-prefix-empty": {"": "power-loop 8.0"},
    "mixed-0.2.0-then-8.0.0": {"": "power-loop 0.2-0.3", "pl_": "power-loop 8.0"},
    "poisoned-0.2.0-opened-by-8.0.0-prefix-empty": {"": "power-loop 2.2 or later"},
}


def _oracle() -> ModuleType:
    spec = importlib.util.spec_from_file_location("oracle", DATA / "oracle.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def agree(archive: Archive, truth: dict[str, Any]) -> None:
    """Whether an archive says of every session what a real power-loop says of it."""
    digest = _oracle().digest
    reader = archive.reader()
    session_table = reader.session_table()
    assert set(session_table.ids) == set(truth)
    for at, id_ in enumerate(session_table.ids):
        real = truth[id_]
        ref = Ref(archive.info.layout, id_)
        outline = reader.outline(ref)
        lines = [line for line in rows(reader, ref, View.ALL, outline) if line.row is not None]
        assert [[line.seq, line.state] for line in lines] == real["states"]
        assert seqs(reader, ref, View.CONTEXT) == real["context"]
        for view, state in ((View.ACTIVE, State.ACTIVE), (View.COMPACTED, State.COMPACTED)):
            assert seqs(reader, ref, view) == [seq for seq, was in real["states"] if was == state]
        messages = [reader.message(ref, line.row or "") for line in lines]
        raw_calls = [json.loads(message.raw["tool_calls_json"] or "null") for message in messages]
        assert [
            digest(m.role, m.content, m.name, calls, m.tool_call_id, m.round_index, m.meta, m.created_at)
            for m, calls in zip(messages, raw_calls, strict=True)
        ] == real["rows"]
        audit = reader.audit(ref, outline)
        assert [
            [c.number, c.from_seq, c.to_seq, c.note_seq, c.before_tokens, c.after_tokens, c.round_index, c.created_at]
            for c in audit.compactions
        ] == real["compactions"]
        detail, (summary,) = reader.session(ref), reader.summaries([session_table.keys[at]])
        assert [
            summary.status,
            summary.kind,
            summary.lifecycle,
            summary.parent_id,
            detail.config or {},
            detail.metadata or {},
            detail.prompt,
            summary.created_at,
            summary.updated_at,
        ] == real["session"]
        assert [session_table.ids[child] for child in session_table.children(at, Order.CREATED)] == real["children"][
            ::-1
        ]
        assert summary.message_count.value == len(real["states"])
        assert summary.active_count.value == len(real["context"])
        assert summary.compaction_count == len(real["compactions"])


@pytest.mark.parametrize("name", NAMES)
def test_opens_with_the_layouts_and_labels_of_its_tables(name: str, sample: Sample) -> None:
    found = open_archive(sample(name))
    assert {archive.info.layout: archive.info.format for archive in found} == FORMATS[name]
    for archive in found:
        assert archive.info.location.endswith(f"{name}.db")
        assert archive.info.name == f"{name}.db" + (f"#{archive.info.layout}" if len(found) > 1 else "")
        assert (archive.info.warning is not None) is name.startswith("poisoned")


@pytest.mark.parametrize("name", NAMES)
def test_everything_of_every_sample_can_be_read(name: str, sample: Sample) -> None:
    for archive in open_archive(sample(name)):
        found = everything(archive)
        assert found
        assert not any(line.damage for said in found.values() for line in said["rows"].values())
        bad = {id_: said["detail"].damage for id_, said in found.items() if said["detail"].damage}
        assert set(bad) == {"damaged-0.2.0-half-append": {ROOT}, "damaged-0.2.0-orphans": {LINKED}}.get(name, set())


@pytest.mark.parametrize(
    ("name", "layout", "release"),
    [(*key.rsplit("#", 1), release) for key, releases in ORACLE.items() for release in releases],
)
def test_reads_as_the_real_release_does(name: str, layout: str, release: str, sample: Sample) -> None:
    agree(only(f"{sample(name)}#{layout}"), ORACLE[f"{name}#{layout}"][release])


def test_every_sample_was_read_by_a_real_release() -> None:
    assert {key.rsplit("#", 1)[0] for key in ORACLE} == set(NAMES)


def test_reads_as_the_installed_release_does(tmp_path: Path, sample: Sample) -> None:
    """The same against the real package, where it is installed, with every sample that it loads."""
    pytest.importorskip("power_loop")
    from importlib.metadata import version

    for key in [key for key, releases in ORACLE.items() if version("power-loop") in releases]:
        name, layout = key.rsplit("#", 1)
        theirs = shutil.copyfile(DATA / "power-loop" / f"{name}.db", tmp_path / f"{name}.db")
        agree(only(f"{sample(name)}#{layout}"), asyncio.run(_oracle().answers(Path(theirs), layout)))


def test_a_note_stands_where_its_release_puts_it(sample: Sample) -> None:
    ref = Ref("", ROOT)
    for name, layout, context in (
        ("v0.2.0", "", [13, 14, 15, 16, 17, 18, 19, 20]),
        ("v0.18.0", "", [17, 13, 14, 15, 16, 18, 19, 20]),
        ("v8.0.0", "pl_", [17, 13, 14, 15, 16, 18, 19, 20]),
        ("poisoned-0.2.0-opened-by-8.0.0-prefix-empty", "", [13, 14, 15, 16, 17, 18, 19, 20]),
    ):
        archive = only(sample(name))
        lines = archive.reader().timeline(Ref(layout, ref.id), View.CONTEXT)
        assert [row.seq for row in lines.window(0, 99)] == context
        assert lines.about == (
            "no release loads this layout"
            if "poisoned" in name
            else "not stored, so not shown: the prompt, recalled memories and projections"
        )


@pytest.mark.parametrize(
    ("stamp", "shared", "by_ord"), [(0, False, False), (0, True, True), (1, False, True), (2, False, True)]
)
def test_which_release_orders_how_is_told_by_tables(stamp: int, shared: bool, by_ord: bool, sample: Sample) -> None:
    path = sample("v0.2.0")
    raw(
        path,
        f"PRAGMA user_version={stamp}",
        *(["CREATE TABLE shared_state (owner, key)"] if shared else []),
        f"UPDATE messages SET meta_json = json_set(meta_json, '$.ord', 1) WHERE session_id = '{ROOT}' AND seq = 17",
    )
    context = seqs(only(path).reader(), Ref("", ROOT), View.CONTEXT)
    assert context == ([17, 13, 14, 15, 16, 18, 19, 20] if by_ord else [13, 14, 15, 16, 17, 18, 19, 20])


def test_a_poisoned_layout_is_by_seq_whatever_its_notes_say(sample: Sample) -> None:
    path = sample("poisoned-0.2.0-opened-by-8.0.0-prefix-empty")
    raw(path, "UPDATE messages SET meta_json = json_set(meta_json, '$.ord', 1) WHERE name = 'compact_note'")
    assert seqs(only(path).reader(), Ref("", ROOT), View.CONTEXT) == [13, 14, 15, 16, 17, 18, 19, 20]


@pytest.mark.parametrize("name", ["v2.2.0", "v8.0.0"])
def test_dropped_rows_are_shown_and_not_in_context(name: str, sample: Sample) -> None:
    reader, ref = only(sample(name)).reader(), Ref("pl_", "sess_archived00000000000000")
    assert [row.state for row in rows(reader, ref)] == ["active", "active", "dropped"]
    assert seqs(reader, ref, View.CONTEXT) == seqs(reader, ref, View.ACTIVE) == [1, 2]
    assert seqs(reader, ref, View.COMPACTED) == []
    assert rows(reader, ref)[2].damage == ()


def test_two_layouts_in_one_file_are_two_archives(sample: Sample) -> None:
    path = sample("mixed-0.2.0-then-8.0.0")
    old, new = open_archive(path)
    assert (len(refs(old)), len(refs(new))) == (7, 1)
    assert [row.head for row in rows(new.reader(), refs(new)[0])] == ["hi from 8"]
    assert only(f"{path}#pl_").info == new.info
    assert only(f"{path}#").info == old.info


@pytest.mark.parametrize(
    "prefix", ["my_", "a-b c_", 'quo"te_', "semi;--_", "über_", "per%cent_", "hash#_", "[b]_", "'_", "1"]
)
def test_any_prefix(prefix: str, sample: Sample) -> None:
    path = sample("v8.0.0")
    expected = everything(only(path))
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode=DELETE")
        names = [
            name
            for (name,) in conn.execute(
                "SELECT name FROM sqlite_master WHERE name LIKE 'pl#_%' ESCAPE '#' AND type = 'table'"
            )
        ]
        quoted = prefix.replace('"', '""')
        for name in names:
            conn.execute(f'ALTER TABLE "{name}" RENAME TO "{quoted}{name[3:]}"')
    archive = only(path)
    assert (archive.info.layout, archive.info.format) == (prefix, "power-loop 8.0")
    assert only(f"{path}#{prefix}").info.layout == prefix
    found = everything(archive)
    for said in expected.values():
        assert said["detail"].extras == found[said["detail"].summary.ref.id]["detail"].extras
    assert {id_: said["views"] for id_, said in found.items()} == {id_: said["views"] for id_, said in expected.items()}


@pytest.mark.parametrize("prefix", ["app_", "x"])
def test_the_real_table_prefix(prefix: str, tmp_path: Path) -> None:
    """A file that the real package wrote with a prefix of its own, where the package is installed."""
    pytest.importorskip("power_loop.runtime.store.store")
    from power_loop.runtime.store.store import SessionStore

    path = tmp_path / "own.db"

    async def write() -> None:
        store = await SessionStore.open(str(path), table_prefix=prefix)
        id_ = await store.create_session()
        for n in range(4):
            await store.append_message(id_, role="user", content=f"word {n}")
        await store.record_compaction(
            id_,
            from_seq=1,
            to_seq=2,
            note_content="so far",
            before_tokens=9,
            after_tokens=2,
            round_index=0,
            fold_seqs=[1, 2],
        )
        await store.close()

    asyncio.run(write())
    archive = only(path)
    assert archive.info.layout == prefix
    assert seqs(archive.reader(), refs(archive)[0], View.CONTEXT) == [5, 3, 4]


def test_a_longer_prefix_does_not_lend_its_tables(sample: Sample) -> None:
    path = sample("mixed-0.2.0-then-8.0.0")
    raw(path, "CREATE TABLE other_sessions (id)", "CREATE TABLE background_sessions (session_id, seq)")
    old, new = SqliteFile(path).read(layouts)
    assert (old.prefix, new.prefix) == ("", "pl_")
    assert not [name for name in old.tables if name.startswith("pl_")]
    assert new.has("context_cache", "cache_key")
    assert not old.has("context_cache")


def test_encoded_multimodal_content_reads_as_its_blocks(sample: Sample) -> None:
    path = sample("v8.0.0")
    blocks = [{"type": "text", "text": "what is 你好"}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    huge = [{"type": "text", "text": "and this?"}, {"type": "image_url", "image_url": {"url": "data:" + "A" * 9_000}}]
    marked = '{"content_encoding":"json"}'
    fill(
        path,
        "media",
        [
            {"seq": 1, "content": json.dumps(blocks, ensure_ascii=False), "meta_json": marked},
            {"seq": 2, "content": json.dumps(huge), "meta_json": marked},
            {"seq": 3, "content": json.dumps(blocks)},
            {"seq": 4, "content": "[not json", "meta_json": marked},
            {"seq": 5, "content": "", "meta_json": marked},
        ],
        layout="8.0.0",
    )
    reader, ref = only(path).reader(), Ref("pl_", "media")
    lines = rows(reader, ref)
    assert [line.head for line in lines[:2]] == ["what is 你好 [image_url]", "and this? […]"]
    assert lines[2].head.startswith('[{"type"')
    assert [line.damage for line in lines] == [(), (), (), ("content is not valid JSON",), ()]
    assert lines[3].head == "[not json"
    assert [reader.message(ref, str(seq)).parts for seq in (1, 2, 3, 4)] == [blocks, huge, None, None]
    assert reader.summaries([reader.key(ref) or 0])[0].preview == "what is 你好"


def test_pruned_rows_are_one_line_a_run(sample: Sample) -> None:
    path, ref = sample("v0.18.0"), Ref("", ROOT)
    raw(path, f"DELETE FROM messages WHERE session_id = '{ROOT}' AND seq IN (1, 2, 3, 7, 10, 11, 19, 20)")
    reader = only(path).reader()
    lines = rows(reader, ref)
    assert [line.hole or line.seq for line in lines] == [
        (1, 3),
        4,
        5,
        6,
        (7, 7),
        8,
        9,
        (10, 11),
        12,
        13,
        14,
        15,
        16,
        17,
        18,
        (19, 20),
    ]
    assert {line.state for line in lines if line.row is None} == {State.HOLE}
    timeline = reader.timeline(ref, View.ALL)
    assert timeline.locate(2) is None
    assert timeline.nearest(2) == 0
    assert timeline.nearest(99) == 15
    assert seqs(reader, ref, View.CONTEXT) == [17, 13, 14, 15, 16, 18]
    assert [compaction.set_is for compaction in reader.audit(ref, reader.outline(ref)).compactions] == [
        Certainty.UNKNOWN
    ] * 2


def test_folds_are_reconstructed_or_said_to_be_unknown(sample: Sample) -> None:
    reader = (archive := only(sample("folds-0.18.0-three-generations"))).reader()
    (ref,) = refs(archive)
    audit = reader.audit(ref, reader.outline(ref))
    assert [compaction.set_runs for compaction in audit.compactions] == [
        ((1, 4),),
        ((5, 6), (13, 13)),
        ((7, 9), (14, 14)),
    ]
    assert {compaction.set_is for compaction in audit.compactions} == {Certainty.INFERRED}
    assert audit.unexplained == ()
    reader = (archive := only(sample("folds-0.18.0-ambiguous"))).reader()
    for ref in refs(archive):
        audit = reader.audit(ref, reader.outline(ref))
        assert [(compaction.set_is, compaction.rows) for compaction in audit.compactions] == [
            (Certainty.UNKNOWN, None)
        ] * 2
        assert audit.unexplained == ()
        assert all(
            "more than one set of rows fits what is recorded" in compaction.anomalies
            for compaction in audit.compactions
        )


def test_the_rows_of_a_fold_open_as_a_timeline(sample: Sample) -> None:
    reader = (archive := only(sample("folds-0.18.0-three-generations"))).reader()
    (ref,) = refs(archive)
    outline = reader.outline(ref)
    compaction = reader.audit(ref, outline).compactions[1]
    lines = reader.timeline_of_runs(ref, outline, compaction.set_runs)
    assert [row.seq for row in lines.window(0, 9)] == [5, 6, 13]
    assert (lines.length.value, lines.locate(13), lines.locate(7)) == (3, 2, None)
    assert [row.seq for row in reader.timeline_of_runs(ref, outline, [(0, 2), (12, 99)]).window(0, 9)] == [
        1,
        2,
        12,
        13,
        14,
        15,
    ]


def test_usage_says_how_complete_it_is(sample: Sample) -> None:
    for name, layout, rounds, totals, coverage in (
        ("v0.2.0", "", 3, (5600, 190, 5790, None), "at least this: one row a round number is kept"),
        ("v2.2.0", "pl_", 3, (5600, 190, 5790, None), "at least this: one row a round number is kept"),
        ("v8.0.0", "pl_", 5, (8200, 390, 8590, 4100), "all 5 model calls"),
    ):
        usage = only(sample(name)).reader().usage(Ref(layout, ROOT))
        with closing(sqlite3.connect(f"file:{DATA}/power-loop/{name}.db?immutable=1", uri=True)) as conn:
            stored = conn.execute(
                f"SELECT prompt_tokens, completion_tokens, total_tokens FROM {layout}usage_rounds "
                f"WHERE session_id = '{ROOT}'"
            ).fetchall()
        assert {(at.prompt_tokens, at.completion_tokens, at.total_tokens) for at in usage.rounds} == set(stored)
        assert [(at.send_index or 0, at.round_index) for at in usage.rounds] == (
            [(1, 0), (1, 1), (2, 0), (2, 2), (3, 1)] if name == "v8.0.0" else [(0, 0), (0, 1), (0, 2)]
        )
        assert len(usage.rounds) == rounds
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens) == totals
        assert usage.coverage.startswith(coverage)
    path = sample("v8.0.0")
    raw(path, "DELETE FROM pl_usage_rounds WHERE send_index = 2")
    assert only(path).reader().usage(Ref("pl_", ROOT)).coverage == "3 of 5 model calls"
    empty = only(path).reader().usage(Ref("pl_", DETACHED))
    assert (empty.rounds, empty.coverage) == ([], "nothing is recorded")


def test_what_later_releases_keep_beside_a_session(sample: Sample) -> None:
    assert only(sample("v0.2.0")).reader().session(Ref("", ROOT)).extras == ()
    extras = dict(only(sample("v8.0.0")).reader().session(Ref("pl_", ROOT)).extras)
    assert extras["remembered"] == "user likes retry(3)"
    assert extras["queued"] == "also update the changelog · pending"
    assert extras["timer"] == "note ping · status armed · due 2100-01-01T00:00:00+00:00"
    assert extras["lease"].startswith("owner_id proc-1") or "proc-1" in extras["lease"]
    assert '"run tests"' in extras["state"]
    assert "llm_calls 5" in extras["statistics"]


def test_a_time_past_the_calendar_is_no_trap(sample: Sample) -> None:
    path = sample("v8.0.0")
    raw(path, "UPDATE pl_timers SET due_at = 999999999999999")
    assert "due 999999999999999" in dict(only(path).reader().session(Ref("pl_", ROOT)).extras)["timer"]


def test_prompt_config_pending_and_unanswered_calls(sample: Sample) -> None:
    detail = only(sample("v0.2.0")).reader().session(Ref("", ROOT))
    assert detail.prompt == "You are a careful build assistant."
    assert detail.prompt_size == len(detail.prompt)
    assert detail.config == {"max_rounds": 24, "max_tokens": 8000, "temperature": 0.0}
    assert detail.metadata["title"] == detail.summary.title == "Fix the flaky CI job"
    assert detail.pending["tool_call_ids"] == ["tc7"]
    assert detail.unanswered == ((19, "bash"),)
    assert (detail.next_seq, detail.last_compact_seq, detail.damage) == (21, 2, ())


def test_unanswered_calls_come_from_messages_alone(sample: Sample) -> None:
    three = [call("a", "1"), call("b", None), call("c", None)]
    path = fill(
        sample("v0.2.0"),
        "calls",
        [
            {"seq": 1, "role": "assistant", "tool_calls_json": json.dumps(three)},
            {"seq": 2, "role": "tool", "content": "for b"},
            {"seq": 3, "role": "assistant", "tool_calls_json": json.dumps([call("d", "2"), call("e", "3")])},
            {"seq": 4, "role": "tool", "tool_call_id": "2"},
            {"seq": 5, "role": "assistant", "state": "compacted_out", "tool_calls_json": json.dumps([call("f", "9")])},
        ],
    )
    assert only(path).reader().session(Ref("", "calls")).unanswered == ((1, "a"), (1, "c"), (3, "e"))


def test_a_half_done_append_is_named(sample: Sample) -> None:
    detail = only(sample("damaged-0.2.0-half-append")).reader().session(Ref("", ROOT))
    assert detail.damage == ("next_seq 21 is not above the newest message 21: appends will fail",)


def test_a_lost_parent_makes_orphans_and_a_missing_state_row_is_named(sample: Sample) -> None:
    path = sample("damaged-0.2.0-orphans")
    reader = only(path).reader()
    session_table = reader.session_table()
    places = {id_: session_table.place_in_tree(at) for at, id_ in enumerate(session_table.ids)}
    assert places[LINKED] is Place.ORPHAN
    assert places[DETACHED] is Place.CHILD
    assert reader.session(Ref("", LINKED)).damage == ("its bookkeeping (session_state) is missing",)
    raw(path, f"UPDATE sessions SET parent_session_id = NULL WHERE session_id = '{DETACHED}'")
    session_table = reader.session_table()
    assert session_table.place_in_tree(session_table.ids.index(DETACHED)) is Place.SURVIVOR
    assert seqs(reader, Ref("", LINKED), View.ALL) == [1, 2]


@pytest.mark.parametrize("name", ["v0.2.0", "v0.18.0", "v2.2.0", "v8.0.0"])
def test_links_between_calls_results_and_children(name: str, sample: Sample) -> None:
    archive = only(sample(name))
    reader, ref = archive.reader(), Ref(archive.info.layout, ROOT)
    child = Ref(archive.info.layout, LINKED)
    spawned = reader.follow(ref, "14")
    assert spawned is not None
    assert (spawned.ref, spawned.row, spawned.seq, spawned.certainty) == (child, None, None, Certainty.RECORDED)
    back = reader.spawner(child)
    assert back is not None
    assert (back.ref, back.row, back.seq, back.certainty) == (ref, "14", 14, Certainty.RECORDED)
    for row, leads_to in (("2", "3"), ("3", "2"), ("4", "2"), ("9", "10"), ("19", "20"), ("15", "14")):
        link = reader.follow(ref, row)
        assert link is not None
        assert (link.ref, link.row, link.seq, link.certainty) == (ref, leads_to, int(leads_to), Certainty.RECORDED)
    for row in ("1", "5", "99", "-1", "@1", "²", "--1", "", "1" * 30):
        assert reader.follow(ref, row) is None
    assert reader.spawner(ref) is None


def test_an_unrecorded_spawn_is_inferred_by_name_and_time(sample: Sample) -> None:
    path, ref = sample("v0.2.0"), Ref("", ROOT)
    raw(
        path,
        f"UPDATE sessions SET spawn_tool_call_id = NULL WHERE session_id = '{LINKED}'",
        "UPDATE sessions SET created_at = (SELECT created_at + 1 FROM messages "
        f"WHERE session_id = '{ROOT}' AND seq = 14) WHERE session_id = '{LINKED}'",
    )
    reader = only(path).reader()
    there, back = reader.follow(ref, "14"), reader.spawner(Ref("", LINKED))
    assert there is not None
    assert (there.ref.id, there.certainty) == (LINKED, Certainty.INFERRED)
    assert back is not None
    assert (back.row, back.certainty) == ("14", Certainty.INFERRED)


def test_spawns_are_told_apart_by_time_and_spec(tmp_path: Path, sample: Sample) -> None:
    """Three calls, three children: two of the same spec in order of time, one by its name; none for a fourth child."""
    path = sample("v0.2.0")
    spawn = [
        [call("run_agent", None, spec={"name": "docs"}, input="x")],
        [call("spawn_agent", None, spec="test")],
        [call("run_agent", None, spec={"name": "docs"})],
    ]
    fill(
        path,
        "boss",
        [
            {"seq": seq, "role": "assistant", "tool_calls_json": json.dumps(calls), "created_at": seq * 100}
            for seq, calls in enumerate(spawn, 1)
        ],
    )
    children = (("late", "docs", 350), ("early", "docs", 150), ("tester", "test", 360), ("none", "other", 370))
    for id_, spec, created in children:
        fill(
            path,
            id_,
            [],
            parent_session_id="boss",
            kind="subagent",
            created_at=created,
            config_json=json.dumps({"spec_name": spec}),
        )
    reader = only(path).reader()
    rows_of = {id_: reader.spawner(Ref("", id_)) for id_ in ("early", "tester", "late", "none")}
    assert {id_: link and link.row for id_, link in rows_of.items()} == {
        "early": "1",
        "tester": "2",
        "late": "3",
        "none": None,
    }
    assert rows_of["none"] is not None
    assert rows_of["none"].ref == Ref("", "boss")
    followed = [reader.follow(Ref("", "boss"), str(seq)) for seq in (1, 2, 3)]
    assert [link and link.ref.id for link in followed] == ["early", "tester", "late"]


def test_a_call_that_names_the_child_comes_before_one_that_names_none(sample: Sample) -> None:
    path = sample("v0.2.0")
    fill(
        path,
        "boss",
        [
            {
                "seq": 1,
                "role": "assistant",
                "created_at": 100,
                "tool_calls_json": json.dumps([call("run_agent", "a", spec={"name": "docs"})]),
            },
            {"seq": 2, "role": "assistant", "created_at": 200, "tool_calls_json": json.dumps([call("run_agent", "b")])},
        ],
    )
    fill(
        path, "kid", [], parent_session_id="boss", kind="subagent", created_at=300, config_json='{"spec_name": "docs"}'
    )
    reader = only(path).reader()
    link = reader.spawner(Ref("", "kid"))
    assert link is not None
    assert link.row == "1"
    assert reader.follow(Ref("", "boss"), "2") is None


def test_find_walks_both_ways(sample: Sample) -> None:
    reader, ref = only(sample("v0.2.0")).reader(), Ref("", ROOT)
    assert reader.find(ref, "TIMEOUTERROR", 1, True) == 2
    assert reader.find(ref, "timeouterror", 3, True) == 3
    assert reader.find(ref, "timeouterror", 20, False) == 12
    assert reader.find(ref, "timeouterror", 11, False) == 4
    assert reader.find(ref, "timeouterror", 13, True) is None
    assert reader.find(ref, "你好", 20, False) == 1
    for literal in ("%", "_____", "\\", "\ud800"):
        found = reader.find(ref, literal, 1, True)
        assert found is None or literal in (reader.message(ref, str(found)).raw["content"] or "") + (
            reader.message(ref, str(found)).raw["tool_calls_json"] or ""
        )
    assert reader.find(ref, "read_file", 10**30, False) == 3
    assert reader.find(ref, "read_file", -(10**30), True) == 2


def test_find_goes_past_holes_and_strange_seqs(sample: Sample) -> None:
    path = fill(
        sample("v0.2.0"),
        "wide",
        [
            {"seq": -5, "content": "first needle"},
            {"seq": 7},
            {"seq": 2**63 - 1, "content": "last needle"},
            {"seq": "text", "content": "stray needle"},
            {"seq": float("inf"), "content": "needle"},
        ]
        + [{"seq": seq, "content": "hay"} for seq in range(100, 12_000)],
        next_seq=1,
    )
    reader, ref = only(path).reader(), Ref("", "wide")
    assert reader.find(ref, "needle", -100, True) == -5
    assert reader.find(ref, "needle", 0, True) == 2**63 - 1
    assert reader.find(ref, "needle", 2**63 - 2, False) == -5
    assert reader.find(ref, "nothing", -100, True) is None
    assert reader.follow(ref, str(2**63 - 1)) is None
    assert reader.message(ref, str(2**63 - 1)).content == "last needle"


def test_a_session_answers_to_its_id_and_its_ref(sample: Sample) -> None:
    reader = only(sample("v8.0.0")).reader()
    assert reader.resolve(ROOT) == reader.resolve(f"pl_:{ROOT}") == Ref("pl_", ROOT)
    assert str(Ref("pl_", ROOT)) == f"pl_:{ROOT}"


def test_names_that_look_like_something_else_resolve(sample: Sample) -> None:
    path = sample("v0.2.0")
    for id_ in (":odd", "a@1", "@", "x\ny", "pl_:x"):
        fill(path, id_, [{"seq": 1, "content": id_}])
    reader = only(path).reader()
    for id_ in (":odd", "a@1", "@", "x\ny", "pl_:x"):
        assert reader.resolve(id_).id == id_
        assert [row.head for row in rows(reader, reader.resolve(id_))] == [id_]


def test_an_archive_of_nothing_but_the_needed_columns(tmp_path: Path) -> None:
    path = tmp_path / "bare.db"
    raw(
        path,
        "CREATE TABLE sessions (session_id TEXT)",
        "CREATE TABLE session_state (session_id TEXT, next_seq INTEGER)",
        "CREATE TABLE messages (session_id TEXT, seq INTEGER, role TEXT, state TEXT)",
        "INSERT INTO sessions VALUES ('s')",
        "INSERT INTO session_state VALUES ('s', 3)",
        "INSERT INTO messages VALUES ('s', 1, 'user', 'active'), ('s', 2, 'assistant', 'compacted_out')",
    )
    (said,) = everything(only(path)).values()
    assert said["views"] == {View.ALL: ["1", "2"], View.ACTIVE: ["1"], View.COMPACTED: ["2"], View.CONTEXT: ["1"]}
    assert said["audit"].unexplained == ((2, 2),)


def test_tables_that_only_resemble_a_layout_are_none(tmp_path: Path) -> None:
    path = tmp_path / "near.db"
    raw(
        path,
        "CREATE TABLE sessions (session_id)",
        "CREATE TABLE messages (session_id, seq, role)",
        "CREATE TABLE session_state (session_id, next_seq)",
        "INSERT INTO sessions VALUES ('s')",
    )
    with pytest.raises(NotAnArchive):
        open_archive(path)
