"""A session file as `SessionManager.list_sessions` lists it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sessionscope.store.model.errors import StoreError
from sessionscope.store.nanobot.format.file import beginning
from sessionscope.store.nanobot.format.file_head import Metadata, read_file_head
from sessionscope.store.nanobot.format.names import FileName, Naming, guessed_key

from .loading import same_file

HEAD_BYTES = 65_536
"""How many bytes of a file are read."""
LONG_HEAD_BYTES = 64 * HEAD_BYTES
"""How many are read of one whose first line is longer: it may hold the whole state of a turn under way."""
_log = logging.getLogger("sessionscope.store.nanobot.dropin.session_manager")


def listed_file(path: Path) -> dict[str, Any] | None:
    """Return key, created_at, updated_at, title, preview and path of a file; None if it is no session's.

    A file that cannot be read is logged and left out.
    """
    try:
        data, complete = _beginning(str(path))
    except StoreError as error:
        _log.warning("%s cannot be listed: %s", path.name, error)
        return None
    head = read_file_head(FileName(path.stem, False), data, complete)
    if not data.strip() or not head.session:
        return None
    metadata = head.metadata or Metadata()
    key_is_known = head.naming is Naming.BASE64 or (metadata.key and same_file(path, metadata.key))
    return {
        "key": head.key if key_is_known else guessed_key(path.stem),
        "created_at": metadata.created_at,
        "updated_at": metadata.updated_at,
        "title": metadata.title or "",
        "preview": head.preview,
        "path": str(path),
    }


def _beginning(path: str) -> tuple[bytes, bool]:
    """Return the beginning of a file, and whether that is the whole file. Raises StoreError."""
    data, _ = beginning(path, HEAD_BYTES)
    if len(data) < HEAD_BYTES or b"\n" in data:
        return data, len(data) < HEAD_BYTES
    data, _ = beginning(path, LONG_HEAD_BYTES)
    return data, len(data) < LONG_HEAD_BYTES
