"""Repairs of one session file: from its bytes and the chosen fixes to its new bytes. Pure.

Only what a chosen fix concerns is changed. A sound message is copied byte for byte. The metadata line is written again
only if something in it changes, in its own order. Removed bytes are listed, so that they can be quarantined.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from sessionscope.store.io.spans import Fidelity
from sessionscope.store.model.findings import Change, Finding, cut
from sessionscope.store.nanobot.doctor.checks import DATES, Subject, check_file, is_date, repeated_tail_size
from sessionscope.store.nanobot.format.compaction_log import OFFSETS
from sessionscope.store.nanobot.format.file import Held
from sessionscope.store.nanobot.format.file_head import METADATA, metadata_of
from sessionscope.store.nanobot.format.names import Naming, decoded, guessed_key
from sessionscope.store.nanobot.read.byte_spans import Sort
from sessionscope.store.nanobot.read.context import offset_of
from sessionscope.store.nanobot.read.message_scan import (
    MARK,
    PENDING,
    Item,
    MessageScan,
    dumps,
    pair,
    readable,
    scan_messages,
)

MAX_ROUNDS = 8
"""How many times a repaired file is checked again for findings that only show after the repair."""
SHOWN_BYTES = 2_000
"""How many bytes of a piece are decoded for a change; its text is cut further."""
ChosenFixes = Mapping[tuple[str, int | None], str]
"""The fixes to apply: the choice, empty for the default fix, by a finding's code and the first byte of its place."""


class FixedFile(Struct, frozen=True):
    """The new content of a session file."""

    data: bytes
    removed_spans: tuple[tuple[int, int], ...]
    """The bytes of the old content that the new one lacks, as (start, stop)."""
    changes: tuple[Change, ...]


def fixes_of(chosen: Sequence[tuple[Finding, str]]) -> ChosenFixes:
    """Return the fixes for findings with the choices taken."""
    return {(finding.code, finding.spot.start): choice for finding, choice in chosen}


def follow_ups(subject: Subject, scanned: MessageScan, only: Sequence[str]) -> ChosenFixes:
    """Return the default fixes that a repaired file still needs, so that a second repair has nothing to do.

    `only` are the codes to consider; if empty, all are.
    """
    return {
        (finding.code, finding.spot.start): ""
        for finding in check_file(subject, scanned)
        if finding.fixable and (not only or finding.code in only)
    }


def apply_fixes(subject: Subject, data: bytes, fixes: ChosenFixes, mtime_ns: int) -> FixedFile:
    """Return a file with fixes applied. `mtime_ns` is when the file was written: it dates a session without dates."""
    return _FileFixer(subject, data, fixes, mtime_ns).fixed_file()


class _Line(Struct):
    """A line of the new file."""

    data: bytes
    is_part: bool = False
    """Whether this is an unchanged part of a line. It is ended only if no other part follows."""


class _FileFixer:
    """One repair of a file: goes over its items in order, and collects the lines of the new file."""

    def __init__(self, subject: Subject, data: bytes, fixes: ChosenFixes, mtime_ns: int) -> None:
        self.subject, self.data, self.fixes, self.mtime_ns = subject, data, fixes, mtime_ns
        self.scanned = scan_messages(Held(data))
        self.codes = {code for code, _ in fixes}
        self.repeated_starts = self._repeated_starts()
        self.orphan_starts = self._orphan_starts()
        self.consolidated = self._consolidated()
        """How many messages are consolidated, of those that the file had before it was damaged."""

        self.lines: list[_Line] = []
        """The lines of the new file, without the metadata line and the provider state that follows it."""
        self.state_lines: list[bytes] = []
        """The lines of provider state that go behind the metadata line; the last one is written."""
        self.head_index = 0
        """The index in `lines` at which the metadata line was."""
        self.messages = 0
        """How many messages nanobot loads of the new file."""
        self.messages_seen = 0
        """How many messages the old file had up to the present item, before it was damaged."""
        self.offset_shift = 0
        """By how much the number of consolidated messages grows."""
        self.removed_spans: list[tuple[int, int]] = []
        self.changes: list[Change] = []

    def _repeated_starts(self) -> set[int]:
        """Return where the messages of a repeated tail begin, if they are to be removed."""
        rows = self.scanned.rows
        size = repeated_tail_size(self.scanned)
        if not size or self._choice("duplicated-tail", rows[-size]) != "remove":
            return set()
        return {item.start for item in rows[-size:]}

    def _orphan_starts(self) -> set[int]:
        """Return where the tool results without a call begin."""
        rows = self.scanned.rows
        _, orphans = pair([item.row for item in rows if item.row is not None])
        return {rows[index].start for index in orphans}

    def _consolidated(self) -> int:
        metadata = metadata_of(self.scanned.values) if self.scanned.head is not None else None
        return offset_of(metadata, sum(item.was_message for item in self.scanned.items), self.subject.later).value

    def _choice(self, code: str, item: Item | None) -> str | None:
        """Return the choice taken for a finding, or None if it is not to be fixed."""
        return self.fixes.get((code, item.start if item is not None else None))

    def _fixes_damage(self, item: Item) -> bool:
        """Return whether an item is loaded by nanobot, or its damage is to be fixed."""
        if item.sort is not Sort.PART or self._choice(item.code, item) is not None:
            return True
        # One finding stands for all pieces of a UTF-16 file.
        return item.code == "utf-16" and "utf-16" in self.codes

    def fixed_file(self) -> FixedFile:
        for item in self.scanned.items:
            self._fix_item(item)
            self.messages_seen += int(item.was_message)
        head_line = self._head_line()
        data = b"".join([head_line, *self.state_lines[-1:], *self._ended_lines()])
        return FixedFile(data, tuple(self.removed_spans), tuple(self.changes))

    def _fix_item(self, item: Item) -> None:
        if item is self.scanned.head:
            self.head_index = len(self.lines)
        elif item.start in self.repeated_starts:
            self._remove(item, "a repeated message")
        elif item.sort is Sort.MESSAGE:
            self._fix_message(item)
        elif item.sort is Sort.STATE or (item.state and self._fixes_damage(item)):
            self._fix_state(item)
        elif item.sort is Sort.METADATA:
            self._fix_other_metadata(item)
        else:
            self._fix_part(item)

    def _ended_lines(self) -> list[bytes]:
        """Return the lines with line breaks, but none between two parts of one line."""
        ended = []
        for index, line in enumerate(self.lines):
            has_break = line.data.endswith((b"\n", b"\r"))
            part_follows = index + 1 < len(self.lines) and self.lines[index + 1].is_part
            ended.append(line.data if has_break or (line.is_part and part_follows) else line.data + b"\n")
        return ended

    # -- items

    def _bytes_of(self, item: Item) -> bytes:
        return self.data[item.start : item.stop]

    def _line_of(self, item: Item) -> bytes:
        """Return the bytes of an item, with a line break if the file ended without one."""
        data = self._bytes_of(item)
        return data if data.endswith((b"\n", b"\r")) else data + b"\n"

    def _add_message(self, line: bytes) -> None:
        self.lines.append(_Line(line))
        self.messages += 1

    def _add_change(self, item: Item, what: str, after: bytes | None) -> None:
        before = _text(self.data[item.start : min(item.stop, item.start + SHOWN_BYTES)])
        self.changes.append(Change(self.subject.spot(item), what, before, _text(after) if after is not None else None))

    def _remove(self, item: Item, what: str) -> None:
        self.removed_spans.append((item.start, item.stop))
        self._add_change(item, what, None)
        if item.was_message and self.messages_seen < self.consolidated:
            self.offset_shift -= 1

    def _replace(self, item: Item, line: bytes) -> None:
        """Write a message in place of an item."""
        self.removed_spans.append((item.start, item.stop))
        self._add_message(line)
        self._add_change(item, "a message", line)

    def _fix_state(self, item: Item) -> None:
        """Move provider state behind the metadata line, or leave it where it is if its place is not to be fixed."""
        if item.sort is Sort.STATE and self.lines and self._choice("state-misplaced", item) is None:
            self.lines.append(_Line(self._line_of(item)))
            return
        line = self._line_of(item) if item.sort is Sort.STATE else dumps(item.value)
        is_second = bool(self.state_lines)
        if is_second:
            self.removed_spans.append((item.start, item.stop))
        self.state_lines.append(line)
        if self.lines or is_second:
            self._add_change(item, "provider state", line)

    def _fix_part(self, item: Item) -> None:
        """Make a message of a piece that nanobot does not load, or remove it if it is not enough for a message."""
        if not self._fixes_damage(item):
            self.lines.append(_Line(self._bytes_of(item), is_part=True))
        elif not item.message or item.value is None:
            self._remove(item, "damage")
        elif item.claims_metadata:
            self._replace(item, dumps(_as_message(item.value, item.fidelity, _damage_of(item))))
        elif item.fidelity is Fidelity.EXACT:
            self._add_whole_message(item, item.value)
        else:
            self._replace(item, dumps(_marked(readable(item.value), item.fidelity, _damage_of(item))))

    def _add_whole_message(self, item: Item, value: Mapping[str, Any]) -> None:
        """Write a message that shares its line with damage as a line of its own, byte for byte if possible."""
        raw = self._bytes_of(item).strip()
        line = raw + b"\n" if _is_valid_line(raw, value) else dumps(value)
        self._add_message(line)
        if line.strip() != raw:
            self.removed_spans.append((item.start, item.stop))
        self._add_change(item, "a message", line)

    def _fix_other_metadata(self, item: Item) -> None:
        """Fix a metadata line that is not the one that counts, or a message that calls itself metadata."""
        if item.claims_metadata and self._choice("message-as-metadata", item) is not None and item.value is not None:
            self._replace(item, dumps(_as_message(item.value, Fidelity.LOSSY, "it called itself metadata")))
        elif not item.claims_metadata and self._choice("metadata-duplicated", item) is not None:
            self._remove(item, "a metadata line")
        else:
            self.lines.append(_Line(self._line_of(item)))

    def _fix_message(self, item: Item) -> None:
        role = self._choice("no-role", item)
        if role == "quarantine":
            self._remove(item, "a message")
            return
        if item.start in self.orphan_starts and self._choice("orphan-result", item) == "insert-call":
            self._insert_call(item)
        sets_role = role in ("user", "assistant")
        drops_calls = self._choice("bad-tool-calls", item) is not None
        replaces_surrogates = self._choice("lone-surrogate", item) is not None
        if not (sets_role or drops_calls or replaces_surrogates):
            self._add_message(self._line_of(item))
            return
        value = json.loads(self._bytes_of(item).decode().strip())
        if sets_role:
            value = {"role": role, **value}
        if drops_calls:
            value.pop("tool_calls", None)
        if replaces_surrogates:
            value = _marked(readable(value), Fidelity.LOSSY, "half of a surrogate pair")
        self._replace(item, dumps(value))

    def _insert_call(self, result: Item) -> None:
        """Write an assistant's message with the call that a tool result answers."""
        row = result.row
        if row is None:
            return
        call = {"id": row.answers, "type": "function", "function": {"name": row.name or "unknown", "arguments": "{}"}}
        message = {"role": "assistant", "content": "", "tool_calls": [call]}
        if is_date(row.timestamp):
            message["timestamp"] = row.timestamp
        line = dumps(message)
        self._add_message(line)
        self.changes.append(Change(self.subject.spot(result), "a message", None, _text(line)))
        if self.messages_seen < self.consolidated:
            self.offset_shift += 1

    # -- metadata

    def _head_line(self) -> bytes:
        """Return the metadata line; b"" if there is none, or if it stays behind other lines and was inserted there."""
        head = self.scanned.head
        if head is None:
            if self._choice("metadata-missing", None) is None:
                return b""
            line = dumps(self._completed({}))
            self.changes.append(Change(self.subject.spot(), "the metadata line", None, _text(line)))
            return line
        if not self._fixes_damage(head):
            self.lines.insert(self.head_index, _Line(self._bytes_of(head), is_part=True))
            return b""
        becomes_first = head.sort is Sort.PART or bool({"metadata-misplaced", "metadata-duplicated"} & self.codes)
        line = self._fixed_head_line(head, becomes_first)
        if becomes_first or not self.head_index:
            return line
        self.lines.insert(self.head_index, _Line(line))
        return b""

    def _fixed_head_line(self, head: Item, becomes_first: bool) -> bytes:
        values = self._fixed_values(dict(self.scanned.values))
        if head.sort is Sort.METADATA and values == self.scanned.values:
            line = self._line_of(head)
            if becomes_first and (self.scanned.items[0] is not head or self.scanned.blank_before):
                self._add_change(head, "the metadata line, to the first line", line)
            return line
        line = dumps(values)
        if line.strip() != self._bytes_of(head).strip():
            self.removed_spans.append((head.start, head.stop))
        self._add_change(head, "the metadata line", line)
        return line

    def _fixed_values(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the members of the metadata line with the chosen fixes applied."""
        head, subject = self.scanned.head, self.subject
        if head is not None and head.fidelity is not Fidelity.EXACT:
            values = self._completed(readable(values))
        if self._choice("metadata-not-an-object", head) is not None:
            values["metadata"] = {}
        if self._choice("bad-date", head) is not None:
            values |= {name: date for name, date in self._dates().items() if not is_date(values.get(name))}
        if self._choice("bad-key", head) is not None:
            values.pop("key")
        if self._choice("key-disagrees", head) == "take-name":
            values["key"] = decoded(subject.stem) if subject.naming is Naming.BASE64 else guessed_key(subject.stem)
        if self._choice("save-unfinished", head) is not None:
            values.pop(PENDING, None)
        self._fix_offsets(values)
        return values

    def _fix_offsets(self, values: dict[str, Any]) -> None:
        """Set bad offsets to 0, if that is chosen. Adjust others to the messages removed or inserted before them."""
        resets = self._choice("bad-offset", self.scanned.head) is not None
        for name in OFFSETS:
            stored = values.get(name)
            if name not in values or (stored is None and not resets):
                continue
            if resets and (type(stored) is not int or not 0 <= stored <= self.messages):
                values[name] = 0
            elif type(stored) is int and stored > 0:
                values[name] = min(max(0, stored + self.offset_shift), self.messages)

    def _completed(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return a metadata line with its missing members, in the order of the release that wrote the file."""
        completed: dict[str, Any] = {"_type": METADATA}
        key = values.get("key")
        if not (isinstance(key, str) and key) and self.subject.naming is Naming.BASE64:
            key = decoded(self.subject.stem)
        if isinstance(key, str) and key:
            completed["key"] = key
        for name, date in self._dates().items():
            completed[name] = values[name] if is_date(values.get(name)) else date
        stored = values.get("metadata")
        completed["metadata"] = stored if isinstance(stored, dict) else {}
        for name in ("last_archived", "last_consolidated") if self.subject.later else ("last_consolidated",):
            completed[name] = values.get(name, 0)
        return completed | {name: value for name, value in values.items() if name not in completed}

    def _dates(self) -> dict[str, str]:
        """Return when the session was created and updated: by its messages, else its metadata, else its file."""
        values = self.scanned.values
        times = [item.row.timestamp for item in self.scanned.rows if item.row and is_date(item.row.timestamp)]
        if not times:
            times = [values[name] for name in DATES if is_date(values.get(name))]
        if not times:
            # nanobot writes local times without a zone.
            modified = datetime.fromtimestamp(self.mtime_ns // 1_000_000_000, UTC).astimezone()
            times = [modified.replace(tzinfo=None).isoformat()]
        return dict(zip(DATES, (times[0], times[-1]), strict=True))


def _is_valid_line(raw: bytes, value: Any) -> bool:
    """Return whether bytes are one line from which nanobot reads `value`."""
    if b"\n" in raw or b"\r" in raw or b"\0" in raw:
        return False
    try:
        return bool(json.loads(raw.decode()) == value)
    except (ValueError, RecursionError):
        return False


def _damage_of(item: Item) -> str:
    return "; ".join(map(str, item.troubles)) or "no JSON"


def _marked(value: Mapping[str, Any], fidelity: Fidelity, damage: str) -> dict[str, Any]:
    """Return a message with the mark of one that could be saved only in part."""
    return {**value, MARK: {"fidelity": str(fidelity), "damage": damage}}


def _as_message(value: Mapping[str, Any], fidelity: Fidelity, damage: str) -> dict[str, Any]:
    """Return a message that called itself metadata, without that and marked."""
    members = {name: member for name, member in value.items() if name != "_type"}
    return _marked(members, Fidelity.LOSSY if fidelity is Fidelity.EXACT else fidelity, damage)


def _text(data: bytes) -> str:
    return cut(data.decode("utf-8", "backslashreplace").rstrip("\r\n"))
