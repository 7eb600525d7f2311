"""A compaction that is killed in any step is done or not begun, and many at once never make half of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import Compact, Refused, Uncompact, View
from sessionscope.store.io.files import folder_lock
from sessionscope.store.model.rows import Ref
from sessionscope.store.nanobot.write import file_edits
from sessionscope.store.powerloop import SessionStore

from .helpers import only, prefix_of, raw, seqs, together
from .test_nanobot_compaction import compact as compact_file
from .test_nanobot_compaction import compactions, made
from .test_powerloop_compaction import compact, talk
from .test_powerloop_repair import actions, codes, findings
from .test_repair_crashes import killed
from .workspaces import KEY, NAME

WORKER = Path(__file__).with_name("compact_worker.py")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def bookkeeping(path: Path) -> Any:
    """All of a session but for times."""
    prefix = only(path).info.layout
    return raw(
        path,
        f'SELECT seq, role, content, state FROM "{prefix}messages" ORDER BY seq',
        f"SELECT compact_seq, note_seq, from_seq, to_seq, before_tokens, after_tokens FROM "
        f'"{prefix}compactions" ORDER BY compact_seq',
        f'SELECT next_seq, last_compact_seq FROM "{prefix}session_state"',
    )


@pytest.mark.parametrize("layout", ["0.2.0", "8.0.0"])
@pytest.mark.parametrize("verb", ["compact", "uncompact"])
def test_a_database(tmp_path: Path, layout: str, verb: str) -> None:
    source = talk(tmp_path / "a.db", layout)
    words = ["compact", "s", "3", "8"]
    if verb == "uncompact":
        _, receipt = compact(source, "s", 3, 8)
        assert isinstance(receipt.undo, Uncompact)
        words = ["uncompact", "s", str(receipt.undo.number)]
    before = bookkeeping(source)
    last = killed(source, tmp_path / "copies", *words)
    assert last > 8, "no kill came after the first write"
    after = bookkeeping(tmp_path / "copies" / f"{last}" / "a.db")
    assert before != after
    seen = set()
    for at in range(1, last + 1):
        path = tmp_path / "copies" / f"{at}" / "a.db"
        now = bookkeeping(path)
        seen.add(now == after)
        assert now in (before, after), f"killed at step {at}"
        if at % 3:
            continue
        # What takes longest is looked at after every third step.
        assert codes(findings(path), "error", "warning") == []
        if now == before:
            doing = actions(only(path))
            ref = Ref(only(path).info.layout, "s")
            doing.apply(doing.plan(Compact(ref, 3, 8, "so far") if verb == "compact" else Uncompact(ref, 1)))
            assert bookkeeping(path) == after, f"killed at step {at}"
    assert seen == {True, False}


@pytest.mark.parametrize("verb", ["compact", "uncompact"])
def test_a_file(tmp_path: Path, verb: str) -> None:
    source = made(tmp_path)
    words = ["compact", KEY, "1", "4"]
    if verb == "uncompact":
        compact_file(source, 1, 4)
        words = ["uncompact", KEY, "1"]
    before = state(source)
    last = killed(source, tmp_path / "copies", *words)
    after = state(tmp_path / "copies" / f"{last}" / "sessions")
    assert before != after
    seen = set()
    for at in range(1, last + 1):
        folder = tmp_path / "copies" / f"{at}" / "sessions"
        assert state(folder) in (before, after), f"killed at step {at}"
        seen.add(state(folder) == after)
        left = {path.name for path in folder.glob("*.jsonl")}
        assert left == {NAME}
    assert seen == {True, False}


def state(folder: Path) -> Any:
    """What is in the context, and every fold."""
    reader, ref = only(folder).reader(), Ref("", KEY)
    return seqs(reader, ref, View.CONTEXT), [
        (one.number, one.note, one.set_runs, one.undone) for one in compactions(folder)
    ]


def two(place: Path, session: str, times: int) -> list[subprocess.Popen[str]]:
    """Two processes that fold and unfold a session so many times."""
    return together(*((WORKER, place, session, f"{times}", f"{seed}") for seed in range(2)))


def heard(started: list[subprocess.Popen[str]]) -> list[list[Any]]:
    answers = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(started), answers
    return [one for answer in answers for one in json.loads(answer)]


@pytest.mark.parametrize("layout", ["0.2.0", "8.0.0"])
def test_two_processes_fold_while_an_agent_appends(tmp_path: Path, layout: str) -> None:
    path = talk(tmp_path / "a.db", layout)
    started = two(path, "s", 40)
    appended = []
    if layout == "0.2.0":
        with SessionStore.open(path) as store:
            appended = [store.append_message("s", role="user", content=f"more {at}") for at in range(40)]
    said = heard(started)
    done = [one for one in said if one[0] in ("fold", "unfold")]
    assert len(done) >= 4, said
    assert all(
        "changed since" in one[1] or "cannot be taken back" in one[1] or "holds it" in one[1]
        for one in said
        if one[0] == "refused"
    ), said
    assert codes(findings(path), "error", "warning") == []
    prefix = prefix_of(layout)
    assert raw(path, f"SELECT count(*) FROM {prefix}compactions") == [[(len(done),)]]
    notes = [one[1] for one in said if one[0] == "fold"]
    found = raw(path, f"SELECT content FROM {prefix}messages WHERE content LIKE 'by %' ORDER BY seq")[0]
    assert sorted(content for (content,) in found) == sorted(notes)
    (rows,) = raw(path, f"SELECT seq FROM {prefix}messages ORDER BY seq")
    assert [seq for (seq,) in rows] == list(range(1, 17 + len(notes) + len(appended)))
    # Whatever was folded by whom, all of it comes back, the newest first.
    archive, ref = only(path), Ref(only(path).info.layout, "s")
    reader, doing = archive.reader(), actions(archive)
    for one in reversed(reader.audit(ref, reader.outline(ref)).compactions):
        if not one.undone:
            doing.apply(doing.plan(Uncompact(ref, one.number)))
    assert [row.seq for row in reader.context(ref).rows] == [*range(1, 17), *appended]


def test_two_processes_fold_one_file(tmp_path: Path) -> None:
    folder = made(tmp_path)
    started = two(folder, KEY, 20)
    said = heard(started)
    done = [one for one in said if one[0] == "fold"]
    assert done, said
    every = compactions(folder)
    assert {one.note for one in every if one.note} <= {one[1] for one in done}
    assert len(every) == len(done)
    assert len({one.number for one in every}) == len(every)
    assert sum(one.undone for one in every) == sum(one[0] == "unfold" for one in said)
    lines = (folder / NAME).read_bytes().splitlines()
    assert len(lines) == 13
    assert all(json.loads(line) for line in lines)


def test_a_folder_in_which_another_writes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path)
    before = (folder / NAME).read_bytes()
    monkeypatch.setattr(file_edits, "WAIT_S", 0.05)
    with folder_lock(folder, 0):
        code = (
            "import sys; from sessionscope.store.io.files import folder_lock; from pathlib import Path\n"
            "folder_lock(Path(sys.argv[1]), 0).__enter__()"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "TimeoutError" in other.stderr
        with pytest.raises(Refused, match="another process holds its lock"):
            compact_file(folder, 1, 4)
    assert (folder / NAME).read_bytes() == before
    assert {path.name for path in folder.glob("*.jsonl*")} == {NAME}
    compact_file(folder, 1, 4)
