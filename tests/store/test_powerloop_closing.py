"""Closing power-loop's sessions: the plan, the trash, what comes back, and what speaks against it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionscope.store import Close, Misused, Plan, Receipt, Refused, Restore, SetArchived, UnknownSession
from sessionscope.store.io import bundle as bundle_module
from sessionscope.store.model.rows import Ref
from sessionscope.store.powerloop import SessionStore
from sessionscope.store.trash import bundles, empty_trash, export_bundle

from .defects import dump, sample
from .faults import failing
from .helpers import DETACHED, LINKED, ROOT, add_messages, add_session, build, fill, only, prefix_of, raw
from .test_powerloop_repair import actions, codes, findings

SAMPLES = (
    "v0.2.0",
    "v0.18.0",
    "v2.2.0",
    "v8.0.0",
    "v8.0.0-prefix-empty",
    "poisoned-0.2.0-opened-by-8.0.0-prefix-empty",
)


def ref_of(path: Path, id_: str) -> Ref:
    return Ref(only(path).info.layout, id_)


def close(path: Path, *ids: str, cascade: bool = True, anyway: bool = True) -> tuple[Plan, Receipt]:
    doing = actions(only(path))
    plan = doing.plan(Close(tuple(ref_of(path, id_) for id_ in ids), cascade, anyway))
    return plan, doing.apply(plan)


def restore(path: Path, receipt: Receipt) -> Receipt:
    doing = actions(only(path))
    assert receipt.undo is not None
    return doing.apply(doing.plan(receipt.undo))


def ids(path: Path) -> set[str]:
    prefix = only(path).info.layout
    return {id_ for (id_,) in raw(path, f'SELECT session_id FROM "{prefix}sessions"')[0]}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_tree_goes_and_comes_back_the_same(tmp_path: Path, name: str) -> None:
    path = sample(tmp_path / "a.db", name)
    prefix = only(path).info.layout
    before = dump(path)
    plan, receipt = close(path, ROOT)
    gone = {member.ref.id for member in plan.deleted}
    stays = {member.ref.id for member in plan.members} - gone
    assert ROOT in gone
    assert stays == {DETACHED}
    assert ids(path).isdisjoint(gone)
    for table in only(path).reader().layout.tables:  # type: ignore[attr-defined]
        columns = {row[1] for row in raw(path, f'PRAGMA table_info("{prefix}{table}")')[0]}
        if "session_id" in columns:
            left = {id_ for (id_,) in raw(path, f'SELECT session_id FROM "{prefix}{table}"')[0]}
            assert left.isdisjoint(gone), table
    parents = dict(raw(path, f'SELECT session_id, parent_session_id FROM "{prefix}sessions"')[0])
    assert parents[DETACHED] is None
    (kept,) = bundles(path)
    assert kept.path == receipt.bundle
    assert {one["id"] for one in kept.sessions} == gone
    assert not [finding for finding in findings(path) if finding.severity == "error"]
    back = restore(path, receipt)
    assert back.notes == ()
    assert dump(path) == before
    assert bundles(path) == []
    assert not (tmp_path / "a.db.sessionscope").exists()


def test_each_session_is_told_its_fate_and_why(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    before = path.read_bytes()
    plan = actions(only(path)).plan(Close((Ref("", ROOT),)))
    told = {member.ref.id: (str(member.fate), member.depth, member.lifecycle) for member in plan.members}
    assert told[ROOT] == ("deleted", 0, "ephemeral")
    assert told[LINKED] == ("deleted", 1, "linked")
    assert told[DETACHED] == ("detached", 2, "detached")
    assert plan.members[0].messages == 20
    assert [member.why for member in plan.members][:2] == ["asked for", "goes with its parent"]
    assert any("a turn is open" in text for text in plan.warnings)
    assert path.read_bytes() == before


def test_without_cascade_the_children_become_roots(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    before = dump(path)
    plan, receipt = close(path, ROOT, cascade=False)
    assert [member.ref.id for member in plan.deleted] == [ROOT]
    assert {member.ref.id for member in plan.members} >= {ROOT, LINKED}
    assert not [finding for finding in findings(path) if finding.code == "orphan"]
    restore(path, receipt)
    assert dump(path) == before


def test_what_speaks_against_it_is_said_and_overridden_in_words(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db", "v8.0.0")
    raw(
        path,
        "DELETE FROM pl_session_leases",
        "INSERT INTO pl_session_leases (session_id, owner_id, acquired_at, "
        f"expires_at, fence) VALUES ('{ROOT}', 'me', 1, 9999999999999, 1)",
    )
    before = dump(path)
    with pytest.raises(Refused, match="an agent holds it at this moment"):
        close(path, ROOT, anyway=False)
    assert dump(path) == before
    close(path, ROOT)
    assert ROOT not in ids(path)


def test_a_child_that_came_meanwhile_is_not_orphaned(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    doing = actions(only(path))
    plan = doing.plan(Close((Ref("", ROOT),), anyway=True))
    with SessionStore.open(path) as store:
        store.create_session(parent_session_id=ROOT, session_id="late")
    raw(path)
    before = dump(path)
    with pytest.raises(Refused, match="got another child"):
        doing.apply(plan)
    assert dump(path) == before
    assert bundles(path) == []


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE session_state SET pending_json = NULL WHERE session_id = '{ROOT}'",
        f"UPDATE sessions SET updated_at = updated_at + 1 WHERE session_id = '{LINKED}'",
        f"DELETE FROM messages WHERE session_id = '{ROOT}' AND seq = 3",
        f"DELETE FROM sessions WHERE session_id = '{LINKED}'",
    ],
)
def test_a_tree_that_changed_since_is_left_alone(tmp_path: Path, statement: str) -> None:
    path = sample(tmp_path / "a.db")
    doing = actions(only(path))
    plan = doing.plan(Close((Ref("", ROOT),), anyway=True))
    raw(path, statement)
    before = dump(path)
    with pytest.raises(Refused, match="changed since"):
        doing.apply(plan)
    assert dump(path) == before
    assert bundles(path) == []


def test_several_at_once_and_one_below_another(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    before = dump(path)
    plan, receipt = close(path, DETACHED, "sess_archived00000000000000", LINKED)
    assert len(plan.deleted) == len({member.ref.id for member in plan.deleted})
    assert {DETACHED, LINKED, "sess_archived00000000000000"} <= {member.ref.id for member in plan.deleted}
    restore(path, receipt)
    assert dump(path) == before


def test_nothing_is_overwritten_when_it_comes_back(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    _, receipt = close(path, ROOT)
    with SessionStore.open(path) as store:
        store.create_session(session_id=ROOT, metadata={"title": "another"})
        store.append_message(ROOT, role="user", content="another")
    doing = actions(only(path))
    assert receipt.undo is not None
    plan = doing.plan(receipt.undo)
    assert plan.warnings == (f"session {ROOT!r} is there already and is not overwritten",)
    back = doing.apply(plan)
    assert any("not overwritten" in note for note in back.notes)
    with SessionStore.open(path) as store:
        assert [row.content for row in store.load_all_messages(ROOT)] == ["another"]
        assert len(store.load_all_messages(LINKED)) == 2
    assert len(bundles(path)) == 1
    with pytest.raises(Refused, match="none is overwritten"):
        doing.plan(receipt.undo)


def test_rows_whose_places_were_taken_come_behind(tmp_path: Path) -> None:
    path = fill(build(tmp_path / "a.db"), "one", [{"seq": 1, "content": "x"}])
    _, receipt = close(path, "one")
    with SessionStore.open(path) as store:
        store.create_session(session_id="two")
        store.append_message("two", role="user", content="y")
    back = restore(path, receipt)
    assert any("stand behind later ones" in note for note in back.notes)
    with SessionStore.open(path) as store:
        assert [row.content for row in store.load_all_messages("one")] == ["x"]
        assert [row.content for row in store.load_all_messages("two")] == ["y"]


def test_a_child_that_found_another_parent_keeps_it(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    _, receipt = close(path, ROOT)
    raw(path, f"UPDATE sessions SET parent_session_id = 'sess_archived00000000000000' WHERE session_id = '{DETACHED}'")
    back = restore(path, receipt)
    assert any(DETACHED in note for note in back.notes)
    assert raw(path, f"SELECT parent_session_id FROM sessions WHERE session_id = '{DETACHED}'") == [
        [("sess_archived00000000000000",)]
    ]


@pytest.mark.parametrize("layout", ["0.2.0", "8.0.0"])
def test_circles_chains_and_strangers_close(tmp_path: Path, layout: str) -> None:
    path = build(tmp_path / "a.db", layout)
    prefix = prefix_of(layout)
    with closing(sqlite3.connect(path)) as conn, conn:
        for at in range(1_500):
            add_session(conn, f"s{at}", prefix, parent_session_id=f"s{at - 1}" if at else "s1499", lifecycle="odd")
            add_messages(conn, f"s{at}", [{"seq": 1}], prefix)
        add_session(conn, "self", prefix, parent_session_id="self")
    before = dump(path)
    plan, receipt = close(path, "s700", "self")
    assert len(plan.deleted) == 1_501
    assert ids(path) == set()
    restore(path, receipt)
    assert dump(path) == before


def test_a_session_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(UnknownSession, match="is gone"):
        close(sample(tmp_path / "a.db"), "nobody")


def test_a_full_disk_deletes_nothing(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    before = path.read_bytes()
    doing = actions(only(path))
    plan = doing.plan(Close((Ref("", ROOT),), anyway=True))
    with failing(bundle_module, "_sync"), pytest.raises(Refused, match="No space left"):
        doing.apply(plan)
    assert path.read_bytes() == before
    assert not (tmp_path / "a.db.sessionscope").exists()


def test_it_goes_into_another_database_of_the_same_kind(tmp_path: Path) -> None:
    path, other = sample(tmp_path / "a.db"), build(tmp_path / "b.db")
    _, receipt = close(path, ROOT)
    assert receipt.undo is not None
    doing = actions(only(other))
    doing.apply(doing.plan(receipt.undo))
    with SessionStore.open(other) as store:
        assert len(store.load_all_messages(ROOT)) == 20
        assert len(store.list_compactions(ROOT)) == 2
    with pytest.raises(Misused):
        actions(only(other)).plan(Restore(_repaired_bundle(tmp_path)))


def _repaired_bundle(tmp_path: Path) -> str:
    from sessionscope.store import Repair

    path = sample(tmp_path / "c.db", "v8.0.0")
    raw(path, "UPDATE pl_session_state SET next_seq = 1")
    doing = actions(only(path))
    bundle = doing.apply(doing.plan(Repair())).bundle
    assert bundle is not None
    return bundle


def test_the_trash_is_listed_exported_and_emptied(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    raw(
        path,
        f"UPDATE messages SET content = CAST(x'ff41' AS TEXT) WHERE session_id = '{ROOT}' AND seq = 1",
        f"UPDATE messages SET content = x'00ff' WHERE session_id = '{ROOT}' AND seq = 2",
    )
    close(path, ROOT)
    close(path, "sess_archived00000000000000")
    found = bundles(path)
    assert [one.what for one in found] == ["Old chat", "Fix the flaky CI job"]
    assert all(one.kind == "trash" and one.size > 4_096 and one.kept_at for one in found)
    lines = [json.loads(line) for line in export_bundle(found[1].path)]
    texts = [
        line["row"]["content"] for line in lines if line["table"] == "messages" and line["row"]["session_id"] == ROOT
    ]
    assert texts[:2] == [{"bytes": "ff41"}, {"bytes": "00ff"}]
    assert len(texts) == 20
    assert empty_trash(path, 0) == []
    assert len(empty_trash(path, 2**60)) == 2
    assert bundles(path) == []


@pytest.mark.parametrize("status", ["active", "paused"])
def test_archiving_and_its_undo(tmp_path: Path, status: str) -> None:
    """The undo gives back what was there, also a status that no release knows, and the time of the last change."""
    path = sample(tmp_path / "a.db")
    raw(path, f"UPDATE sessions SET status = '{status}' WHERE session_id = '{ROOT}'")
    before = dump(path)
    ref = Ref("", ROOT)
    doing = actions(only(path))
    receipt = doing.apply(doing.plan(SetArchived(ref)))
    assert only(path).reader().session(ref).summary.status == "archived"
    assert doing.plan(SetArchived(ref)).empty
    assert receipt.undo is not None
    doing.apply(doing.plan(receipt.undo))
    assert dump(path) == before
    with pytest.raises(Refused, match="put back already"):
        doing.plan(receipt.undo)


def test_reopening(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    ref = Ref("", ROOT)
    doing = actions(only(path))
    doing.apply(doing.plan(SetArchived(ref)))
    doing.apply(doing.plan(SetArchived(ref, False)))
    assert only(path).reader().session(ref).summary.status == "active"


def test_the_real_package_goes_on_with_what_is_left_and_with_what_came_back(tmp_path: Path) -> None:
    real = pytest.importorskip("power_loop.runtime.session_store")
    path = sample(tmp_path / "a.db")
    _, receipt = close(path, ROOT)
    with real.SessionStore.open(path) as store:
        assert store.get_session(ROOT) is None
        assert store.get_session(DETACHED).parent_session_id is None
        store.append_message(DETACHED, role="user", content="on")
    restore(path, receipt)
    with real.SessionStore.open(path) as store:
        assert len(store.load_all_messages(ROOT)) == 20
        store.append_message(ROOT, role="user", content="on")
        assert store.get_session(DETACHED).parent_session_id is not None


# -- any tree

LIFECYCLES = st.sampled_from(["linked", "detached", "ephemeral", "Odd"])
TREES = st.lists(st.tuples(st.integers(-1, 11), LIFECYCLES, st.integers(0, 3)), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(TREES, st.sets(st.integers(0, 11), min_size=1, max_size=3), st.booleans(), st.sampled_from(["0.2.0", "8.0.0"]))
def test_whatever_is_closed_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    tree: list[tuple[int, str, int]],
    asked: set[int],
    cascade: bool,
    layout: str,
) -> None:
    path = build(tmp_path_factory.mktemp("any") / "a.db", layout)
    prefix = prefix_of(layout)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA synchronous=OFF")
        for at, (parent, lifecycle, many) in enumerate(tree):
            add_session(
                conn,
                f"s{at}",
                prefix,
                many + 1,
                lifecycle=lifecycle,
                parent_session_id=f"s{parent}" if 0 <= parent < len(tree) else None,
            )
            add_messages(conn, f"s{at}", [{"seq": seq, "content": f"{at} {seq}"} for seq in range(1, many + 1)], prefix)
    before = dump(path)
    wanted = [f"s{at}" for at in sorted(asked) if at < len(tree)] or ["s0"]
    plan, receipt = close(path, *wanted, cascade=cascade)
    gone = {member.ref.id for member in plan.deleted}
    assert ids(path) == {f"s{at}" for at in range(len(tree))} - gone
    assert set(wanted) <= gone
    assert cascade or gone == set(wanted)
    expected = _upstream(tree, wanted) if cascade else set(wanted)
    assert gone == expected
    assert "orphan" not in codes(findings(path))
    assert restore(path, receipt).notes == ()
    assert dump(path) == before


def _upstream(tree: list[tuple[int, str, int]], wanted: list[str]) -> set[str]:
    """What power-loop's cascade deletes, by its own rule."""
    gone: set[int] = set()
    stack = [int(id_[1:]) for id_ in wanted]
    while stack:
        at = stack.pop()
        if at not in gone:
            gone.add(at)
            stack += [
                child for child, (parent, lifecycle, _) in enumerate(tree) if parent == at and lifecycle != "detached"
            ]
    return {f"s{at}" for at in gone}
