"""kill -9 in every step of a repair and a closing: an archive is as before or as after, and what changed is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import Repair, Restore, read_manifest

from .defects import DEFECTS, dump
from .helpers import DATA, build, fill, only, raw, together
from .test_nanobot_repair import DAMAGED, contents

WORKER = Path(__file__).with_name("repair_worker.py")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def repaired(path: Path) -> None:
    actions = only(path).actions
    assert actions is not None
    actions.apply(actions.plan(Repair()), offline=True)


def killed(source: Path, folder: Path, *verb: str) -> int:
    """Repairs copies of an archive, or does what a verb says, each killed a step later; in which the last was done."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-PB", str(WORKER), str(source), str(folder), *verb],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(json.loads(done.stdout))


def kept(path: Path) -> list[Path]:
    return list(path.with_name(f"{path.name}.sessionscope").glob("*/*"))


def check(source: Path, folder: Path, state: Callable[[Path], Any], between: bool) -> None:
    """Each copy is as before or as after, or, where several files change, `between`; it can be repaired, and undone."""
    before = state(source)
    last = killed(source, folder)
    assert last > 8, "no kill came after the first write"
    after = state(folder / f"{last}" / source.name)
    assert before != after
    for at in range(1, last + 1):
        path = folder / f"{at}" / source.name
        now = state(path)
        sealed = [one for one in kept(path) if (one / "manifest.json").exists()]
        assert between or now in (before, after), f"killed at step {at}"
        assert now == before or sealed, f"killed at step {at}: changed, and nothing is kept"
        repaired(path)
        assert state(path) == after, f"killed at step {at}"
        if now != before:
            actions = only(path).actions
            assert actions is not None
            (bundle,) = [one for one in sealed if read_manifest(one).more]
            actions.apply(actions.plan(Restore(str(bundle))), offline=True)
            assert state(path) == before, f"killed at step {at}"


def files(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for what a save that is killed leaves beside them."""
    return {name: data for name, data in contents(folder).items() if not (name[0] == "." and name.endswith(".tmp"))}


def database(path: Path) -> Any:
    raw(path)
    return dump(path)


def test_a_database(tmp_path: Path) -> None:
    source = build(tmp_path / "a.db")
    raw(source, *DEFECTS["half a fold and its note"].statements)
    check(source, tmp_path / "copies", database, False)


def test_a_session(tmp_path: Path) -> None:
    source = tmp_path / "sessions"
    source.mkdir()
    (source / "telegram_42.jsonl").write_bytes(DAMAGED["glued-objects"])
    check(source, tmp_path / "copies", files, False)


@pytest.mark.parametrize("name", ["30_zero_bytes_with_full_tmp"])
def test_a_session_whose_save_was_cut_off(tmp_path: Path, name: str) -> None:
    source = tmp_path / "sessions"
    source.mkdir()
    for file in (DATA / "nanobot-damaged" / name).glob("my_bot*"):
        (source / file.name).write_bytes(file.read_bytes())
    check(source, tmp_path / "copies", files, True)


def check_closing(source: Path, folder: Path, session: str, state: Callable[[Path], Any], between: bool) -> None:
    """A bundle without a deletion is fine, a deletion without a bundle never; what is gone comes back."""
    before = state(source)
    last = killed(source, folder, "close", session)
    assert last > 8, "no kill came after the first write"
    after = state(folder / f"{last}" / source.name)
    assert before != after
    seen = set()
    for at in range(1, last + 1):
        path = folder / f"{at}" / source.name
        now = state(path)
        seen.add(now == before)
        sealed = [one for one in kept(path) if (one / "manifest.json").exists()]
        assert between or now in (before, after), f"killed at step {at}"
        if now == before:
            continue
        assert sealed, f"killed at step {at}: deleted, and nothing is kept"
        actions = only(path).actions
        assert actions is not None
        actions.apply(actions.plan(Restore(str(sealed[0]))), offline=True)
        assert state(path) == before, f"killed at step {at}"
    assert seen == {True, False}


def test_a_tree_that_is_closed(tmp_path: Path) -> None:
    source = build(tmp_path / "a.db")
    for id_, parent in (("top", None), ("below", "top"), ("beside", None)):
        fill(source, id_, [{"seq": 1, "content": id_}], parent_session_id=parent)
    raw(source)
    check_closing(source, tmp_path / "copies", "top", database, False)


def test_a_session_of_several_files_that_is_closed(tmp_path: Path) -> None:
    source = tmp_path / "sessions"
    source.mkdir()
    for name in ("telegram_42.jsonl", "telegram_42.jsonl.tmp", "slack_1.jsonl"):
        (source / name).write_bytes(DAMAGED["bad-date"] if name.startswith("telegram") else DAMAGED["bad-offset"])
    check_closing(source, tmp_path / "copies", "telegram:42", files, True)


def test_two_processes_close_one_tree(tmp_path: Path) -> None:
    """One of them does, the other is told that it changed; nothing is lost, and all comes back."""
    path = build(tmp_path / "a.db")
    for at in range(40):
        fill(path, f"s{at}", [{"seq": 1, "content": "x"}], parent_session_id=f"s{at - 1}" if at else None)
    raw(path)
    before = dump(path)
    code = (
        "import sys; from sessionscope.store import *; from sessionscope.store import open_archive\n"
        "(archive,) = open_archive(sys.argv[1]); doing = archive.actions\n"
        "plan = doing.plan(Close((Ref('', 's0'),)))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "try: print(doing.apply(plan).bundle)\n"
        "except StoreError as error: print('refused', error)"
    )
    said = [process.communicate()[0].strip() for process in together(*[("-c", code, path)] * 2)]
    assert [one.startswith("refused") for one in sorted(said)] == [False, True], said
    assert raw(path, "SELECT count(*) FROM sessions") == [[(0,)]]
    (bundle,) = [one for one in kept(path) if (one / "manifest.json").exists()]
    actions = only(path).actions
    assert actions is not None
    actions.apply(actions.plan(Restore(str(bundle))))
    assert dump(path) == before
