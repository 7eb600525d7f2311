"""The doctor of power-loop's databases: each defect is found, put right, and can be had back."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import (
    Actions,
    Archive,
    Cancelled,
    Finding,
    Misused,
    Plan,
    Receipt,
    Refused,
    Repair,
    Restore,
    Settle,
)
from sessionscope.store.io import bundle as bundle_module
from sessionscope.store.model.rows import Ref, View
from sessionscope.store.powerloop import SessionStore
from sessionscope.store.powerloop.write import writing

from .defects import DEFECTS, TOLD, dump, made, sample
from .faults import failing
from .helpers import NAMES, ROOT, call, fill, only, raw

SEVERE = ("error", "warning")


def actions(archive: Archive) -> Actions:
    found = archive.actions
    assert found is not None
    return found


def findings(path: Path) -> list[Finding]:
    return list(only(path).reader().findings())


def codes(found: list[Finding], *severities: str) -> list[str]:
    return sorted({finding.code for finding in found if not severities or finding.severity in severities})


def repair(path: Path, action: Repair | Settle | Restore | None = None) -> tuple[Plan, Receipt]:
    doing = actions(only(path))
    plan = doing.plan(action or Repair())
    return plan, doing.apply(plan)


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_found_and_put_right_and_a_second_repair_changes_nothing(tmp_path: Path, name: str) -> None:
    defect = DEFECTS[name]
    path = made(tmp_path / "a.db", defect)
    before = bytes_of(path)
    found = findings(path)
    assert bytes_of(path) == before
    mine = [finding for finding in found if finding.code == defect.code]
    assert mine, codes(found)
    assert {str(finding.severity) for finding in mine} == {defect.severity}
    if not (defect.choice or mine[0].fixable):
        return
    choose = ((defect.code, defect.choice),) if defect.choice else ()
    plan, receipt = repair(path, Repair(choose=choose))
    assert plan.changes
    assert receipt.rows >= plan.rows > 0
    after = bytes_of(path)
    left = findings(path)
    assert defect.code not in codes(left, *SEVERE)
    assert not [finding for finding in left if finding.fixable]
    again, nothing = repair(path)
    assert again.empty
    assert nothing.rows == 0
    assert bytes_of(path) == after
    assert raw(path, "PRAGMA integrity_check") == [[("ok",)]]


@pytest.mark.parametrize("name", [name for name, defect in DEFECTS.items() if defect.code != "unanswered-calls"])
def test_a_repair_is_taken_back_to_the_same_values_types_and_rows(tmp_path: Path, name: str) -> None:
    defect = DEFECTS[name]
    path = made(tmp_path / "a.db", defect)
    before = dump(path)
    _, receipt = repair(path, Repair(choose=((defect.code, defect.choice),) if defect.choice else ()))
    assert dump(path) != before
    assert receipt.undo is not None
    repair(path, receipt.undo)
    assert dump(path) == before
    with pytest.raises(Refused, match="put back already"):
        repair(path, receipt.undo)


@pytest.mark.parametrize("name", TOLD)
def test_what_a_release_allows_is_told_and_left(tmp_path: Path, name: str) -> None:
    code, statement = TOLD[name]
    path = sample(tmp_path / "a.db")
    raw(path, statement.format(ROOT))
    told = [finding for finding in findings(path) if finding.code == code]
    assert told
    assert {str(finding.severity) for finding in told} == {"info"}


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("damaged", "mixed"))])
def test_what_the_real_packages_wrote_has_nothing_to_put_right(tmp_path: Path, name: str) -> None:
    path = sample(tmp_path / "a.db", name)
    found = findings(path)
    assert not codes(found, "error")
    assert codes(found, "warning") == (["half-migrated"] if name.startswith("poisoned") else [])
    before = bytes_of(path)
    plan, _ = repair(path)
    assert plan.empty
    assert bytes_of(path) == before
    assert not (tmp_path / "a.db.sessionscope").exists()


def test_an_undone_compaction_is_no_finding(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    raw(
        path,
        f"UPDATE messages SET state = 'active' WHERE session_id = '{ROOT}' AND seq BETWEEN 1 AND 16 AND state = "
        "'compacted_out' AND seq IN (SELECT seq FROM messages)",
        f"UPDATE messages SET state = 'compacted_out' WHERE session_id = '{ROOT}' AND name = 'compact_note'",
        "INSERT INTO compactions SELECT session_id, compact_seq + 2, note_seq, from_seq, to_seq, after_tokens, "
        f"before_tokens, round_index, created_at FROM compactions WHERE session_id = '{ROOT}'",
        f"UPDATE session_state SET last_compact_seq = 4 WHERE session_id = '{ROOT}'",
    )
    assert codes(findings(path)) == ["open-turn"]


def test_a_bricked_session_takes_appends_again(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db", "damaged-0.2.0-half-append")
    repair(path)
    with SessionStore.open(path) as store:
        assert store.append_message(ROOT, role="user", content="on we go") == 22
        assert len(store.load_all_messages(ROOT)) == 22


def test_the_real_package_goes_on_with_a_bricked_session(tmp_path: Path) -> None:
    real = pytest.importorskip("power_loop.runtime.session_store")
    path = sample(tmp_path / "a.db", "damaged-0.2.0-half-append")
    repair(path)
    with real.SessionStore.open(path) as store:
        assert store.append_message(ROOT, role="user", content="on we go") == 22
        assert store.load_all_messages(ROOT)[-1].content == "on we go"


@pytest.mark.parametrize("name", [name for name, defect in DEFECTS.items() if defect.severity == "error"])
def test_what_is_repaired_loads_in_every_part(tmp_path: Path, name: str) -> None:
    """By the real package where it is installed, which raises for what it cannot load; by the drop-in elsewhere."""
    try:
        from power_loop.runtime import session_store as package
    except ImportError:
        from sessionscope.store import powerloop as package
    defect = DEFECTS[name]
    path = made(tmp_path / "a.db", defect)
    repair(path, Repair(choose=((defect.code, defect.choice),) if defect.choice else ()))
    ids = [id_ for (id_,) in raw(path, "SELECT session_id FROM sessions")[0]]
    with package.SessionStore.open(path) as store:
        for id_ in ids:
            assert store.get_session(id_) is not None
            store.load_all_messages(id_)
            store.list_children(id_)
            store.get_state(id_)
            highest = max((row.seq for row in store.load_all_messages(id_)), default=0)
            assert store.append_message(id_, role="user", content="x") > highest


def test_the_orphans_sample_is_adopted_whole(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db", "damaged-0.2.0-orphans")
    repair(path, Repair(choose=(("ownerless-messages", "adopt"),)))
    left = findings(path)
    assert codes(left, "error") == []
    assert ROOT in {id_ for (id_,) in raw(path, "SELECT session_id FROM sessions")[0]}
    assert not any(finding.code.startswith("ownerless") for finding in left)


def test_a_damaged_index_is_built_anew(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA writable_schema=ON")
        conn.execute(
            "UPDATE sqlite_master SET sql = replace(sql, '(session_id, state, seq)', '(session_id, state, "
            "seq) WHERE 0') WHERE name = 'idx_messages_session_state'"
        )
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("REINDEX")
        conn.execute("PRAGMA writable_schema=ON")
        conn.execute(
            "UPDATE sqlite_master SET sql = replace(sql, ' WHERE 0', '') WHERE name = 'idx_messages_session_state'"
        )
    assert "index-damaged" in codes(findings(path), "error")
    repair(path)
    assert "index-damaged" not in codes(findings(path))
    assert raw(path, "PRAGMA integrity_check") == [[("ok",)]]


def test_a_plan_for_a_database_that_changed_since_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "a.db", DEFECTS["half an append"])
    doing = actions(only(path))
    plan = doing.plan(Repair())
    raw(path, f"UPDATE session_state SET next_seq = 22 WHERE session_id = '{ROOT}'")
    before = bytes_of(path)
    with pytest.raises(Refused, match="changed since"):
        doing.apply(plan)
    assert bytes_of(path) == before
    assert not (tmp_path / "a.db.sessionscope").exists()


def test_a_plan_whose_reason_is_gone_is_refused(tmp_path: Path) -> None:
    """The row that is to change is the same, but what spoke for it is not."""
    path = made(tmp_path / "a.db", DEFECTS["an orphan"])
    doing = actions(only(path))
    plan = doing.plan(Repair(choose=(("orphan", "detach"),)))
    raw(
        path,
        "INSERT INTO sessions (session_id, created_at, updated_at) VALUES ('gone', 1, 1)",
        "INSERT INTO session_state (session_id) VALUES ('gone')",
    )
    with pytest.raises(Refused, match="changed since"):
        doing.apply(plan)


def test_a_lock_that_is_held_refuses_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "WAIT_S", 0.05)
    path = made(tmp_path / "a.db", DEFECTS["half an append"])
    doing = actions(only(path))
    plan = doing.plan(Repair())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Refused, match="another process holds it"):
            doing.apply(plan)
        other.execute("ROLLBACK")
    assert not (tmp_path / "a.db.sessionscope").exists()
    doing.apply(plan)


def test_a_session_in_use_is_left_alone(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db", "v8.0.0")
    raw(
        path,
        f"UPDATE pl_session_state SET next_seq = 2 WHERE session_id = '{ROOT}'",
        "DELETE FROM pl_session_leases",
        "INSERT INTO pl_session_leases (session_id, owner_id, acquired_at, expires_at, fence) "
        f"VALUES ('{ROOT}', 'me', 1, 9999999999999, 1)",
    )
    doing = actions(only(path))
    with pytest.raises(Refused, match="is in use at this moment"):
        doing.apply(doing.plan(Repair()))


def test_tables_of_a_release_to_come_are_only_read(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db", "v8.0.0")
    raw(path, "UPDATE pl_schema_migrations SET version = 10")
    with pytest.raises(Refused, match="later than we know"):
        actions(only(path)).plan(Repair())
    path = sample(tmp_path / "b.db")
    raw(path, "PRAGMA user_version = 99")
    with pytest.raises(Refused, match="later than we know"):
        actions(only(path)).plan(Repair())


@pytest.mark.parametrize(("owner", "name"), [(bundle_module, "_sync"), (Path, "mkdir")])
def test_a_full_disk_changes_nothing(tmp_path: Path, owner: Any, name: str) -> None:
    path = made(tmp_path / "a.db", DEFECTS["half an append"])
    before = bytes_of(path)
    doing = actions(only(path))
    plan = doing.plan(Repair())
    with failing(owner, name), pytest.raises(Refused, match="No space left"):
        doing.apply(plan)
    assert bytes_of(path) == before
    assert not (tmp_path / "a.db.sessionscope").exists()


def test_it_stops_when_told_to_and_has_changed_nothing(tmp_path: Path) -> None:
    path = made(tmp_path / "a.db", DEFECTS["half an append"])
    before = bytes_of(path)
    doing = actions(only(path))
    plan = doing.plan(Repair())
    with pytest.raises(Cancelled):
        doing.apply(plan, cancel=lambda: True)
    with pytest.raises(Cancelled):
        list(only(path).reader().findings(cancel=lambda: True))
    assert bytes_of(path) == before
    assert not (tmp_path / "a.db.sessionscope").exists()


def test_only_what_is_named_is_put_right(tmp_path: Path) -> None:
    path = made(tmp_path / "a.db", DEFECTS["half an append"])
    raw(path, *DEFECTS["a depth"].statements)
    repair(path, Repair(only=("wrong-depth",)))
    assert codes(findings(path), *SEVERE) == ["next-seq-behind"]
    with pytest.raises(Misused, match="was not found here"):
        actions(only(path)).plan(Repair(only=("wrong-depth",)))


def test_what_is_kept_is_all_of_the_database_as_it_was_and_private(tmp_path: Path) -> None:
    path = made(tmp_path / "a.db", DEFECTS["bad config"])
    before = dump(path)
    _, receipt = repair(path)
    assert receipt.bundle is not None
    kept = Path(receipt.bundle) / "before.db"
    assert dump(kept) == before
    assert oct(kept.stat().st_mode & 0o777) == "0o600"
    assert sorted(one.name for one in kept.parent.iterdir()) == ["before.db", "manifest.json"]
    assert json.loads((kept.parent / "manifest.json").read_text())["kind"] == "backups"


def test_another_layout_of_the_same_file_is_not_touched(tmp_path: Path) -> None:
    from sessionscope.store import open_archive

    path = sample(tmp_path / "a.db", "mixed-0.2.0-then-8.0.0")
    raw(path, "UPDATE session_state SET next_seq = 1", "UPDATE pl_session_state SET next_seq = 1")
    (first,) = [archive for archive in open_archive(path) if not archive.info.layout]
    doing = actions(first)
    receipt = doing.apply(doing.plan(Repair()))
    assert {next_seq for (next_seq,) in raw(path, "SELECT next_seq FROM pl_session_state")[0]} == {1}
    (other,) = [archive for archive in open_archive(path) if archive.info.layout]
    assert receipt.undo is not None
    with pytest.raises(Misused, match="kept from tables without a prefix"):
        actions(other).plan(receipt.undo)


# -- settle


def test_settling_answers_what_is_open_and_ends_the_turn(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    before = dump(path)
    ref = Ref("", ROOT)
    assert only(path).reader().session(ref).unanswered
    _, receipt = repair(path, Settle(ref, "the machine went down"))
    detail = only(path).reader().session(ref)
    assert not detail.unanswered
    assert detail.pending is None
    with SessionStore.open(path) as store:
        newest = store.load_all_messages(ROOT)[-1]
        assert (newest.role, newest.content) == ("tool", "<aborted: the machine went down>")
    raw(path)
    assert codes(findings(path)) == []
    assert actions(only(path)).plan(Settle(ref)).empty
    assert receipt.undo is not None
    repair(path, receipt.undo)
    assert dump(path) == before


@pytest.mark.parametrize("layout", ["0.2.0", "8.0.0"])
def test_an_answer_in_the_midst_of_a_session_stands_behind_its_call(tmp_path: Path, layout: str) -> None:
    from .helpers import build

    calls = json.dumps([call("bash", "c1"), call("bash", "c2")])
    path = fill(
        build(tmp_path / "a.db", layout),
        "s",
        [
            {"seq": 1, "content": "go"},
            {"seq": 2, "role": "assistant", "tool_calls_json": calls},
            {"seq": 3, "role": "tool", "tool_call_id": "c1", "content": "done"},
            {"seq": 4, "content": "and then?"},
            {"seq": 5, "role": "assistant", "content": "well"},
            {
                "seq": 6,
                "role": "system",
                "name": "compact_note",
                "content": "note",
                "state": "active",
                "meta_json": json.dumps({"from_seq": 5, "to_seq": 5, "ord": 5}),
            },
        ],
        layout,
    )
    prefix = "" if layout == "0.2.0" else "pl_"
    raw(
        path,
        f"UPDATE {prefix}messages SET state = 'compacted_out' WHERE seq = 5",
        f"INSERT INTO {prefix}compactions (session_id, compact_seq, note_seq, from_seq, to_seq, created_at) "
        "VALUES ('s', 1, 6, 5, 5, 1)",
        f"UPDATE {prefix}session_state SET last_compact_seq = 1",
    )
    before = dump(path)
    archive = only(path)
    ref = Ref(prefix, "s")
    doing = actions(archive)
    receipt = doing.apply(doing.plan(Settle(ref)))
    reader = only(path).reader()
    lines = [
        (row.seq, row.role, row.tool_call_id, row.state)
        for row in reader.timeline(ref, View.ALL, reader.outline(ref)).window(0, 9)
    ]
    assert lines == [
        (1, "user", None, "active"),
        (2, "assistant", None, "active"),
        (3, "tool", "c1", "active"),
        (4, "tool", "c2", "active"),
        (5, "user", None, "active"),
        (6, "assistant", None, "compacted_out"),
        (7, "system", None, "active"),
    ]
    assert codes(list(reader.findings())) == []
    (compaction,) = reader.audit(ref, reader.outline(ref)).compactions
    assert (compaction.from_seq, compaction.to_seq, compaction.note_seq, compaction.rows) == (6, 6, 7, 1)
    assert receipt.undo is not None
    doing.apply(doing.plan(receipt.undo))
    assert dump(path) == before


def test_a_session_with_nothing_open_has_nothing_to_settle(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db")
    before = bytes_of(path)
    plan, _ = repair(path, Settle(Ref("", "sess_archived00000000000000")))
    assert plan.empty
    assert "No call is open" in plan.reasons[0]
    assert bytes_of(path) == before


def test_the_real_package_goes_on_after_settling(tmp_path: Path) -> None:
    real = pytest.importorskip("power_loop.runtime.session_store")
    path = sample(tmp_path / "a.db")
    repair(path, Settle(Ref("", ROOT)))
    with real.SessionStore.open(path) as store:
        assert store.get_state(ROOT).pending is None
        answered = {row.tool_call_id for row in store.load_all_messages(ROOT) if row.role == "tool"}
        made_calls = {one["id"] for row in store.load_active_messages(ROOT) for one in row.tool_calls or ()}
        assert made_calls <= answered
