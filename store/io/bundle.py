"""Bundles: backups of what was rewritten or removed, each in a private folder with a manifest that says why.

Bundles are next to the archive, in `NAME.sessionscope/KIND/`. None of their files has a name that an agent would list
as a session. The manifest is written last, so a folder without one belongs to something that never happened.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
from msgspec import Struct

from sessionscope.store.model.errors import NotAnArchive
from sessionscope.store.model.plans import Member

from .files import PATIENCE_S, FolderLock, sync_folder

SUFFIX = ".sessionscope"
"""What the name of the folder for bundles ends with."""
MANIFEST = "manifest.json"
DRAFT = "manifest.json.tmp"
"""A manifest that is being written."""
NAME = re.compile(r"(\d{8}T\d{6})-[0-9a-f]{8}")
"""The name of a bundle's folder: when it was begun, in UTC, and a random number."""
SQLITE_ENDINGS = ("-journal", "-wal", "-shm")
_LONGEST = 250
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class BundleKind(StrEnum):
    """Why something is kept."""

    QUARANTINE = "quarantine"
    """Bytes that could not be read, before the file that holds them is rewritten."""
    CONFLICT = "conflicts"
    """What one writer would have written over another's work."""
    BACKUP = "backups"
    """What a repair is about to change, as it was."""
    TRASH = "trash"
    """Sessions that are closed."""


class Manifest(Struct, frozen=True):
    """What a bundle says of itself. `source` is the archive it was taken from; `more` is what only its kind needs."""

    kind: BundleKind
    what: str
    why: str
    when: str
    source: str
    files: tuple[str, ...]
    more: Mapping[str, Any]


def place_of(archive: Path) -> Path:
    """Return the folder for the bundles of an archive, whether or not it exists."""
    return archive.with_name(archive.name + SUFFIX)


class Bundle:
    """A bundle that is being written.

    `what` names the session or file, `why` is a sentence for people. The folder stays locked until the bundle is sealed
    or discarded, which tells it from what a killed process left. Raises OSError if it cannot be made, or if its place
    is a symbolic link.
    """

    def __init__(self, archive: Path, kind: BundleKind, what: str, why: str) -> None:
        self._archive, self._kind, self._what, self._why = archive, kind, what, why
        self._files: list[str] = []
        self._lock = FolderLock()
        bundles_folder = place_of(archive)
        for folder in (bundles_folder, bundles_folder / kind):
            if folder.is_symlink():
                raise OSError(errno.ELOOP, f"{folder} is a symbolic link, which is not followed")
        self.path = bundles_folder / kind / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{token_hex(4)}"
        self.path.mkdir(mode=0o700, parents=True)
        try:
            with suppress(TimeoutError):
                self._lock.acquire(self.path, PATIENCE_S)
            for path in (bundles_folder, self.path.parent, self.path):
                path.chmod(0o700)
        except BaseException:
            self.discard()
            raise

    def new(self, name: str) -> Path:
        """Return the path of a new, empty, private file of this name. The caller writes it and need not sync it."""
        # Nothing that lists *.jsonl may take this for a session, and a name has a maximum length.
        inside = os.fsdecode(os.fsencode(name)[:_LONGEST]) + ".kept" * name.endswith(".jsonl")
        os.close(os.open(self.path / inside, _NEW, 0o600))
        self._files.append(inside)
        return self.path / inside

    def add(self, name: str, pieces: Iterable[bytes]) -> Path:
        """Keep bytes under a name. Return the path of the file."""
        path = self.new(name)
        with path.open("wb") as file:
            file.writelines(pieces)
        return path

    def seal(self, more: Mapping[str, Any] | None = None) -> Path:
        """Sync everything, write the manifest, and return the folder."""
        for name in self._files:
            _sync(self.path / name)
        manifest = {
            "kind": self._kind,
            "what": self._what,
            "why": self._why,
            "when": datetime.now(UTC).isoformat(),
            "from": os.path.abspath(self._archive),
            "files": sorted(self._files),
            "more": dict(more or {}),
        }
        # Indented for people, with the fastest formatter, since it may list thousands of sessions.
        write_manifest(self.path, msgspec.json.format(json.dumps(manifest), indent=1).encode())
        for path in (self.path, self.path.parent, place_of(self._archive), self._archive.parent):
            sync_folder(path)
        self._lock.release()
        return self.path

    def discard(self) -> None:
        """Remove a bundle of something that did not happen, as far as possible."""
        with suppress(OSError):
            remove_files(self.path, [name + end for name in self._files for end in ("", *SQLITE_ENDINGS)])
            remove_empty(self.path)
        self._lock.release()


def write_manifest(folder: Path, data: bytes) -> None:
    """Write the manifest of a bundle, whole or not at all. It is synced when this returns."""
    draft = folder / DRAFT
    with open(os.open(draft, _NEW, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / MANIFEST)


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove files of a bundle, its manifest first, so that an incomplete bundle cannot be restored. Raises OSError."""
    for name in (MANIFEST, DRAFT, *names):
        (folder / name).unlink(missing_ok=True)


def remove_empty(folder: Path) -> None:
    """Remove the folder of a bundle, and the folders above it that are empty then.

    Raises OSError if it is not empty.
    """
    folder.rmdir()
    with suppress(OSError):
        for parent in (folder.parent, folder.parent.parent):
            parent.rmdir()


def _sync(path: Path) -> None:
    # Windows syncs only files that are open for writing.
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def keep(archive: Path, kind: BundleKind, what: str, why: str, files: Mapping[str, bytes]) -> Path:
    """Write bytes to a new bundle, synced when this returns. Return its folder. Raises OSError.

    `what` names the session or file, `why` is a sentence for people.
    """
    bundle = Bundle(archive, kind, what, why)
    try:
        for name, data in files.items():
            bundle.add(name, (data,))
        return bundle.seal()
    except BaseException:
        bundle.discard()
        raise


def trash_entry(member: Member) -> dict[str, Any]:
    """Return the manifest entry of a session that is closed, or that loses its parent."""
    return {
        "id": member.ref.id,
        "fate": str(member.fate),
        "depth": member.depth,
        "lifecycle": member.lifecycle,
        "kind": member.kind,
        "title": member.title,
        "preview": member.preview,
        "messages": member.messages,
    }


def discard(folder: Path) -> None:
    """Remove a bundle. Raises OSError, also if its folder holds files that its manifest does not name; these stay.

    Without a readable manifest, every file in the folder is removed, but no folder in it.
    """
    try:
        names = [name for name in map(os.path.basename, read_manifest(folder).files) if name not in ("", ".", "..")]
    except NotAnArchive:
        # An action that never ended left a few files of its own there.
        names = [path.name for path in folder.iterdir() if not path.is_dir() or path.is_symlink()]
    remove_files(folder, names)
    remove_empty(folder)


def discard_restored(folder: Path) -> list[str]:
    """Remove a bundle that was restored. Return in words what could not be removed. A copy made elsewhere stays."""
    if not is_own(folder):
        return []
    try:
        discard(folder)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        return [f"{folder} could not be removed completely ({why})"]
    return []


def is_own(folder: Path) -> bool:
    """Return whether a folder is where sessionscope puts bundles, rather than a copy elsewhere."""
    above = (folder, folder.parent, folder.parent.parent)
    known = folder.parent.name in list(BundleKind) and folder.parent.parent.name.endswith(SUFFIX)
    return known and not any(path.is_symlink() for path in above)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a bundle. Raises NotAnArchive if the folder is no bundle or its manifest is damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return Manifest(
            BundleKind(manifest["kind"]),
            str(manifest["what"]),
            str(manifest["why"]),
            str(manifest["when"]),
            str(manifest["from"]),
            tuple(map(str, manifest["files"])),
            dict(manifest["more"]),
        )
    except FileNotFoundError:
        raise NotAnArchive(f"{folder}: is no bundle that sessionscope kept (there is no {MANIFEST} in it).") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotAnArchive(f"{folder}: its {MANIFEST} cannot be read ({error}).") from None
