"""Reads of a session file into the rows of a `Session`, checks of whose file it is, and merges of two writers' work."""

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
from .writing import PAGE, PENDING, SAVE, Base, Snapshot, empty_base, row_hashes, same_rows

Row = dict[str, Any]
READ_TRIES = 5
"""How often a file is read without the lock, if others write to it meanwhile."""
_DATES = ("created_at", "updated_at")
_OWN_MEMBERS = {"_type", "key", *_DATES, "metadata", "last_consolidated", SAVE, PENDING}
"""The members of a metadata line that a session or a save sets."""
_TEMPORARY = re.compile(r"\.(?P<name>.+\.jsonl)\.[0-9a-f]{16}\.tmp")
_LOSSLESS_TROUBLES = {Trouble.SURROGATE}
"""The damage after which a row still holds all of its bytes."""
_decode_lines = msgspec.json.Decoder().decode_lines
_log = logging.getLogger(__name__)


# -- reading a file


def read_unchanged(path: Path) -> tuple[bytes, Stat] | None:
    """Return the bytes of a file and its stat, if nothing was written while it was read.

    None if something was written in each of `READ_TRIES` tries. Raises OSError.
    """
    for _ in range(READ_TRIES):
        with open(path, "rb") as file:
            before = stat_of(os.fstat(file.fileno()))
            data = file.read()
            file.seek(0)
            first_page = file.read(PAGE)
            # A save changes the first line before it appends rows, and again when it is done.
            if stat_of(os.fstat(file.fileno())) == before and len(data) == before.size and data[:PAGE] == first_page:
                return data, before
    return None


def read_rows(data: bytes) -> tuple[list[Row], Base]:
    """Return the usable rows of a file, and where they are. The caller sets `stat`."""
    return _read_clean(data) or _SpanReader(data).read()


def _read_clean(data: bytes) -> tuple[list[Row], Base] | None:
    """Return the rows of a file that is as a save leaves it, or None if it may not be."""
    lines = data.splitlines(True)
    try:
        head, *rows = _decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    # An object has a comma between its members. So if there are as many lines as objects, and each line begins and ends
    # with a brace, then each line is one object.
    has_one_object_per_line = (
        len(lines) == len(rows) + 1
        and data.endswith(b"\n")
        and b"\r" not in data
        and all(line.startswith(b"{") for line in lines)
        and all(line.rstrip().endswith(b"}") for line in lines)
    )
    if not has_one_object_per_line or not all(type(row) is dict and "_type" not in row for row in rows):
        return None
    if type(head) is not dict or head.get("_type") != METADATA or PENDING in head or not _is_usable(head):
        return None
    stops = array("q", accumulate(map(len, lines)))
    later = "last_archived" in head
    return rows, Base(None, stops[:-1], stops[1:], len(data), row_hashes(rows), head, lines[0], later=later)


class _SpanReader:
    """A read of a file that is not as a save leaves it: span by span, leaving out what cannot be used."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.rows: list[Row] = []
        self.starts = array("q")
        """The first byte of each row, or -1 if it is no sound line of its own."""
        self.stops = array("q")
        self.head: Row | None = None
        """The metadata that counts."""
        self.head_line = b""
        """Its line, or empty if it is not the first line of the file or is damaged."""
        self.pending_from: int | None = None
        """The first byte of a save that never ended, or is still under way."""
        self.incomplete = False
        self.later = False
        self.has_other_lines = False
        """Whether there are blank lines or provider state, which no session holds."""

    def read(self) -> tuple[list[Row], Base]:
        for span in scan(self.data):
            self._read_span(span)
        head = self.head or {}
        unfinished = head.pop(PENDING, None) is not None
        can_be_overwritten = not (self.incomplete or unfinished or self.has_other_lines or -1 in self.starts)
        return self.rows, Base(
            None,
            self.starts,
            self.stops,
            len(self.data),
            row_hashes(self.rows),
            head,
            self.head_line if can_be_overwritten else b"",
            self.incomplete,
            unfinished,
            self.later or "last_archived" in head,
        )

    def _read_span(self, span: Span) -> None:
        if span.kind is SpanKind.BLANK:
            self.has_other_lines = True
            return
        value = span.value
        is_unfinished = self.pending_from is not None and span.start >= self.pending_from
        if value is None or is_unfinished:
            self.incomplete = True
            return
        damaged = span.fidelity is not Fidelity.EXACT or not _LOSSLESS_TROUBLES.issuperset(span.troubles)
        if damaged:
            self.incomplete = True
        if value.get("_type") == METADATA:
            self._read_metadata(span, value, damaged)
        elif value.get("_type") == PROVIDER_STATE:
            self.later = True
            self.has_other_lines = True
        else:
            self._read_row(span, value, damaged)

    def _read_metadata(self, span: Span, value: Row, damaged: bool) -> None:
        if self.head is not None or not _is_usable(value):
            self.incomplete = True
        # A message may call itself metadata. Of several metadata lines the last one counts, as in every release of
        # nanobot.
        if self.head is not None and "role" in value:
            return
        self.head = value
        pending_from = value.get(PENDING)
        self.pending_from = pending_from if type(pending_from) is int else None
        line = self.data[span.start : span.stop]
        self.head_line = line if span.start == 0 and not damaged and line.endswith(b"\n") else b""

    def _read_row(self, span: Span, value: Row, damaged: bool) -> None:
        line = self.data[span.start : span.stop]
        is_own_line = not damaged and line.count(b"\n") == 1 and line.endswith(b"\n") and b"\r" not in line
        self.rows.append(value)
        self.starts.append(span.start if is_own_line else -1)
        self.stops.append(span.stop)


# -- the metadata line


def _is_usable(head: Mapping[str, Any]) -> bool:
    """Return whether a session can hold what a metadata line says. Its offset does not count: a bad one is reported."""
    dates = [head.get(name) for name in _DATES]
    return isinstance(head.get("metadata", {}), (dict, type(None))) and all(not date or _date(date) for date in dates)


def _date(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def take_head(session: Session, head: Mapping[str, Any]) -> None:
    """Set the fields of a session from a metadata line. Values that it cannot hold are logged."""
    metadata = head.get("metadata")
    # A copy: the session is compared with `head` later.
    session.metadata = deepcopy(metadata) if isinstance(metadata, dict) else {}
    for name in _DATES:
        date = _date(head.get(name))
        if date is not None:
            setattr(session, name, date)
        elif head.get(name):
            _log.warning("%s: %s is no date", session.key, name)
    stored = head.get("last_consolidated", 0)
    session.last_consolidated = valid_offset(session.key, stored, len(session.messages))


def valid_offset(key: str, stored: Any, count: int) -> int:
    """Return how many of `count` rows are consolidated. A value that is not valid is logged, and counts as 0."""
    offset = consolidated(stored, count)
    if offset != stored or type(stored) is bool:
        _log.warning("%s: last_consolidated is %r of %d messages; it counts as 0", key, stored, count)
    return offset


def head_of(session: Session, base: Base | None) -> dict[str, Any]:
    """Return the members of a session's metadata line, in nanobot's order. Raises Unwritable.

    Members that the file had and no session holds are kept.
    """
    # It is checked alone, so that an error names the path in `metadata`.
    line_of(session.metadata, "metadata")
    times = {}
    for name in _DATES:
        try:
            times[name] = getattr(session, name).isoformat()
        except AttributeError:
            raise Unwritable(f"{name} cannot be written: it is no datetime.") from None
    stored_head = base.head if base is not None else {}
    return {
        "_type": METADATA,
        "key": session.key,
        **times,
        "metadata": session.metadata,
        "last_consolidated": valid_offset(session.key, session.last_consolidated, len(session.messages)),
        **{name: value for name, value in stored_head.items() if name not in _OWN_MEMBERS},
    }


# -- whose file it is


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed saves. The caller holds the lock.

    A temporary file whose session file does not exist is kept: it is all that there is of that session.
    """
    for name in os.listdir(folder):
        temporary = _TEMPORARY.fullmatch(name)
        if temporary and (folder / temporary["name"]).exists():
            (folder / name).unlink(missing_ok=True)


def same_file(path: Path, key: str) -> bool:
    """Return whether a file is that of a key in the naming of 0.2.0 or of 0.3. If not, it is a copy.

    Names may also lead to the same file because the file system ignores case.
    """
    if path.stem in (safe_key(key), encoded(key)):
        return True
    with suppress(OSError, ValueError):
        return os.path.samefile(path, path.with_name(f"{safe_key(key)}.jsonl"))
    return False


def reason_against_file(folder: Path, key: str, base: Base | None) -> str | None:
    """Return why nanobot 0.2.0's manager must not use a key's file, or None if it may.

    `base` is None if the file does not exist. Then the session may be in a file of a later release.
    """
    name = f"{safe_key(key)}.jsonl"
    if base is None:
        later_name = f"{encoded(key)}.jsonl"
        if later_name == name or not os.path.exists(folder / later_name):
            return None
        return f"it stands in {later_name}, a file of nanobot 0.3; use that release for it"
    stored_key = base.head.get("key")
    if isinstance(stored_key, str) and stored_key not in ("", key) and same_file(folder / name, stored_key):
        return f"{name} holds the session {stored_key!r}, and both would share that file; use another key"
    return f"{name} was written by nanobot 0.3; use that release for it" if base.later else None


def is_unchanged(path: Path, base: Base) -> bool:
    """Return whether a file is certainly as it was when it was last read or written."""
    with suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
        return base.matches(file)
    return False


# -- merging


def merge(session: Session, base: Base | None, own: Snapshot, rows: list[Row], now: Base) -> bool:
    """Take what others wrote into a session. Return False, with nothing taken, if both sides changed the same.

    Rows that both sides added are kept, those of others first. `base` is what the session was made of, None if it was
    built by hand; then it may only replace a file whose rows it begins with. `rows` and `now` are what the file holds
    now. `now` gets the session's own hashes.
    """
    began = base if base is not None else empty_base()
    created_then, created_now = began.head.get("created_at"), now.head.get("created_at")
    if created_then and created_now and created_then != created_now:
        # The session was deleted, and this is a new one.
        return False
    known = _known_rows(base, own, now)
    if known is None:
        return False
    others_added = len(now.hashes) > known
    if not _merge_head(session, began.head, now.head, known, others_added):
        return False
    if others_added:
        session.messages[known:known] = rows[known:]
        own.hashes = own.hashes[:known] + now.hashes[known:] + own.hashes[known:]
    return True


def _known_rows(base: Base | None, own: Snapshot, now: Base) -> int | None:
    """Return how many of the file's rows the session has already, or None if both sides changed rows.

    A row that the session holds in another form than the file gets the session's hash in `now`.
    """
    known = len(base.hashes) if base is not None else len(now.hashes)
    own_rows_changed = base is not None and own.hashes[:known] != base.hashes
    if base is not None and now.hashes == base.hashes:
        # An offset that others moved counts rows which the session may not have any longer.
        their_offset_moved = base.head.get("last_consolidated") != now.head.get("last_consolidated")
        return None if own_rows_changed and their_offset_moved else known
    if not own_rows_changed:
        if not same_rows(own.rows[:known], own.hashes[:known], now.hashes[:known]):
            return None
        now.hashes[:known] = own.hashes[:known]
        return known
    # Both sides changed rows, which is no conflict if the results are the same.
    if not same_rows(own.rows, own.hashes, now.hashes):
        return None
    now.hashes = own.hashes[:]
    return len(own.rows)


def _merge_head(
    session: Session, base_head: Mapping[str, Any], their_head: Mapping[str, Any], known: int, others_added: bool
) -> bool:
    """Take what others changed in the metadata line into a session. Return False if both sides changed the same member.

    `base_head` is what both began with. `others_added` says that others added rows after the first `known`.
    """
    base_texts = _comparable(base_head.get("metadata"))
    their_texts = _comparable(their_head.get("metadata"))
    own_texts = _comparable(session.metadata)
    changed = [
        name
        for name in base_texts | their_texts
        if their_texts.get(name) not in (base_texts.get(name), own_texts.get(name))
    ]
    if any(own_texts.get(name) != base_texts.get(name) for name in changed):
        return False
    if changed and not isinstance(session.metadata, dict):
        return False
    base_offset, their_offset = base_head.get("last_consolidated", 0), their_head.get("last_consolidated", 0)
    offset = session.last_consolidated
    if their_offset not in (base_offset, offset):
        if offset != base_offset:
            return False
        offset = their_offset
    elif others_added and offset != their_offset and consolidated(offset, known) != offset:
        # The rows of others come before some of the rows that this offset counts.
        offset = known
    for name in changed:
        if name in their_texts:
            session.metadata[name] = deepcopy(their_head["metadata"][name])
        else:
            del session.metadata[name]
    session.last_consolidated = offset
    updated_at, created_at = _date(their_head.get("updated_at")), _date(their_head.get("created_at"))
    if updated_at and updated_at.tzinfo == session.updated_at.tzinfo:
        session.updated_at = max(session.updated_at, updated_at)
    if created_at and "created_at" not in base_head:
        session.created_at = created_at
    return True


def _comparable(values: Any) -> dict[str, str]:
    """Return the members of an object as JSON texts, which tell 1 from True."""
    if not isinstance(values, dict):
        return {}
    return {name: json.dumps(value, sort_keys=True) for name, value in values.items()}
