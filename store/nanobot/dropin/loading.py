"""Loads the rows of a `Session` from the bytes of its file, checks whose file it is, and merges what two writers
did.
"""

from __future__ import annotations

import json
import logging
import os
import re
from array import array
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from sessionscope.store.io.jsonlines import scan
from sessionscope.store.io.spans import Fidelity, Span, SpanKind, Trouble
from sessionscope.store.nanobot.format.file import Stat, stat_of
from sessionscope.store.nanobot.format.file_head import METADATA, PROVIDER_STATE
from sessionscope.store.nanobot.format.history import consolidated
from sessionscope.store.nanobot.format.names import encoded

from .row_lines import Unwritable, line_of
from .session import Session, safe_key
from .writing import PAGE, PENDING, SAVE, Base, Own, nothing, prints_of, same_rows

_decode_lines = msgspec.json.Decoder().decode_lines
_log = logging.getLogger(__name__)
_DATES, _TRIES = ("created_at", "updated_at"), 5
_LEFT_BEHIND = re.compile(r"\.(?P<name>.+\.jsonl)\.[0-9a-f]{16}\.tmp")
_HARMLESS = {Trouble.SURROGATE}
_OWN = {"_type", "key", *_DATES, "metadata", "last_consolidated", SAVE, PENDING}


def read_steadily(path: Path) -> tuple[bytes, Stat] | None:
    """Return a file that nobody wrote while it was read, None if somebody did at every try. Raises OSError."""
    for _ in range(_TRIES):
        with open(path, "rb") as file:
            before = stat_of(os.fstat(file.fileno()))
            data = file.read()
            file.seek(0)
            again = file.read(PAGE)
            # A save under way says so in the first line before it appends a row, and changes that when it is done.
            if stat_of(os.fstat(file.fileno())) == before and len(data) == before.size and data[:PAGE] == again:
                return data, before
    return None


def read_rows(data: bytes) -> tuple[list[dict[str, Any]], Base]:
    """Return the usable rows of a file and their positions. The caller sets `stat`."""
    return _plain(data) or _analysed(data)


def _plain(data: bytes) -> tuple[list[dict[str, Any]], Base] | None:
    """Return the rows of a file that is as a save leaves it. None means that it needs a full analysis."""
    lines = data.splitlines(True)
    try:
        head, *rows = _decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    # An object has a comma between two braces. So lines from brace to brace, as many as there are objects, are one
    # object each.
    plain = (
        len(lines) == len(rows) + 1
        and data.endswith(b"\n")
        and b"\r" not in data
        and all(line.startswith(b"{") for line in lines)
        and all(line.rstrip().endswith(b"}") for line in lines)
    )
    if not plain or not all(type(row) is dict and "_type" not in row for row in rows):
        return None
    if type(head) is not dict or head.get("_type") != METADATA or PENDING in head or not _usable(head):
        return None
    stops = array("q", accumulate(map(len, lines)))
    return rows, Base(
        None, stops[:-1], stops[1:], len(data), prints_of(rows), head, lines[0], later="last_archived" in head
    )


def _analysed(data: bytes) -> tuple[list[dict[str, Any]], Base]:
    """Return the rows of any file, as far as they can be used."""
    loading = _Loading()
    for span in scan(data):
        loading.add(span, data[span.start : span.stop])
    return loading.rows, loading.base(len(data))


class _Loading:
    """The rows and the metadata of a file, taken span by span."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._starts, self._stops = array("q"), array("q")
        self._head: dict[str, Any] | None = None
        self._line = b""
        """The metadata line, empty if it is not the first or not sound."""
        self._harm = False
        """Whether something was not understood, or belongs to a save that never ended."""
        self._other_lines = 0
        """How many blank lines and private lines there are. A rewrite in place does not expect them."""
        self._later = False

    def add(self, span: Span, text: bytes) -> None:
        """Take the next span of the file, with its bytes."""
        if span.kind is SpanKind.BLANK:
            self._other_lines += 1
            return
        value = span.value
        damaged = value is None or span.fidelity is not Fidelity.EXACT or not _HARMLESS.issuperset(span.troubles)
        if damaged:
            self._harm = True
        if value is None or self._is_pending(span):
            self._harm = True
        elif value.get("_type") == METADATA:
            self._add_metadata(value, text if span.start == 0 and not damaged else b"")
        elif value.get("_type") == PROVIDER_STATE:
            self._later = True
            self._other_lines += 1
        else:
            is_one_line = not damaged and text.count(b"\n") == 1 and b"\r" not in text and text.endswith(b"\n")
            self.rows.append(value)
            self._starts.append(span.start if is_one_line else -1)
            self._stops.append(span.stop)

    def _is_pending(self, span: Span) -> bool:
        """Return whether a span belongs to a save that never ended."""
        pending = self._head.get(PENDING) if self._head else None
        return type(pending) is int and span.start >= pending

    def _add_metadata(self, value: dict[str, Any], line: bytes) -> None:
        """Take a metadata line. `line` is empty if it cannot be rewritten in place.

        Of several the last counts, as in every release of nanobot, but a message may claim to be metadata.
        """
        if self._head is not None or not _usable(value):
            self._harm = True
        if self._head is None or "role" not in value:
            self._head = value
            self._line = line if line.endswith(b"\n") else b""

    def base(self, size: int) -> Base:
        """Return what a file of `size` bytes held."""
        head = self._head or {}
        unfinished = head.pop(PENDING, None) is not None
        can_rewrite_in_place = not (self._harm or unfinished or self._other_lines or -1 in self._starts)
        return Base(
            None,
            self._starts,
            self._stops,
            size,
            prints_of(self.rows),
            head,
            self._line if can_rewrite_in_place else b"",
            self._harm,
            unfinished,
            self._later or "last_archived" in head,
        )


def _usable(head: Mapping[str, Any]) -> bool:
    """Return whether everything in a metadata line is kept when it is rewritten. An impossible offset is logged."""
    dates = [head.get(name) for name in _DATES]
    return isinstance(head.get("metadata", {}), (dict, type(None))) and all(not one or _date(one) for one in dates)


def _date(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def take_head(session: Session, head: Mapping[str, Any]) -> None:
    """Set what a metadata line says, as far as it can be used. What cannot be used is logged."""
    values = head.get("metadata")
    # A change of the session's metadata must not change what it is compared with later.
    session.metadata = deepcopy(values) if isinstance(values, dict) else {}
    for name in _DATES:
        found = _date(head.get(name))
        if found is not None:
            setattr(session, name, found)
        elif head.get(name):
            _log.warning("%s: %s is no date", session.key, name)
    stored = head.get("last_consolidated", 0)
    session.last_consolidated = offset_of(session.key, stored, len(session.messages))


def offset_of(key: str, stored: Any, count: int) -> int:
    """Return how many of `count` rows are consolidated. An impossible offset is logged and counts as 0."""
    offset = consolidated(stored, count)
    if offset != stored or type(stored) is bool:
        _log.warning("%s: last_consolidated is %r of %d messages; it counts as 0", key, stored, count)
    return offset


def others_in(head: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a metadata line that a session has no field for. They stay in its file."""
    return {name: value for name, value in head.items() if name not in _OWN}


def sweep(folder: Path) -> None:
    """Remove what killed processes left of saves.

    Nobody may be writing. A leftover that is all there is of a session stays.
    """
    for name in os.listdir(folder):
        found = _LEFT_BEHIND.fullmatch(name)
        if found and (folder / found["name"]).exists():
            (folder / name).unlink(missing_ok=True)


def same_file(path: Path, key: str) -> bool:
    """Return whether the file of another key is this one, as on a system that ignores case. Otherwise it is a copy.

    Both ways of naming files count, that of 0.2.0 and that of 0.3.
    """
    if path.stem in (safe_key(key), encoded(key)):
        return True
    with suppress(OSError, ValueError):
        return os.path.samefile(path, path.with_name(f"{safe_key(key)}.jsonl"))
    return False


def foreign(folder: Path, key: str, base: Base | None) -> str | None:
    """Return why a key's file, or its absence, is not for a manager of 0.2.0's files; None if it is."""
    name = f"{safe_key(key)}.jsonl"
    if base is None:
        later = f"{encoded(key)}.jsonl"
        there = later != name and os.path.exists(folder / later)
        return f"it stands in {later}, a file of nanobot 0.3; use that release for it" if there else None
    stored = base.head.get("key")
    if isinstance(stored, str) and stored not in ("", key) and same_file(folder / name, stored):
        return f"{name} holds the session {stored!r}, and both would share that file; use another key"
    return f"{name} was written by nanobot 0.3; use that release for it" if base.later else None


def merge(session: Session, base: Base | None, own: Own, rows: list[dict[str, Any]], now: Base) -> bool:
    """Return whether what others wrote could be merged into a session: rows added on both sides, or a change by one
    side.

    `base` is what the session was loaded from, None if it was built by hand: such a session may only replace rows that
    it begins with. `rows` and `now` are what the file holds now; `now` gets the session's own prints.
    """
    began, known = (base, len(base.prints)) if base else (nothing(), len(now.prints))
    created = [one.get("created_at") for one in (began.head, now.head)]
    if all(created) and created[0] != created[1]:
        # It was deleted, and this is another one.
        return False
    if base and now.prints == base.prints:
        # Our rows may be others by now. Then an offset of theirs would count rows that do not exist.
        if own.prints[:known] != base.prints and base.head.get("last_consolidated") != now.head.get(
            "last_consolidated"
        ):
            return False
    elif (not base or own.prints[:known] == base.prints) and same_rows(
        own.rows[:known], own.prints[:known], now.prints[:known]
    ):
        now.prints[:known] = own.prints[:known]
    elif base and own.prints[:known] != base.prints and same_rows(own.rows, own.prints, now.prints):
        known, now.prints = len(own.rows), own.prints[:]
    else:
        return False
    more = len(now.prints) > known
    if not merge_head(session, began.head, now.head, known, more):
        return False
    if more:
        session.messages[known:known] = rows[known:]
        own.prints = own.prints[:known] + now.prints[known:] + own.prints[known:]
    return True


def merge_head(session: Session, base: Mapping[str, Any], theirs: Mapping[str, Any], known: int, more: bool) -> bool:
    """Return whether others' changes of the metadata could be merged into the session. A change by only one side
    counts.

    `base` is the metadata that both began with. `more` says that others added rows, after the first `known`.
    """
    was, now, own = (_texts(one) for one in (base.get("metadata"), theirs.get("metadata"), session.metadata))
    offset, offset_was, offset_now = (
        session.last_consolidated,
        *(one.get("last_consolidated", 0) for one in (base, theirs)),
    )
    changed = [name for name in was | now if now.get(name) not in (was.get(name), own.get(name))]
    if any(own.get(name) != was.get(name) for name in changed) or (changed and not isinstance(session.metadata, dict)):
        return False
    if offset_now not in (offset_was, offset):
        if offset != offset_was:
            return False
        offset = offset_now
    elif more and offset != offset_now and consolidated(offset, known) != offset:
        # Their rows come before the rows that this counts.
        offset = known
    for name in changed:
        if name in now:
            session.metadata[name] = deepcopy(theirs["metadata"][name])
        else:
            del session.metadata[name]
    session.last_consolidated = offset
    updated, created = (_date(theirs.get(name)) for name in ("updated_at", "created_at"))
    if updated and updated.tzinfo == session.updated_at.tzinfo:
        session.updated_at = max(session.updated_at, updated)
    if created and "created_at" not in base:
        session.created_at = created
    return True


def _texts(values: Any) -> dict[str, str]:
    """Return values as text, for comparing: as values, 1 equals True."""
    if not isinstance(values, dict):
        return {}
    return {name: json.dumps(value, sort_keys=True) for name, value in values.items()}


def head_line(session: Session, base: Base | None) -> dict[str, Any]:
    """Return the metadata line of a session, in nanobot's order. Raises Unwritable."""
    # Checked by itself, so that an error names the place.
    line_of(session.metadata, "metadata")
    times = {}
    for name in ("created_at", "updated_at"):
        try:
            times[name] = getattr(session, name).isoformat()
        except AttributeError:
            raise Unwritable(f"{name} cannot be written: it is no datetime.") from None
    offset = offset_of(session.key, session.last_consolidated, len(session.messages))
    return {
        "_type": METADATA,
        "key": session.key,
        **times,
        "metadata": session.metadata,
        "last_consolidated": offset,
        **others_in(base.head if base else {}),
    }


def stands(path: Path, base: Base) -> bool:
    """Return whether a file is still what was last read or written of it."""
    with suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
        return base.stands(file)
    return False
