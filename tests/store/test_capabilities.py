"""What archives offer: what each format never does, and what this very archive does not allow now."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import get_args

import pytest

from sessionscope.store import (
    Action,
    Archive,
    Capability,
    Close,
    Compact,
    Misused,
    Ref,
    Refused,
    Repair,
    Restore,
    SetArchived,
    Settle,
    Uncompact,
    actions_for,
    needed,
    open_archive,
)
from sessionscope.store.model.archive_info import WRITES, ArchiveInfo

from .helpers import DATA


@pytest.fixture(params=["power-loop", "nanobot"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    if request.param == "power-loop":
        (found,) = open_archive(shutil.copy(DATA / "power-loop" / "v0.2.0.db", tmp_path / "a.db"))
    else:
        (found,) = open_archive(shutil.copytree(DATA / "nanobot" / "v0.2.0", tmp_path / "sessions"))
    return found


def info(*capabilities: Capability) -> ArchiveInfo:
    return ArchiveInfo("a", "a", "tape 1", "tape sessions", "", frozenset(capabilities))


def test_a_format_says_what_it_never_offers() -> None:
    for capability in WRITES:
        assert info(Capability.LIMITS).lacks(capability) == "tape sessions are read-only."
        assert info(capability).lacks(capability) == ""
    assert info(Capability.CLOSE).lacks(Capability.ARCHIVE) == "tape sessions cannot be marked as archived."
    assert info().lacks(Capability.LIMITS) == "tape sessions have no context limits."


def test_every_action_needs_a_capability() -> None:
    ref = Ref("", "a")
    actions = [Repair(), Settle(ref), Restore("b"), Close((ref,)), SetArchived(ref), Compact(ref, 1, 2, "x")]
    assert {type(action) for action in (*actions, Uncompact(ref, 1))} == set(get_args(Action))
    assert [needed(action) for action in actions] == ["repair", "settle", "restore", "close", "archive", "compact"]
    assert needed(Uncompact(ref, 1)) is Capability.COMPACT


def test_what_is_offered_can_be_planned(archive: Archive) -> None:
    assert archive.info.sessions.startswith(archive.info.format.split()[0])
    for capability in archive.info.capabilities & WRITES:
        assert actions_for(archive, capability) is not None
    for capability in WRITES - archive.info.capabilities:
        with pytest.raises(Misused, match=f"{archive.info.sessions} cannot be"):
            actions_for(archive, capability)


def test_without_permission_the_reason_names_the_format(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    kind = archive.info.sessions.split()[0]
    with pytest.raises(Refused, match=f"{archive.info.location}: You do not have permission to write .*{kind}"):
        actions_for(archive, Capability.CLOSE)


def test_an_archive_that_no_longer_exists_says_so(archive: Archive) -> None:
    path = Path(archive.info.location)
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(Refused, match="no longer exists"):
        actions_for(archive, Capability.REPAIR)


def test_a_link_to_a_database_that_no_longer_exists_says_so(tmp_path: Path) -> None:
    real = Path(shutil.copy(DATA / "power-loop" / "v0.2.0.db", tmp_path / "real.db"))
    link = tmp_path / "link.db"
    link.symlink_to(real)
    (archive,) = open_archive(link)
    real.unlink()
    with pytest.raises(Refused, match=r"link\.db: no longer exists"):
        actions_for(archive, Capability.REPAIR)
