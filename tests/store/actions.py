"""Every action on a small archive of each format, ready to be carried out on a fresh copy again and again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from sessionscope.store import (
    Action,
    Actions,
    Close,
    Compact,
    Plan,
    Ref,
    Repair,
    Restore,
    SetArchived,
    Settle,
    Uncompact,
)
from sessionscope.store.nanobot import actions as nanobot_actions
from sessionscope.store.powerloop import actions as powerloop_actions

from .defects import CALLS, dump
from .helpers import build, fill, only, raw
from .workspaces import lines, talk

NOW_MS = 1_780_000_000_000
NOW = datetime(2026, 5, 28, 20, 26, 40)
DATABASE, FOLDER = "a.db", "sessions"
KEY = "telegram:42"


class Frozen:
    """A clock that stands still, in place of the class `datetime`."""

    @staticmethod
    def now() -> datetime:
        return NOW


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """One moment for every run, so that an action done twice leaves the same bytes."""
    monkeypatch.setattr(powerloop_actions, "now_ms", lambda: NOW_MS)
    monkeypatch.setattr(nanobot_actions, "datetime", Frozen)


class Scenario(Struct, frozen=True):
    """An action: `prepare` makes the archive in a folder, `action` is what is done to it, given its path."""

    archive: str
    prepare: Callable[[Path], Any]
    action: Callable[[Path], Action]
    bundle: bool = True
    """Whether the action keeps what it changes in a bundle that gives it back."""

    def copy(self, source: Path, target: Path) -> Path:
        """Copy the archive, and what lies beside it, to another folder. Return its path."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        return target / self.archive

    def state(self, path: Path) -> Any:
        """Return everything that the archive holds."""
        if path.is_dir():
            # A save that is killed leaves a hidden temporary file, and every writer a lock.
            names = [file.name for file in path.iterdir() if not file.name.startswith(".")]
            return {name: (path / name).read_bytes() for name in sorted(names)}
        raw(path)
        return dump(path)

    def plan(self, path: Path) -> tuple[Actions, Plan]:
        """Plan the action on a copy."""
        actions = only(path).actions
        assert actions is not None
        return actions, actions.plan(self.action(path))


def done(path: Path, action: Action) -> None:
    actions = only(path).actions
    assert actions is not None
    actions.apply(actions.plan(action), offline=True)


def bundles(path: Path) -> list[Path]:
    """The complete bundles beside an archive, the oldest first."""
    return sorted(found.parent for found in path.with_name(f"{path.name}.sessionscope").glob("*/*/manifest.json"))


def _restore(path: Path) -> Action:
    return Restore(str(bundles(path)[-1]))


# -- power-loop


def _database(folder: Path) -> Path:
    path = build(folder / DATABASE)
    for id_, parent in (("top", None), ("below", "top"), ("beside", None)):
        rows = [{"seq": seq, "role": ("user", "assistant")[seq % 2], "content": f"m{seq}"} for seq in (1, 2, 3, 4)]
        fill(path, id_, rows, parent_session_id=parent)
    fill(path, "open", [{"seq": 1, "role": "user"}, {"seq": 2, "role": "assistant", "tool_calls_json": CALLS}])
    raw(path, "UPDATE session_state SET next_seq = 2 WHERE session_id = 'beside'")
    return path


def _ref(id_: str) -> Ref:
    return Ref("", id_)


def _after_database(action: Action) -> Callable[[Path], None]:
    return lambda folder: done(_database(folder), action)


_CLOSE, _COMPACT = Close((_ref("top"),), anyway=True), Compact(_ref("top"), 1, 2, "so far")
POWERLOOP = {
    "close": Scenario(DATABASE, _database, lambda _: _CLOSE),
    "restore what was closed": Scenario(DATABASE, _after_database(_CLOSE), _restore, bundle=False),
    "repair": Scenario(DATABASE, _database, lambda _: Repair()),
    "restore what was repaired": Scenario(DATABASE, _after_database(Repair()), _restore, bundle=False),
    "settle": Scenario(DATABASE, _database, lambda _: Settle(_ref("open"))),
    "archive": Scenario(DATABASE, _database, lambda _: SetArchived(_ref("top"))),
    "compact": Scenario(DATABASE, _database, lambda _: _COMPACT, bundle=False),
    "uncompact": Scenario(DATABASE, _after_database(_COMPACT), lambda _: Uncompact(_ref("top"), 1), bundle=False),
}

# -- nanobot


def _folder(folder: Path) -> Path:
    path = folder / FOLDER
    path.mkdir()
    (path / "telegram_42.jsonl").write_bytes(lines(talk(8)))
    (path / "telegram_42.jsonl.tmp").write_bytes(lines(talk(3)))
    (path / "telegram_42.checkpoint.json").write_bytes(b"{}")
    broken = lines(talk(4), "slack:1")
    (path / "slack_1.jsonl").write_bytes(broken + b"\0\0\0")
    (path / "slack_2.jsonl").write_bytes(broken.replace(b"slack:1", b"slack:2")[:-5])
    calls = [{"id": "c1", "type": "function", "function": {"name": "grep", "arguments": "{}"}}]
    (path / "cli_1.jsonl").write_bytes(
        lines([*talk(2), {"role": "assistant", "content": "", "tool_calls": calls}], "cli:1")
    )
    return path


def _after_folder(action: Action) -> Callable[[Path], None]:
    return lambda folder: done(_folder(folder), action)


_CLOSE_ONE, _COMPACT_ONE = Close((_ref(KEY),), anyway=True), Compact(_ref(KEY), 1, 4, "so far")
NANOBOT = {
    "close": Scenario(FOLDER, _folder, lambda _: _CLOSE_ONE),
    "restore what was closed": Scenario(FOLDER, _after_folder(_CLOSE_ONE), _restore, bundle=False),
    "repair": Scenario(FOLDER, _folder, lambda _: Repair()),
    "restore what was repaired": Scenario(FOLDER, _after_folder(Repair()), _restore, bundle=False),
    "settle": Scenario(FOLDER, _folder, lambda _: Settle(_ref("cli:1"))),
    "compact": Scenario(FOLDER, _folder, lambda _: _COMPACT_ONE, bundle=False),
    "uncompact": Scenario(FOLDER, _after_folder(_COMPACT_ONE), lambda _: Uncompact(_ref(KEY), 1), bundle=False),
}
SCENARIOS = {f"power-loop: {name}": one for name, one in POWERLOOP.items()} | {
    f"nanobot: {name}": one for name, one in NANOBOT.items()
}
