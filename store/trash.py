"""The bundles of an archive (trash, backups and others): list, export and empty them."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any

from msgspec import Struct

from sessionscope.store.io.sql import quoted

from .io.bundle import MANIFEST, NAME, BundleKind, discard, is_own, place_of, read_manifest
from .io.files import folder_lock, is_locked
from .io.sqlitefile import BrokenText, decode_text, uri_of
from .model.errors import NotAnArchive, Refused

UNFINISHED = "Incomplete: it has no manifest, so it cannot be restored."
UNREADABLE = "Its manifest is not readable, so it cannot be restored."


class Bundled(Struct, frozen=True):
    """One bundle: what it keeps, why, and since when.

    `sessions` are those that a closing removed. `size` is in bytes, `kept_at` in epoch milliseconds. `complete` is
    False for what an interrupted action left, and if the manifest cannot be read.
    """

    path: str
    kind: str
    what: str
    why: str
    kept_at: int | None
    size: int
    sessions: tuple[dict[str, Any], ...]
    complete: bool = True


def bundles(archive: str | os.PathLike[str], kind: str | None = "trash") -> list[Bundled]:
    """Return the bundles of an archive, the newest first: of one kind, or of all kinds for None.

    What an interrupted action left is included, but not what another process is writing at this moment. `archive` is
    the path of the database or of the sessions folder.
    """
    root = place_of(Path(os.path.realpath(archive)))
    kinds = [BundleKind(kind)] if kind is not None else list(BundleKind)
    listed: list[Bundled] = []
    for bundle_kind in kinds:
        folder = root / bundle_kind
        if folder.is_dir():
            listed += filter(None, (_bundled(path, bundle_kind) for path in folder.iterdir()))
    return sorted(listed, key=lambda bundle_kind: (bundle_kind.kept_at or 0, bundle_kind.path), reverse=True)


def _bundled(path: Path, kind: BundleKind) -> Bundled | None:
    """Return the bundle in a folder, None if the folder is no bundle, no longer exists, or is still being written."""
    try:
        manifest = read_manifest(path)
    except NotAnArchive:
        if not is_own(path) or not NAME.fullmatch(path.name) or not path.is_dir():
            return None
        unfinished = not (path / MANIFEST).exists()
        if unfinished and is_locked(path):
            return None
        what, why = ("(unfinished)", UNFINISHED) if unfinished else ("(unreadable)", UNREADABLE)
        return Bundled(str(path), kind, what, why, _begun_ms(path) if unfinished else None, _size(path), (), False)
    sessions = manifest.more.get("sessions")
    known = tuple(one for one in sessions if isinstance(one, dict)) if isinstance(sessions, list) else ()
    deleted = tuple(one for one in known if one.get("fate") == "deleted")
    return Bundled(str(path), str(manifest.kind), manifest.what, manifest.why, _ms(manifest.when), _size(path), deleted)


def _size(folder: Path) -> int:
    """Return the bytes of the files in a folder. A file that disappears meanwhile counts as empty."""
    total = 0
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                status = path.lstat()
                total += status.st_size if S_ISREG(status.st_mode) else 0
    return total


def _begun_ms(folder: Path) -> int | None:
    match = NAME.fullmatch(folder.name)
    return _ms(f"{match[1]}+00:00") if match is not None else None


def _ms(when: str) -> int | None:
    try:
        return int(datetime.fromisoformat(when).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _expired(archive: str | os.PathLike[str], before_ms: int | None, kind: str | None = "trash") -> list[Bundled]:
    """Return what emptying the trash would delete: bundles from before a moment in epoch milliseconds, or all.

    A bundle without a date is never older than a moment.
    """
    candidates = bundles(archive, kind)
    if before_ms is None:
        return candidates
    return [one for one in candidates if one.kept_at is not None and one.kept_at < before_ms]


def empty_trash(
    archive: str | os.PathLike[str], before_ms: int | None, kind: str | None = "trash", dry_run: bool = False
) -> list[Bundled]:
    """Delete bundles for good: those from before a moment in epoch milliseconds, or all. Return them.

    With `dry_run` nothing is deleted. If some cannot be deleted, the others are, and Refused is raised.
    """
    gone: list[Bundled] = []
    failures: list[str] = []
    for bundle in _expired(archive, before_ms, kind):
        try:
            if not is_own(Path(bundle.path)):
                raise OSError(errno.ELOOP, "it is not in a folder that sessionscope made")
            if dry_run:
                gone.append(bundle)
                continue
            # An action may have begun to write it, or completed it, since it was listed.
            with nullcontext() if bundle.complete else folder_lock(Path(bundle.path), 0.0):
                if bundle.complete or not _completed(Path(bundle.path)):
                    discard(Path(bundle.path))
                    gone.append(bundle)
        except TimeoutError:
            continue
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            failures.append(f"{bundle.path}: cannot be deleted completely ({why}).")
    if failures:
        done = f"{len(gone)} of {len(gone) + len(failures)} were deleted. "
        raise Refused((done if gone and not dry_run else "") + failures[0])
    return gone


def _completed(folder: Path) -> bool:
    """Return whether a folder is a complete bundle by now."""
    try:
        read_manifest(folder)
    except NotAnArchive:
        return False
    return True


def export_bundle(bundle: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the contents of a bundle as lines of JSON.

    Rows of a database are {"table", "row"}; other files come as they are. A value that is no text, number or null
    becomes {"bytes": its hexadecimal digits}. Raises NotAnArchive.
    """
    folder = Path(bundle)
    found = read_manifest(folder)
    for name in found.files:
        path = folder / os.path.basename(name)
        if not path.is_file():
            raise NotAnArchive(f"{path}: is gone.")
        if path.suffix == ".db":
            yield from _rows(path)
        else:
            with path.open("rb") as file:
                for line in file:
                    yield line.decode("utf-8", "backslashreplace").rstrip("\n")


def _rows(path: Path) -> Iterator[str]:
    try:
        with closing(sqlite3.connect(f"{uri_of(str(path))}?immutable=1", uri=True)) as conn:
            conn.text_factory = decode_text
            conn.execute("PRAGMA trusted_schema=OFF")
            tables = [
                name
                for (name,) in conn.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
                )
            ]
            for table in tables:
                cursor = conn.execute(f"SELECT * FROM {quoted(table)} ORDER BY rowid")
                names = [column[0] for column in cursor.description]
                for row in cursor:
                    values = {name: _plain(value) for name, value in zip(names, row, strict=True)}
                    yield json.dumps({"table": table, "row": values}, ensure_ascii=True)
    except sqlite3.Error as error:
        raise NotAnArchive(f"{path}: cannot be read ({error}).") from None


def _plain(value: Any) -> Any:
    if isinstance(value, BrokenText):
        return {"bytes": value.raw.hex()}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return repr(value) if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
