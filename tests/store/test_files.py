"""Files that are replaced whole: what is synced, and in which order."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store.io import files


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | str]]:
    """Calls of `os.fsync`, with the inode, and of `os.replace`, with the name of the target; in order."""
    recorded: list[tuple[str, int | str]] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(fd: int) -> None:
        recorded.append(("fsync", os.fstat(fd).st_ino))
        fsync(fd)

    def recorded_replace(source: Any, target: Any) -> None:
        recorded.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return recorded


def test_a_file_is_synced_before_it_replaces_another_and_the_folder_after(
    tmp_path: Path, calls: list[tuple[str, int | str]]
) -> None:
    target = tmp_path / "a.jsonl"
    target.write_bytes(b"old")
    files.replace_file(target, [b"ne", b"w"], sync=True)
    assert target.read_bytes() == b"new"
    assert calls == [("fsync", target.stat().st_ino), ("replace", "a.jsonl"), ("fsync", tmp_path.stat().st_ino)]


def test_nothing_is_synced_unless_it_is_asked_for(tmp_path: Path, calls: list[tuple[str, int | str]]) -> None:
    files.replace_file(tmp_path / "a.jsonl", [b"new"], sync=False)
    assert calls == [("replace", "a.jsonl")]


def test_the_folder_that_is_synced_is_that_of_what_a_link_leads_to(
    tmp_path: Path, calls: list[tuple[str, int | str]]
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "a.jsonl").write_bytes(b"old")
    link = tmp_path / "link.jsonl"
    link.symlink_to(real / "a.jsonl")
    files.replace_file(link, [b"new"], sync=True)
    assert link.is_symlink()
    assert calls[-1] == ("fsync", real.stat().st_ino)


def test_a_folder_that_cannot_be_synced_is_an_error_unless_its_system_syncs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = errno.EIO

    def failing(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.sync_folder(tmp_path)
    code = errno.EINVAL
    files.sync_folder(tmp_path)
