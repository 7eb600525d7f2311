"""The trash: what interrupted actions left, dates that are not readable, links, and files that are not its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sessionscope.store import Refused, Restore, bundles, empty_trash
from sessionscope.store.io.bundle import MANIFEST, Bundle, BundleKind, keep, place_of

from .actions import NANOBOT, POWERLOOP, Scenario, done
from .helpers import only

LATER = 2**52
CLOSINGS = pytest.mark.parametrize("scenario", [POWERLOOP["close"], NANOBOT["close"]], ids=["power-loop", "nanobot"])


def closed(scenario: Scenario, folder: Path) -> tuple[Path, Path]:
    """Close a session. Return the path of the archive, and that of the bundle."""
    scenario.prepare(folder)
    path = folder / scenario.archive
    done(path, scenario.action(path))
    (bundle,) = bundles(path)
    return path, Path(bundle.path)


def test_what_an_interrupted_action_left_is_listed_and_removed(tmp_path: Path) -> None:
    archive = tmp_path / "a.db"
    bundle = Bundle(archive, BundleKind.BACKUP, "a", "why")
    bundle.add("before.db", [b"secret"])
    (bundle.path / "before.db-journal").write_bytes(b"more")
    assert bundles(archive, None) == [], "it may still be filled"
    del bundle
    (left,) = bundles(archive, None)
    assert (left.complete, left.kind, left.size) == (False, "backups", 10)
    assert left.kept_at is not None
    assert empty_trash(archive, 0, None) == []
    assert empty_trash(archive, LATER, None) == [left]
    assert not place_of(archive).exists()


@pytest.mark.parametrize("text", ["", "{", '{"kind": "else"}'])
def test_a_bundle_without_a_readable_manifest_is_listed_and_kept(tmp_path: Path, text: str) -> None:
    archive = tmp_path / "a.db"
    folder = keep(archive, BundleKind.BACKUP, "a", "why", {"before.db": b"secret"})
    (folder / MANIFEST).write_text(text)
    (left,) = bundles(archive, None)
    assert (left.complete, left.kept_at) == (False, None)
    assert empty_trash(archive, LATER, None) == []
    assert (folder / "before.db").exists()
    assert empty_trash(archive, None, None) == [left]
    assert not folder.exists()


@pytest.mark.parametrize("when", ["2026-13-45", "", "yesterday", "99999-01-01T00:00:00"])
def test_a_bundle_without_a_readable_date_is_never_too_old(tmp_path: Path, when: str) -> None:
    path, folder = closed(POWERLOOP["close"], tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"when": when}))
    assert empty_trash(path, LATER) == []
    assert len(empty_trash(path, None)) == 1
    assert bundles(path) == []


@CLOSINGS
def test_restoring_removes_no_file_of_somebody_elses(tmp_path: Path, scenario: Scenario) -> None:
    path, folder = closed(scenario, tmp_path)
    (folder / "thesis.txt").write_text("precious")
    (folder / "photos").mkdir()
    (folder / "photos" / "1.jpg").write_text("x")
    actions = only(path).actions
    assert actions is not None
    receipt = actions.apply(actions.plan(Restore(str(folder))), offline=True)
    assert "could not be removed completely" in receipt.notes[0]
    assert {file.name for file in folder.iterdir()} == {"thesis.txt", "photos"}
    assert (folder / "photos" / "1.jpg").exists()


@CLOSINGS
def test_emptying_removes_no_file_of_somebody_elses(tmp_path: Path, scenario: Scenario) -> None:
    path, folder = closed(scenario, tmp_path)
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(Refused, match="cannot be deleted completely"):
        empty_trash(path, LATER)
    assert {file.name for file in folder.iterdir()} == {"thesis.txt"}


@CLOSINGS
def test_a_copy_of_a_bundle_is_restored_and_stays(tmp_path: Path, scenario: Scenario) -> None:
    path, folder = closed(scenario, tmp_path)
    copy = Path(shutil.copytree(folder, tmp_path / "mine"))
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    copy.chmod(0o500)
    done(path, Restore(str(copy)))
    copy.chmod(0o700)
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before


@CLOSINGS
@pytest.mark.parametrize("inside", [False, True], ids=["the folder", "its trash"])
def test_a_link_is_not_followed(tmp_path: Path, scenario: Scenario, inside: bool) -> None:
    scenario.prepare(tmp_path)
    path, public = tmp_path / scenario.archive, tmp_path / "public"
    public.mkdir(mode=0o755)
    link = place_of(path) / "trash" if inside else place_of(path)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(public)
    before = scenario.state(path)
    with pytest.raises(Refused, match="is a symbolic link, which is not followed"):
        done(path, scenario.action(path))
    assert scenario.state(path) == before
    assert public.stat().st_mode & 0o777 == 0o755
    assert list(public.iterdir()) == []


def test_nothing_is_deleted_through_a_link(tmp_path: Path) -> None:
    path, folder = closed(POWERLOOP["close"], tmp_path)
    moved = folder.parent.rename(tmp_path / "elsewhere")
    folder.parent.symlink_to(moved)
    for dry_run in (True, False):
        with pytest.raises(Refused, match="not in a folder that sessionscope made"):
            empty_trash(path, None, dry_run=dry_run)
    assert (moved / folder.name / MANIFEST).exists()
