"""Session keys and the file names that nanobot's releases make of them. Pure.

Up to 0.2.x, every unsafe character of the key is replaced, so several keys may share a file name. Since 0.3.0 the name
is the key in base64. The `.checkpoint.json` of an unfinished turn has the same stem. A `.tmp` file is left by a save
that was cut off.
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import StrEnum

from msgspec import Struct

ENDING = ".jsonl"
"""The ending of a session's file."""
CHECKPOINT = ".checkpoint.json"
"""The ending of a sidecar: the checkpoint of an unfinished turn."""
LOCK = ".session-files.lock"
"""The file in the sessions folder that every writer locks."""
_UNSAFE = re.compile(r'[<>:"/\\|?*]')
"""The characters that are replaced in a lossy file name."""
_EARLY_TEMPORARY = ".jsonl.tmp"
"""The ending of a temporary file up to 0.2.x."""
_LATE_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.jsonl\.[0-9a-f]{8,32}\.tmp")
"""The name of a temporary file of later releases."""
_SHORT_KEY_CHARS = 3
"""A stem that decodes to a key of at most so many characters, without a colon, is taken for a plain name."""


class Naming(StrEnum):
    """How a release makes a file name of a key."""

    LOSSY = "lossy"
    """Up to 0.2.x: unsafe characters are replaced."""
    BASE64 = "base64"
    """Since 0.3.0."""


class FileName(Struct, frozen=True):
    """The name of a session's file."""

    stem: str
    """The name without its endings."""
    temporary: bool
    """Whether it is left by a save that was cut off."""


def file_name(name: str) -> FileName | None:
    """Return a file name of a sessions folder, parsed, or None if it is not that of a session."""
    if name.endswith(ENDING):
        # nanobot lists hidden files as well, so a leading dot makes no difference.
        return FileName(name.removesuffix(ENDING), False)
    if name.endswith(_EARLY_TEMPORARY):
        return FileName(name.removesuffix(_EARLY_TEMPORARY), True)
    match = _LATE_TEMPORARY.fullmatch(name)
    return FileName(match["stem"], True) if match else None


def safe_name(key: str) -> str:
    """Return the stem of a key's file up to 0.2.x (`utils/helpers.py`, safe_filename)."""
    return _UNSAFE.sub("_", key).strip()


def encoded(key: str) -> str:
    """Return the stem of a key's file since 0.3.0: base64 with the URL alphabet, without padding."""
    return base64.urlsafe_b64encode(key.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def decoded(stem: str) -> str | None:
    """Return the key that a stem encodes, or None if `encoded` gives this stem for no key."""
    try:
        key = base64.b64decode(stem + "=" * (-len(stem) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return key if stem and encoded(key) == stem else None


def guessed_key(stem: str) -> str:
    """Return the most likely key of a lossy stem, as nanobot lists a file that stores no key."""
    return stem.replace("_", ":", 1)


def naming(stem: str, stored: str | None) -> Naming:
    """Return how a file was named, given the key that it stores.

    Without a stored key, a stem that decodes to a readable key is base64.
    """
    if stored is not None:
        return Naming.BASE64 if safe_name(stored) != stem and encoded(stored) == stem else Naming.LOSSY
    key = decoded(stem)
    if key is not None and key.isprintable() and (":" in key or len(key) > _SHORT_KEY_CHARS):
        return Naming.BASE64
    return Naming.LOSSY


def key_of(stem: str, stored: str | None) -> str:
    """Return the key of the session in a file: the stored one, or else the one that the stem stands for."""
    if stored is not None:
        return stored
    return decoded(stem) or stem if naming(stem, None) is Naming.BASE64 else guessed_key(stem)


def channel_of(key: str) -> str | None:
    """Return the channel of a key such as `telegram:42`, or None if it has none."""
    channel, colon, _ = key.partition(":")
    return channel if colon and channel else None
