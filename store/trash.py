"""What was kept aside of an archive: listed, shown, exported, emptied."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from .bundle import MANIFEST, Kind, Manifest, discard, place_of, read_manifest
from .errors import NotAnArchive, Refused
from .sqlitefile import BrokenText, decode_text, uri_of


class Bundled(Struct, frozen=True):
    """One thing that was kept: `sessions` is how many a closing removed, `size` in bytes, `kept_at` in epoch ms."""

    path: str
    kind: str
    what: str
    why: str
    kept_at: int | None
    size: int
    sessions: tuple[dict[str, Any], ...]


def bundles(archive: str | os.PathLike[str], kind: str | None = "trash") -> list[Bundled]:
    """What was kept aside of an archive, the newest first: closed sessions, or another kind, or None for all.

    A folder that cannot be read is left out. `archive` is the path of the database or of the sessions folder.
    """
    root = place_of(Path(os.path.realpath(archive)))
    kinds = [Kind(kind)] if kind is not None else list(Kind)
    found: list[Bundled] = []
    for one in kinds:
        folder = root / one
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            if (path / MANIFEST).is_file():
                try:
                    found.append(_bundled(path, read_manifest(path)))
                except NotAnArchive:
                    continue
    return sorted(found, key=lambda one: (one.kept_at or 0, one.path), reverse=True)


def _bundled(path: Path, found: Manifest) -> Bundled:
    sessions = found.more.get("sessions")
    known = tuple(one for one in sessions if isinstance(one, dict)) if isinstance(sessions, list) else ()
    size = sum(one.stat().st_size for one in path.iterdir() if one.is_file())
    return Bundled(
        str(path),
        str(found.kind),
        found.what,
        found.why,
        _ms(found.when),
        size,
        tuple(one for one in known if one.get("fate") == "deleted"),
    )


def _ms(when: str) -> int | None:
    try:
        return int(datetime.fromisoformat(when).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def empty_trash(archive: str | os.PathLike[str], before_ms: int, kind: str | None = "trash") -> list[Bundled]:
    """Deletes for good what was kept before a moment, in epoch milliseconds; what it was. Raises Refused."""
    gone = [one for one in bundles(archive, kind) if (one.kept_at or 0) < before_ms]
    for one in gone:
        try:
            discard(Path(one.path))
        except OSError as error:
            raise Refused(f"{one.path}: cannot be deleted ({error.strerror or error}).") from None
    return gone


def export_bundle(bundle: str | os.PathLike[str]) -> Iterator[str]:
    """What a bundle keeps, as lines of JSON: {"table", "row"} for each row of a database, else each file as it is.

    A value that is no text, number or null is {"bytes": its hexadecimal digits}. Raises NotAnArchive.
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
                quoted = '"' + table.replace('"', '""') + '"'
                cursor = conn.execute(f"SELECT * FROM {quoted} ORDER BY rowid")
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
