"""What is kept aside before something is rewritten or removed: one private folder each, with a manifest that says why.

They stand beside what they were taken from, in `NAME.sessionscope/KIND/`; none of their files is one that an agent
would list as a session.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from secrets import token_hex

from .files import sync_folder

SUFFIX, MANIFEST = ".sessionscope", "manifest.json"
_LONGEST = 250
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Kind(StrEnum):
    """Why something is kept."""

    QUARANTINE = "quarantine"
    """Bytes that could not be read, before the file that held them is written anew."""
    CONFLICT = "conflicts"
    """What one writer would have written over another's work."""


def place_of(archive: Path) -> Path:
    """Where things of an archive are kept aside, whether or not there are any yet."""
    return archive.with_name(archive.name + SUFFIX)


def keep(archive: Path, kind: Kind, what: str, why: str, files: Mapping[str, bytes]) -> Path:
    """Keeps bytes aside, safely on the disk when this returns; the folder they are in. Raises OSError.

    `what` names the session or file, `why` is a sentence for people.
    """
    folder = place_of(archive) / kind / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{token_hex(4)}"
    folder.mkdir(mode=0o700, parents=True)
    for path in (place_of(archive), folder.parent, folder):
        path.chmod(0o700)
    manifest = {"what": what, "why": why, "when": datetime.now(UTC).isoformat(), "from": str(archive),
                "files": sorted(files)}
    for name, data in (*files.items(), (MANIFEST, json.dumps(manifest, indent=1).encode())):
        # Nothing that lists *.jsonl may take what is kept here for a session, and a name may be as long as can be.
        inside = os.fsdecode(os.fsencode(name)[:_LONGEST]) + ".kept" * name.endswith(".jsonl")
        with open(os.open(folder / inside, _NEW, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    for path in (folder, folder.parent, place_of(archive), archive.parent):
        sync_folder(path)
    return folder
