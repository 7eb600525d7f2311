"""Session keys and the file names that nanobot's releases give them. Pure.

Until 0.2.x a key becomes its file name with every unsafe character replaced, so several keys can share a name. Since
0.3.0 it is the key in base64. During a turn there is a `.checkpoint.json` next to the file. A save that was cut off
leaves a `.tmp`.
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import StrEnum

from msgspec import Struct

ENDING, CHECKPOINT = ".jsonl", ".checkpoint.json"
LOCK = ".session-files.lock"
"""The file that writers in the folder lock."""
_UNSAFE = re.compile(r'[<>:"/\\|?*]')
_EARLY_TEMPORARY, _LATE_TEMPORARY = ".jsonl.tmp", re.compile(r"\.(?P<stem>.+)\.jsonl\.[0-9a-f]{8,32}\.tmp")


class Naming(StrEnum):
    """How a release makes a file name of a key."""

    LOSSY = "lossy"
    BASE64 = "base64"


class FileName(Struct, frozen=True):
    """The name of a session's file. `temporary` says that it belongs to a save that was cut off."""

    stem: str
    temporary: bool


def file_name(name: str) -> FileName | None:
    """Return what a file of a sessions folder is by its name, None if it is no session's."""
    if name.endswith(ENDING):
        # nanobot lists hidden files as well, so a leading dot makes no difference.
        return FileName(name.removesuffix(ENDING), False)
    if name.endswith(_EARLY_TEMPORARY):
        return FileName(name.removesuffix(_EARLY_TEMPORARY), True)
    found = _LATE_TEMPORARY.fullmatch(name)
    return FileName(found["stem"], True) if found else None


def safe_name(key: str) -> str:
    """Return the stem of a key's file until 0.2.x (`utils/helpers.py`, safe_filename)."""
    return _UNSAFE.sub("_", key).strip()


def encoded(key: str) -> str:
    """Return the stem of a key's file since 0.3.0: base64 with a URL's alphabet, without padding."""
    return base64.urlsafe_b64encode(key.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def decoded(stem: str) -> str | None:
    """Return the key that a stem encodes, None if it is not exactly what `encoded` returns for a key."""
    try:
        key = base64.b64decode(stem + "=" * (-len(stem) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return key if stem and encoded(key) == stem else None


def guessed_key(stem: str) -> str:
    """Return the key that a lossy stem most likely stands for, as nanobot lists a file without a key."""
    return stem.replace("_", ":", 1)


def naming(stem: str, stored: str | None) -> Naming:
    """Return how a file was named: by the key that it stores or, without one, by whether its stem decodes to a
    readable key.
    """
    if stored is not None:
        return Naming.BASE64 if safe_name(stored) != stem and encoded(stored) == stem else Naming.LOSSY
    key = decoded(stem)
    return Naming.BASE64 if key is not None and key.isprintable() and (":" in key or len(key) > 3) else Naming.LOSSY


def key_of(stem: str, stored: str | None) -> str:
    """Return the key of the session in a file."""
    if stored is not None:
        return stored
    return decoded(stem) or stem if naming(stem, None) is Naming.BASE64 else guessed_key(stem)


def channel_of(key: str) -> str | None:
    """Return the channel of a key such as `telegram:42`, None for one without."""
    channel, colon, _ = key.partition(":")
    return channel if colon and channel else None
