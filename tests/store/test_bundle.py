"""What is kept aside: private, whole or not at all, and never taken for a session."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from sessionscope.store import NotAnArchive, read_manifest
from sessionscope.store.io.bundle import MANIFEST, Bundle, BundleKind, keep, place_of


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_bundle_says_what_it_is(tmp_path: Path) -> None:
    archive = tmp_path / "sessions"
    bundle = Bundle(archive, BundleKind.BACKUP, "telegram:42", "it was repaired")
    assert bundle.add("telegram_42.jsonl", [b"one\n", b"two\n"]).read_bytes() == b"one\ntwo\n"
    folder = bundle.seal({"after": {"size": 4}})
    found = read_manifest(folder)
    assert (found.kind, found.what, found.why) == (BundleKind.BACKUP, "telegram:42", "it was repaired")
    assert (found.source, found.files) == (str(archive), ("telegram_42.jsonl.kept",))
    assert found.more == {"after": {"size": 4}}
    assert folder.parent.parent == place_of(archive)


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    folder = keep(tmp_path / "x.db", BundleKind.QUARANTINE, "x", "why", {"piece": b"secret"})
    assert {mode(path) for path in (folder, folder.parent, folder.parent.parent)} == {0o700}
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_no_listing_of_sessions_takes_it_for_one(tmp_path: Path) -> None:
    keep(tmp_path / "sessions", BundleKind.BACKUP, "a", "why", {"a.jsonl": b"{}\n"})
    assert not list(tmp_path.rglob("*.jsonl"))


def test_what_did_not_happen_leaves_nothing(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path / "x.db", BundleKind.BACKUP, "x", "why")
    bundle.add("before.db", [b"half"])
    bundle.discard()
    assert not list(tmp_path.iterdir())


def test_discarding_spares_what_else_is_kept(tmp_path: Path) -> None:
    kept = keep(tmp_path / "x.db", BundleKind.BACKUP, "x", "why", {"before.db": b"whole"})
    Bundle(tmp_path / "x.db", BundleKind.BACKUP, "x", "why").discard()
    assert (kept / "before.db").read_bytes() == b"whole"


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "else"}', json.dumps({"kind": "backups"}), "\xff"])
def test_a_manifest_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(NotAnArchive, match=r"its manifest\.json cannot be read"):
        read_manifest(tmp_path)


def test_a_folder_without_one_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(NotAnArchive, match="is no bundle that sessionscope kept"):
        read_manifest(tmp_path / "nowhere")
