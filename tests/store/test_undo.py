"""Undoing one thing after another: what an undone compaction leaves behind does not block earlier undos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import Action, Compact, Receipt, Ref, Refused, Repair, Restore, Settle, diagnose
from sessionscope.store.nanobot import SessionManager
from sessionscope.store.powerloop import SessionStore

from .actions import NANOBOT, POWERLOOP, Scenario, done
from .helpers import only, raw

PAIRS = {
    "power-loop: repair": (POWERLOOP["repair"], "beside"),
    "power-loop: settle": (POWERLOOP["settle"], "open"),
    "power-loop: archive": (POWERLOOP["archive"], "top"),
    "nanobot: repair": (NANOBOT["repair"], "slack:1"),
    "nanobot: settle": (NANOBOT["settle"], "cli:1"),
}


def apply(path: Path, action: Action) -> Receipt:
    actions = only(path).actions
    assert actions is not None
    return actions.apply(actions.plan(action), offline=True)


def compacted_and_back(path: Path, session: str) -> None:
    undo = apply(path, Compact(Ref("", session), 1, 2, "so far")).undo
    assert undo is not None
    apply(path, undo)


def without_compactions(state: Any) -> Any:
    """What an archive holds, but for what undone compactions leave: a note, audit rows, and counters that went on."""
    if isinstance(state, dict):
        return state
    left = (b"compact_note",)
    counted = ("session_state", "sessions", "compactions")
    return [row for row in state if row[0] not in counted and not any(value in left for value in row)]


@pytest.mark.parametrize("name", PAIRS)
def test_an_undo_after_a_compaction_that_was_undone(name: str, tmp_path: Path) -> None:
    scenario, session = PAIRS[name]
    path = prepared(scenario, tmp_path)
    before = scenario.state(path)
    undo = apply(path, scenario.action(path)).undo
    assert isinstance(undo, Restore)
    compacted_and_back(path, session)
    compacted_and_back(path, session)
    apply(path, undo)
    assert without_compactions(scenario.state(path)) == without_compactions(before)


def prepared(scenario: Scenario, folder: Path) -> Path:
    scenario.prepare(folder)
    return folder / scenario.archive


def test_the_counter_that_a_repair_put_right_is_what_it_was(tmp_path: Path) -> None:
    path = prepared(POWERLOOP["repair"], tmp_path)
    undo = apply(path, Repair()).undo
    assert undo is not None
    compacted_and_back(path, "beside")
    apply(path, undo)
    assert raw(path, "SELECT next_seq FROM session_state WHERE session_id = 'beside'") == [[(2,)]]


def test_a_counter_that_a_repair_left_alone_goes_on(tmp_path: Path) -> None:
    """Or the next message would get the seq of the note that is left."""
    path = prepared(POWERLOOP["settle"], tmp_path)
    undo = apply(path, Settle(Ref("", "open"))).undo
    assert undo is not None
    compacted_and_back(path, "open")
    apply(path, undo)
    assert "next-seq-behind" not in {finding.code for finding in diagnose(str(path), "open")}
    compacted_and_back(path, "open")


def appended_to_database(path: Path) -> None:
    with SessionStore.open(path) as store:
        store.append_message("beside", role="user", content="on")


def appended_to_folder(path: Path) -> None:
    manager = SessionManager(path.parent)
    session = manager.get_or_create("slack:2")
    session.add_message("user", "on")
    manager.save(session)


@pytest.mark.parametrize(
    ("scenario", "append"),
    [(POWERLOOP["repair"], appended_to_database), (NANOBOT["repair"], appended_to_folder)],
    ids=["power-loop", "nanobot"],
)
def test_what_an_agent_wrote_since_is_not_undone(
    scenario: Scenario, append: Callable[[Path], None], tmp_path: Path
) -> None:
    path = prepared(scenario, tmp_path)
    undo = apply(path, Repair()).undo
    assert undo is not None
    append(path)
    before = scenario.state(path)
    with pytest.raises(Refused, match="has changed since"):
        done(path, undo)
    assert scenario.state(path) == before
