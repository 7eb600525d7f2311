"""Session keys and the file names that nanobot's releases give them. Pure.

Until 0.2.x a key becomes its file name with every unsafe character replaced, so that several keys share a name; since
0.3.0 it is the key in base64. A `.checkpoint.json` stands beside the file of a turn in flight, and a `.tmp` where a
save was cut off.
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import StrEnum

from msgspec import Struct

ENDING, CHECKPOINT = ".jsonl", ".checkpoint.json"
LOCK = ".session-files.lock"
"""The file that whoever writes into the folder locks."""
_UNSAFE = re.compile(r'[<>:"/\\|?*]')
_EARLY_TEMPORARY, _LATE_TEMPORARY = ".jsonl.tmp", re.compile(r"\.(?P<stem>.+)\.jsonl\.[0-9a-f]{8,32}\.tmp")


class Naming(StrEnum):
    """How a release makes a file name of a key."""

    LOSSY = "lossy"
    BASE64 = "base64"


class FileName(Struct, frozen=True):
    """A name that a session's file may have; `temporary` where a save was cut off before it was complete."""

    stem: str
    temporary: bool


def file_name(name: str) -> FileName | None:
    """What a file of a sessions folder is by its name, None where it is no session's."""
    if name.endswith(ENDING):
        # nanobot lists hidden files as well, so a leading dot makes no difference.
        return FileName(name.removesuffix(ENDING), False)
    if name.endswith(_EARLY_TEMPORARY):
        return FileName(name.removesuffix(_EARLY_TEMPORARY), True)
    found = _LATE_TEMPORARY.fullmatch(name)
    return FileName(found["stem"], True) if found else None


def safe_name(key: str) -> str:
    """The stem of a key's file until 0.2.x (`utils/helpers.py`, safe_filename)."""
    return _UNSAFE.sub("_", key).strip()


def encoded(key: str) -> str:
    """The stem of a key's file since 0.3.0: base64 with a URL's alphabet, without padding."""
    return base64.urlsafe_b64encode(key.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def decoded(stem: str) -> str | None:
    """The key that a stem encodes, None where it is not just what `encoded` gives for one."""
    try:
        key = base64.b64decode(stem + "=" * (-len(stem) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return key if stem and encoded(key) == stem else None


def guessed_key(stem: str) -> str:
    """The key that a lossy stem most likely stands for, as nanobot lists a file without one."""
    return stem.replace("_", ":", 1)


def naming(stem: str, stored: str | None) -> Naming:
    """How a file was named. The key that it stores tells; without one, a stem that decodes to a readable key does."""
    if stored is not None:
        return Naming.BASE64 if safe_name(stored) != stem and encoded(stored) == stem else Naming.LOSSY
    key = decoded(stem)
    return Naming.BASE64 if key is not None and key.isprintable() and (":" in key or len(key) > 3) else Naming.LOSSY


def key_of(stem: str, stored: str | None) -> str:
    """The key of the session in a file."""
    if stored is not None:
        return stored
    return decoded(stem) or stem if naming(stem, None) is Naming.BASE64 else guessed_key(stem)


def channel_of(key: str) -> str | None:
    """The channel of a key such as `telegram:42`, None for one without."""
    channel, colon, _ = key.partition(":")
    return channel if colon and channel else None
