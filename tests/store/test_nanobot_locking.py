"""Others who write a folder of session files while an action does: the lock, and a look at each file right before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from sessionscope.store import Ref, Refused, Uncompact, bundles
from sessionscope.store.nanobot.dropin.session_manager import LOCK
from sessionscope.store.nanobot.reader import NanobotReader
from sessionscope.store.nanobot.write import file_edits

from .actions import NANOBOT, Scenario, done
from .faults import failing
from .workspaces import lines, talk

ALL = pytest.mark.parametrize("name", NANOBOT)
NEWER = lines(talk(9), "telegram:42")


def prepared(name: str, folder: Path) -> tuple[Scenario, Path]:
    NANOBOT[name].prepare(folder)
    return NANOBOT[name], folder / NANOBOT[name].archive


def before_each_write(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> list[str]:
    """Call a function right before each file is replaced or removed. Return the names of these files, as they come."""
    put, names = file_edits.Files._write, []

    def instead(self: file_edits.Files, target: file_edits.FileEdit) -> None:
        act()
        names.append(target.name)
        put(self, target)

    monkeypatch.setattr(file_edits.Files, "_write", instead)
    return names


@ALL
@pytest.mark.parametrize("there", [False, True], ids=["no lock file yet", "a lock file"])
def test_the_lock_is_held_from_the_first_write_on(
    name: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no file of it is there yet: a manager that makes one in the middle would not be kept out."""
    scenario, path = prepared(name, tmp_path)
    (path / LOCK).unlink(missing_ok=True)
    if there:
        (path / LOCK).touch()

    def tried() -> None:
        with pytest.raises(Timeout), FileLock(path / LOCK, timeout=0):
            pass

    names = before_each_write(monkeypatch, tried)
    actions, plan = scenario.plan(path)
    actions.apply(plan, offline=True)
    assert names
    with FileLock(path / LOCK, timeout=0):
        pass


@ALL
@pytest.mark.parametrize("gone", [False, True], ids=["changed", "removed"])
def test_a_file_that_others_change_in_the_last_moment_is_left_alone(
    name: str, gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take no lock. What was replaced before is put back."""
    scenario, path = prepared(name, tmp_path)
    actions, plan = scenario.plan(path)
    wanted = sorted(plan.work, key=lambda target: target.after is None)
    last = path / wanted[-1].name
    check, before = file_edits.Files.check, scenario.state(path)
    kept = len(bundles(path, None))

    def late(self: file_edits.Files, some: object) -> None:
        check(self, plan.work)
        if last.exists() and gone:
            last.unlink()
        else:
            last.write_bytes(NEWER)

    monkeypatch.setattr(file_edits.Files, "check", late)
    with pytest.raises(Refused, match="changed since this was planned"):
        actions.apply(plan, offline=True)
    now = scenario.state(path)
    assert now.pop(last.name, None) == (None if gone and last.name in before else NEWER)
    assert now == {name: data for name, data in before.items() if name != last.name}
    assert len(bundles(path, None)) in (kept, kept + 1)


def test_what_cannot_be_put_back_is_told_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, path = prepared("repair", tmp_path)
    actions, plan = scenario.plan(path)
    put, done = file_edits.Files._write, []

    def full(self: file_edits.Files, target: file_edits.FileEdit) -> None:
        if done:
            raise OSError(28, "No space left on device")
        done.append(target.name)
        put(self, target)

    monkeypatch.setattr(file_edits.Files, "_write", full)
    with pytest.raises(Refused) as caught:
        actions.apply(plan, offline=True)
    text = str(caught.value)
    (bundle,) = bundles(path, None)
    assert f"{done[0]} is changed" in text
    assert all(f"{target.name} is as before" in text for target in plan.work if target.name != done[0])
    assert f"backed up in {bundle.path}" in text


def test_the_number_of_a_compaction_is_what_was_written_and_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look after the files are replaced could fail, and would make a failure of what was done."""
    scenario, path = prepared("compact", tmp_path)
    before = scenario.state(path)
    actions, plan = scenario.plan(path)
    with failing(NanobotReader, "audit", fired=False), failing(NanobotReader, "outline", fired=False):
        receipt = actions.apply(plan, offline=True)
    assert receipt.undo == Uncompact(Ref("", "telegram:42"), 1)
    done(path, receipt.undo)
    assert scenario.state(path).keys() == before.keys()
