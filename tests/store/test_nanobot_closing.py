"""Closing nanobot's sessions: which files go, what stays, and all of it back from the trash."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from sessionscope.store import Close, Misused, Plan, Receipt, Refused, UnknownSession, open_archive
from sessionscope.store.model.rows import Ref
from sessionscope.store.nanobot import SessionManager
from sessionscope.store.nanobot.dropin.session_manager import LOCK
from sessionscope.store.trash import bundles, export_bundle

from .helpers import DATA, only
from .test_nanobot_repair import HEAD, actions, calling, contents, made, sessions, user

KEY, NAME = "telegram:42", "telegram_42.jsonl"


def close(folder: Path, *keys: str, anyway: bool = True) -> tuple[Plan, Receipt]:
    doing = actions(folder)
    plan = doing.plan(Close(tuple(Ref("", key) for key in keys), anyway=anyway))
    return plan, doing.apply(plan, offline=True)


def restore(folder: Path, receipt: Receipt) -> Receipt:
    doing = actions(folder)
    assert receipt.undo is not None
    return doing.apply(doing.plan(receipt.undo), offline=True)


def looks(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        path.name: (path.stat().st_mtime_ns, stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in folder.iterdir()
        if path.is_file() and path.name != LOCK
    }


@pytest.mark.parametrize("name", ["v0.2.0", "v0.3.5", "loop-v0.2.0"])
def test_every_session_of_each_release_goes_and_comes_back_the_same(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "sessions"
    shutil.copytree(DATA / "nanobot" / name, folder)
    for at, path in enumerate(sorted(folder.iterdir())):
        path.chmod((0o600, 0o640, 0o644)[at % 3])
        os.utime(path, (1_700_000_000 + at, 1_700_000_000 + at))
    before = looks(folder)
    keys = list(only(folder).reader().session_table().ids)
    plan, receipt = close(folder, *keys)
    assert {member.ref.id for member in plan.deleted} == set(keys)
    left = {path.name for path in folder.iterdir()} - {LOCK}
    assert not {one for one in left if one.endswith(".jsonl") and "history" not in one}
    (kept,) = bundles(folder)
    assert len(kept.sessions) == len(keys)
    assert stat.S_IMODE(Path(kept.path).stat().st_mode) == 0o700
    assert restore(folder, receipt).notes == ()
    assert looks(folder) == before
    assert bundles(folder) == []


def test_what_belongs_to_it_goes_with_it_and_a_fork_stays(tmp_path: Path) -> None:
    first = user("the very first") | {"timestamp": "2026-05-16T09:01:00.123456"}
    later = HEAD | {"key": "slack:1", "created_at": "2026-05-17T09:00:00"}
    folder = sessions(
        tmp_path,
        telegram_42__jsonl=made(first, user("more", 2)),
        telegram_42__checkpoint__json=b"{}",
        telegram_42__jsonl__tmp=made(first)[:30],
        slack_1__jsonl=made(first, user("other", 5), head=later),
    )
    plan, receipt = close(folder, KEY)
    assert list(contents(folder)) == ["slack_1.jsonl"]
    assert [(member.ref.id, str(member.fate)) for member in plan.members] == [(KEY, "deleted"), ("slack:1", "detached")]
    assert "3 files" in plan.reasons[0]
    restore(folder, receipt)
    assert len(contents(folder)) == 4


def test_a_copy_of_the_first_releases_does_not_bring_it_back(tmp_path: Path) -> None:
    home = tmp_path / ".nanobot"
    folder, legacy = home / "workspace" / "sessions", home / "sessions"
    for place in (folder, legacy):
        place.mkdir(parents=True)
        (place / NAME).write_bytes(made(user("hello")))
    (archive,) = [one for one in open_archive(home / "workspace") if one.info.layout == ""]
    doing = archive.actions
    assert doing is not None
    receipt = doing.apply(doing.plan(Close((Ref("", KEY),))), offline=True)
    assert not (folder / NAME).exists()
    assert not (legacy / NAME).exists()
    assert receipt.undo is not None
    doing.apply(doing.plan(receipt.undo), offline=True)
    assert (folder / NAME).read_bytes() == (legacy / NAME).read_bytes() == made(user("hello"))


def test_what_the_agent_keeps_elsewhere_is_told_and_stays(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=made(user("hello")))
    results = tmp_path / ".nanobot" / "tool-results" / "telegram_42"
    results.mkdir(parents=True)
    (results / "call.txt").write_text("much")
    plan, _ = close(folder, KEY)
    assert any(str(results) in reason and "stays" in reason for reason in plan.reasons)
    assert (results / "call.txt").read_text() == "much"


def test_what_speaks_against_it_has_to_be_overridden(tmp_path: Path) -> None:
    head = HEAD | {"metadata": {"pending_user_turn": True}}
    data = made(user("go"), calling("a"), head=head)
    folder = sessions(tmp_path, telegram_42__jsonl=data)
    with pytest.raises(Refused, match="a turn is open"):
        close(folder, KEY, anyway=False)
    doing = actions(folder)
    plan = doing.plan(Close((Ref("", KEY),)))
    assert any("not answered" in warning for warning in plan.warnings)
    with pytest.raises(Misused, match="A running nanobot would overwrite this"):
        doing.apply(doing.plan(Close((Ref("", KEY),), anyway=True)))
    assert contents(folder) == {NAME: data}


def test_a_session_that_came_again_is_not_overwritten(tmp_path: Path) -> None:
    folder = sessions(
        tmp_path,
        telegram_42__jsonl=made(user("old")),
        slack_1__jsonl=made(user("other"), head=HEAD | {"key": "slack:1"}),
    )
    _, receipt = close(folder, KEY, "slack:1")
    (folder / NAME).write_bytes(made(user("new")))
    back = restore(folder, receipt)
    assert back.notes == (f"{NAME} is there already and is not overwritten",)
    assert (folder / NAME).read_bytes() == made(user("new"))
    assert (folder / "slack_1.jsonl").exists()
    assert len(bundles(folder)) == 1


def test_a_session_that_changed_since_is_left_alone(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=made(user("old")))
    doing = actions(folder)
    plan = doing.plan(Close((Ref("", KEY),)))
    with (folder / NAME).open("ab") as file:
        file.write(made(user("more", 2), head=None))
    with pytest.raises(Refused, match="changed since"):
        doing.apply(plan, offline=True)
    assert bundles(folder) == []
    with pytest.raises(UnknownSession):
        close(folder, "nobody:1")


def test_nothing_in_the_trash_is_a_session_to_nanobot(tmp_path: Path) -> None:
    folder = sessions(
        tmp_path,
        telegram_42__jsonl=made(user("old")),
        slack_1__jsonl=made(user("other"), head=HEAD | {"key": "slack:1"}),
    )
    close(folder, KEY)
    assert not list(tmp_path.rglob("sessions.sessionscope/**/*.jsonl"))
    assert [one["key"] for one in SessionManager(tmp_path).list_sessions()] == ["slack:1"]
    (kept,) = bundles(folder)
    lines = [json.loads(line) for line in export_bundle(kept.path)]
    assert [line.get("content") for line in lines] == [None, "old"]
