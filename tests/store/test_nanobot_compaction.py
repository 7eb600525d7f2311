"""Compacting nanobot's sessions by hand: what nanobot sends afterwards, and taking it back to the former self."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionscope.store import Compact, Misused, Plan, Receipt, Refused, Uncompact, View, tokens_of
from sessionscope.store.model.rows import Compaction, Ref
from sessionscope.store.nanobot import Session, SessionManager

from .helpers import DATA, only, seqs
from .test_nanobot_repair import actions
from .workspaces import KEY, NAME, lines, talk

SAMPLES = ("v0.2.0", "v0.3.5", "loop-v0.2.0")


def compact(folder: Path, first: int | None, last: int | None, note: str = "so far", key: str = KEY) -> Receipt:
    plan, doing = planned(folder, first, last, note, key), actions(folder)
    return doing.apply(plan, offline=True)


def planned(folder: Path, first: int | None, last: int | None, note: str = "so far", key: str = KEY) -> Plan:
    return actions(folder).plan(Compact(Ref("", key), first, last, note))


def unfold(folder: Path, undo: Any) -> Receipt:
    doing = actions(folder)
    assert isinstance(undo, Uncompact)
    return doing.apply(doing.plan(undo), offline=True)


def compactions(folder: Path, key: str = KEY) -> list[Compaction]:
    """The audit, of which a session's line in a list counts what stands."""
    reader, ref = only(folder).reader(), Ref("", key)
    found = reader.audit(ref, reader.outline(ref)).compactions
    number = reader.key(ref)
    assert number is not None
    assert reader.summaries([number])[0].compaction_count == sum(not one.undone for one in found)
    return found


def context(folder: Path, key: str = KEY) -> list[int | None]:
    return seqs(only(folder).reader(), Ref("", key), View.CONTEXT)


def made(tmp_path: Path, rows: list[dict[str, Any]] | None = None, **metadata: Any) -> Path:
    folder = tmp_path / "sessions"
    folder.mkdir()
    (folder / NAME).write_bytes(lines(rows or talk(12), **metadata))
    return folder


def head(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / NAME).read_bytes().splitlines()[0])
    return found


def loaded(folder: Path) -> Session:
    return SessionManager(folder.parent).get_or_create(KEY)


def calling() -> list[dict[str, Any]]:
    """Three turns; the second calls a tool."""
    call = {"id": "c1", "type": "function", "function": {"name": "grep", "arguments": "{}"}}
    return [
        *talk(2),
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "grep", "content": "found"},
        {"role": "assistant", "content": "there"},
        *talk(2, 10),
    ]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_session_of_each_release_folds_and_unfolds_to_its_former_self(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "sessions"
    shutil.copytree(DATA / "nanobot" / name, folder)
    done = 0
    for id_ in only(folder).reader().session_table().ids:
        path = next(
            path for path in folder.glob("*.jsonl") if json.loads(path.read_bytes().splitlines()[0]).get("key") == id_
        )
        before, seen, first = path.read_bytes(), context(folder, id_), compactions(folder, id_)
        try:
            receipt = compact(folder, *_middle(folder, id_), key=id_)
        except (Misused, Refused):
            assert path.read_bytes() == before
            continue
        done += 1
        assert path.read_bytes().split(b"\n", 1)[1] == before.split(b"\n", 1)[1]
        assert len(context(folder, id_)) < len(seen)
        assert [one.note for one in compactions(folder, id_)][: len(first)] == [one.note for one in first]
        assert compactions(folder, id_)[-1].note == "so far"
        unfold(folder, receipt.undo)
        assert context(folder, id_) == seen
        assert [one.undone for one in compactions(folder, id_)] == [False] * len(first) + [True]
        was, now = (json.loads(data.split(b"\n", 1)[0]) for data in (before, path.read_bytes()))
        now["metadata"].pop("_sessionscope_folds")
        assert now == was
        assert list(now) == list(was)
    assert done >= 3


def _middle(folder: Path, id_: str) -> tuple[int, int]:
    rows = [seq for seq in context(folder, id_) if seq is not None]
    if not rows:
        raise Misused("nothing of it is in the context any more.")
    return rows[0], rows[len(rows) // 2]


def test_nanobot_sends_what_stays(tmp_path: Path) -> None:
    folder = made(tmp_path)
    whole = loaded(folder).get_history()
    compact(folder, 1, 4, "They said hello.")
    session = loaded(folder)
    assert session.get_history() == whole[4:]
    assert session.metadata["_last_summary"] == {
        "text": "They said hello.",
        "last_active": "2026-05-16T10:00:00.000002",
    }
    assert [row["content"] for row in session.messages] == [row["content"] for row in talk(12)]


def test_the_real_package_sends_what_stays_and_carries_the_undo_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = pytest.importorskip("nanobot.session.manager")
    # 0.3 keeps its sessions there, 0.2 in the workspace.
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    real = manager.SessionManager(tmp_path / "workspace")
    session = real.get_or_create(KEY)
    for row in calling():
        session.add_message(**row)
    real.save(session)
    folder = next(tmp_path.rglob("*.jsonl")).parent
    whole = session.get_history()
    receipt = compact(folder, 1, 4)
    real.invalidate(KEY)
    session = real.get_or_create(KEY)
    assert len(whole) == 8
    assert session.get_history() == whole[6:]
    assert session.metadata["_last_summary"]["text"] == "so far"
    session.add_message("user", "more")
    session.add_message("assistant", "yes")
    real.save(session)
    unfold(folder, receipt.undo)
    real.invalidate(KEY)
    session = real.get_or_create(KEY)
    assert session.get_history()[:8] == whole
    assert "_last_summary" not in session.metadata


def test_one_that_ran_in_the_real_package_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = pytest.importorskip("nanobot.session.manager")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    real = manager.SessionManager(tmp_path / "workspace")
    session = real.get_or_create(KEY)
    for row in talk(8):
        session.add_message(**row)
    real.save(session)
    folder = next(tmp_path.rglob("*.jsonl")).parent
    undo = compact(folder, 1, 4).undo
    session.add_message("user", "more")
    real.save(session)
    assert compactions(folder) == []
    assert compact(folder, 1, 4).undo == undo


def test_a_fold_is_widened_to_what_nanobot_can_do_and_says_why(tmp_path: Path) -> None:
    plan = planned(made(tmp_path, calling()), 3, 4)
    assert plan.compaction is not None
    assert (plan.compaction.cut.span, len(plan.compaction.cut.leaves), len(plan.compaction.cut.stays)) == ((1, 6), 6, 2)
    assert plan.reasons[1:] == (
        "It begins at 1: this agent folds only what comes first.",
        "It ends at 6: this agent folds whole turns.",
        "Widened by 5: message 4 calls a tool that 5 answers.",
    )
    assert plan.offline


def test_a_proposal_keeps_the_newest_exchanges(tmp_path: Path) -> None:
    folder = made(tmp_path)
    compact(folder, None, None)
    assert context(folder) == [5, 6, 7, 8, 9, 10, 11, 12]
    with pytest.raises(Misused, match="nothing older than the newest 4 exchanges"):
        planned(folder, None, None)


@pytest.mark.parametrize(
    ("first", "last", "why"),
    [(3, 2, "no range"), (1, 99, "no message 99"), (40, 41, "no message 40"), (1, 4, "not in the context|any more")],
)
def test_an_illegal_range_is_refused_with_the_reason(tmp_path: Path, first: int, last: int, why: str) -> None:
    folder = made(tmp_path, last_consolidated=4)
    before = (folder / NAME).read_bytes()
    with pytest.raises(Misused, match=why):
        compact(folder, first, last)
    assert (folder / NAME).read_bytes() == before


@pytest.mark.parametrize("metadata", [{"pending_user_turn": True}, {"runtime_checkpoint": {"phase": "awaiting_tools"}}])
def test_an_open_turn_is_settled_first(tmp_path: Path, metadata: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="a turn is open"):
        planned(made(tmp_path, metadata=metadata), 1, 2)


def test_the_context_grows_behind_what_is_folded(tmp_path: Path) -> None:
    folder, ref = made(tmp_path), Ref("", KEY)
    compact(folder, 1, 4, "They said hello.")
    reader = only(folder).reader()
    rows = reader.context(ref).rows
    grown = reader.growth(ref, reader.audit(ref, reader.outline(ref)))
    assert [row.seq for row in rows] == list(range(5, 13))
    assert grown == [tokens_of(len("They said hello.")) + sum(row.tokens for row in rows[:at]) for at in (1, 3, 5, 7)]


def test_what_needs_repair_is_repaired_first(tmp_path: Path) -> None:
    folder = made(tmp_path)
    with (folder / NAME).open("ab") as file:
        file.write(b'{"role": "user", "cont')
    with pytest.raises(Refused, match="repair it first"):
        planned(folder, 1, 2)


def test_what_changed_since_is_not_folded(tmp_path: Path) -> None:
    folder = made(tmp_path)
    doing = actions(folder)
    plan = doing.plan(Compact(Ref("", KEY), 1, 2, "x"))
    with (folder / NAME).open("ab") as file:
        file.write(b'{"role": "user", "content": "more"}\n')
    before = (folder / NAME).read_bytes()
    with pytest.raises(Refused):
        doing.apply(plan, offline=True)
    with pytest.raises(Misused, match="A running nanobot would overwrite this"):
        doing.apply(doing.plan(plan.action))
    assert (folder / NAME).read_bytes() == before


def test_a_fold_needs_a_note(tmp_path: Path) -> None:
    with pytest.raises(Misused, match="needs a note"):
        compact(made(tmp_path), 1, 2, "  ")


@pytest.mark.parametrize("note", ["a\0b", "x" * 1_000_001])
def test_a_note_that_no_archive_takes_is_refused(tmp_path: Path, note: str) -> None:
    with pytest.raises(Misused, match="a note is text of at most a megabyte"):
        compact(made(tmp_path), 1, 2, note)


def test_folds_undo_in_reverse_and_the_audit_only_grows(tmp_path: Path) -> None:
    folder = made(tmp_path, last_consolidated=2, metadata={"_last_summary": "old"})
    plan = planned(folder, 1, 4, "one")
    assert [(change.before, change.after) for change in plan.changes] == [
        ("message 2", None),
        ("message 3", None),
        ("old", "one"),
    ]
    assert plan.reasons[-1].startswith("The note takes the place of the summary")
    receipts = [compact(folder, 1, 4, "one"), compact(folder, 1, 6, "two")]
    assert [(one.number, one.rows, one.note) for one in compactions(folder)] == [
        (1, 2, "old"),
        (2, 2, "one"),
        (3, 2, "two"),
    ]
    with pytest.raises(Refused, match="before compaction 3"):
        unfold(folder, receipts[0].undo)
    with pytest.raises(Misused, match="made here"):
        unfold(folder, Uncompact(Ref("", KEY), 1))
    for receipt in reversed(receipts):
        unfold(folder, receipt.undo)
    assert head(folder)["last_consolidated"] == 2
    assert head(folder)["metadata"]["_last_summary"] == "old"
    with pytest.raises(Misused, match="already"):
        unfold(folder, receipts[0].undo)
    assert [(one.number, one.undone) for one in compactions(folder)] == [(1, False), (2, True), (3, True)]
    compact(folder, 1, 8, "three")
    assert [(one.number, one.undone, one.note) for one in compactions(folder)][-1] == (4, False, "three")


def test_a_fold_that_nanobot_went_beyond_is_not_taken_back(tmp_path: Path) -> None:
    folder = made(tmp_path)
    receipt = compact(folder, 1, 4)
    session = loaded(folder)
    session.last_consolidated = 8
    session.metadata["_last_summary"] = {"text": "its own", "last_active": "2026-05-16T10:00:00"}
    SessionManager(folder.parent).save(session)
    with pytest.raises(Refused, match="saved the session since"):
        unfold(folder, receipt.undo)
    assert [(one.number, one.rows, one.note) for one in compactions(folder)] == [(1, 4, None), (2, 4, "its own")]


def test_a_nanobot_that_ran_writes_over_it(tmp_path: Path) -> None:
    folder = made(tmp_path)
    held = (folder / NAME).read_bytes()
    receipt = compact(folder, 1, 4)
    (folder / NAME).write_bytes(held)
    assert compactions(folder) == []
    with pytest.raises(Misused, match="no compaction 1"):
        unfold(folder, receipt.undo)
    assert compact(folder, 1, 4).undo == receipt.undo


def test_an_offset_that_was_put_back_by_another_shows(tmp_path: Path) -> None:
    folder = made(tmp_path)
    compact(folder, 1, 4)
    session = loaded(folder)
    session.last_consolidated = 0
    SessionManager(folder.parent).save(session)
    (found,) = compactions(folder)
    assert found.undone
    assert found.anomalies == ("an agent wrote over it: its messages are in the context again",)


def test_a_trail_of_nonsense_is_no_trail(tmp_path: Path) -> None:
    trail = [1, {"number": "x"}, {"number": 1, "before": 4, "after": 2}, None]
    folder = made(tmp_path, metadata={"_sessionscope_folds": trail})
    assert compactions(folder) == []
    compact(folder, 1, 2)
    assert head(folder)["metadata"]["_sessionscope_folds"][:4] == trail
    assert len(compactions(folder)) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["user", "assistant", "call"]), min_size=1, max_size=12), st.data())
def test_no_pair_is_split_and_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, roles: list[str], data: st.DataObject
) -> None:
    rows: list[dict[str, Any]] = []
    for at, role in enumerate(roles):
        if role == "call":
            rows += [
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"id": f"c{at}", "type": "function", "function": {"name": "grep", "arguments": "{}"}}
                    ],
                },
                {"role": "tool", "tool_call_id": f"c{at}", "name": "grep", "content": "found"},
            ]
        else:
            rows.append({"role": role, "content": f"{role} {at}"})
    folder = made(tmp_path_factory.mktemp("w"), rows)
    before = (folder / NAME).read_bytes()
    undos = []
    for _ in range(data.draw(st.integers(1, 3))):
        first = data.draw(st.integers(1, len(rows)))
        last = data.draw(st.integers(first, len(rows)))
        offset = head(folder)["last_consolidated"]
        if last <= offset:
            with pytest.raises(Misused):
                compact(folder, first, last)
            continue
        undos.append(compact(folder, first, last).undo)
        assert [one.undone for one in compactions(folder)] == [False] * len(undos)
        end = head(folder)["last_consolidated"]
        assert end >= last
        assert end == len(rows) or rows[end]["role"] == "user"
        assert loaded(folder).get_history() == Session(key=KEY, messages=rows[end:]).get_history()
    assert (folder / NAME).read_bytes().split(b"\n")[1:] == before.split(b"\n")[1:]
    for undo in reversed(undos):
        unfold(folder, undo)
    now = head(folder)
    now["metadata"].pop("_sessionscope_folds", None)
    assert now == json.loads(before.split(b"\n")[0])


def test_the_timeline_tells_what_left(tmp_path: Path) -> None:
    folder = made(tmp_path)
    compact(folder, 1, 4)
    reader, ref = only(folder).reader(), Ref("", KEY)
    assert seqs(reader, ref, View.ALL)[:4] == [1, 2, 3, 4]
    assert context(folder) == [5, 6, 7, 8, 9, 10, 11, 12]
