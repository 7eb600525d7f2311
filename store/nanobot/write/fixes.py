"""A session's file put right: rows that are sound are copied as bytes, and whatever is taken out is named. Pure.

It is given the findings that are wanted and mends just these. The metadata line is written anew only where something of
it changes, in its own order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from sessionscope.store.io.jsonlines import Fidelity
from sessionscope.store.model.findings import Change, Finding, cut
from sessionscope.store.nanobot.doctor.checks import DATES, Subject, check_file, is_date, repeated_tail_size
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

ROUNDS = 8
Wanted = Mapping[tuple[str, int | None], str]
"""The choice taken, empty for a safe fix, by the code of a finding and the byte at which its place begins."""


class FixedFile(Struct, frozen=True):
    """A file as it will be, the parts of the old one that it lacks, as (start, stop), and the changes as a diff."""

    data: bytes
    out: tuple[tuple[int, int], ...]
    changes: tuple[Change, ...]


def wanted_of(taken: Sequence[tuple[Finding, str]]) -> Wanted:
    """Findings that are to be mended, as `mend` takes them."""
    return {(one.code, one.place.start): choice for one, choice in taken}


def follow_ups(subject: Subject, scanned: MessageScan, only: Sequence[str]) -> Wanted:
    """What is fixable in a file that was mended once, so that nothing is left for a second repair."""
    return {
        (one.code, one.place.start): ""
        for one in check_file(subject, scanned)
        if one.fixable and (not only or one.code in only)
    }


def apply_fixes(subject: Subject, data: bytes, wanted: Wanted, mtime_ns: int) -> FixedFile:
    """A file with what is wanted put right. `mtime_ns` dates what nothing else does."""
    return _Fixing(subject, data, wanted, mtime_ns).done()


class _Fixing:
    def __init__(self, subject: Subject, data: bytes, wanted: Wanted, mtime_ns: int) -> None:
        self.subject, self.data, self.wanted, self.mtime_ns = subject, data, wanted, mtime_ns
        self.scanned = scan_messages(Held(data))
        self.codes = {code for code, _ in wanted}
        self.lines: list[tuple[bytes, bool]] = []
        """What the file will hold behind the metadata line, and of each whether it is copied from within a line."""
        self.count = self.head_at = 0
        self.out: list[tuple[int, int]] = []
        self.changes: list[Change] = []
        self.before = self.taken = self.put_in = 0
        self.boundary = self._boundary()

    def _boundary(self) -> int:
        """How many rows count as consolidated, of those that the file once had."""
        scanned = self.scanned
        metadata = metadata_of(scanned.values) if scanned.head is not None else None
        return offset_of(metadata, sum(item.once_a_row for item in scanned.items), self.subject.later).value

    def _choice(self, code: str, item: Item | None) -> str | None:
        """The choice taken for a finding, None where it is not wanted."""
        return self.wanted.get((code, item.start if item is not None else None))

    def done(self) -> FixedFile:
        scanned = self.scanned
        tail = repeated_tail_size(scanned)
        rows = scanned.rows
        doubled = (
            set(map(id, rows[-tail:])) if tail and self._choice("duplicated-tail", rows[-tail]) == "remove" else set()
        )
        orphans = {id(rows[at]) for at in pair([item.row for item in rows if item.row is not None])[1]}
        state: list[bytes] = []
        for item in scanned.items:
            once = item.once_a_row
            if item is scanned.head:
                self.head_at = len(self.lines)
            elif id(item) in doubled:
                self._take_out(item, "a repeated message")
            elif item.sort is Sort.MESSAGE:
                self._message(item, id(item) in orphans)
            elif item.sort is Sort.STATE or (item.state and self._fixes(item)):
                self._state(item, state)
            elif item.sort is Sort.METADATA:
                self._other_metadata(item)
            else:
                self._part(item)
            self.before += once
        head = self._head()
        data = b"".join([head, *state[-1:], *self._joined()])
        return FixedFile(data, tuple(self.out), tuple(self.changes))

    def _joined(self) -> list[bytes]:
        """The lines, each ended but where the next piece of the same one follows."""
        follows = [*(part for _, part in self.lines), False][1:]
        return [
            data if data.endswith((b"\n", b"\r")) or (part and more) else data + b"\n"
            for (data, part), more in zip(self.lines, follows, strict=True)
        ]

    def _line(self, data: bytes) -> None:
        """A message that nanobot will load."""
        self.lines.append((data, False))
        self.count += 1

    # -- pieces

    def _bytes(self, item: Item) -> bytes:
        """A line as it stands, ended where the file ended before that was done."""
        data = self.data[item.start : item.stop]
        return data if data.endswith((b"\n", b"\r")) else data + b"\n"

    def _state(self, item: Item, kept: list[bytes]) -> None:
        """What the provider keeps: behind the metadata line, or where it stands if that is not to be changed."""
        if item.sort is Sort.STATE and self.lines and self._choice("state-misplaced", item) is None:
            self.lines.append((self._bytes(item), False))
            return
        if kept:
            self.out.append((item.start, item.stop))
        kept.append(self._bytes(item) if item.sort is Sort.STATE else dumps(item.value))
        if self.lines or kept[1:]:
            self.changes.append(Change(self.subject.spot(item), "provider state", self._shown(item), _text(kept[-1])))

    def _fixes(self, item: Item) -> bool:
        return (
            item.sort is not Sort.PART
            or self._choice(item.code, item) is not None
            or (item.code == "utf-16" and "utf-16" in self.codes)
        )

    def _take_out(self, item: Item, what: str) -> None:
        self.out.append((item.start, item.stop))
        self.changes.append(Change(self.subject.spot(item), what, self._shown(item), None))
        if item.once_a_row and self.before < self.boundary:
            self.taken += 1

    def _rewritten(self, item: Item, line: bytes, what: str) -> None:
        self.out.append((item.start, item.stop))
        self._line(line)
        self.changes.append(Change(self.subject.spot(item), what, self._shown(item), _text(line)))

    def _shown(self, item: Item) -> str:
        return _text(self.data[item.start : min(item.stop, item.start + 2_000)])

    def _part(self, item: Item) -> None:
        """What nanobot does not load: as much of it as makes a message becomes one, the rest is taken out."""
        if not self._fixes(item):
            self.lines.append((self.data[item.start : item.stop], True))
        elif not item.message or item.value is None:
            self._take_out(item, "damage")
        elif item.poses:
            self._rewritten(item, dumps(_a_message(item.value, item.fidelity, _why(item))), "a message")
        elif item.fidelity is Fidelity.EXACT:
            raw = self.data[item.start : item.stop].strip()
            line = raw + b"\n" if _plain(raw, item.value) else dumps(item.value)
            self._line(line)
            if line.strip() != raw:
                self.out.append((item.start, item.stop))
            self.changes.append(Change(self.subject.spot(item), "a message", self._shown(item), _text(line)))
        else:
            self._rewritten(item, dumps(_marked(readable(item.value), item.fidelity, _why(item))), "a message")

    def _other_metadata(self, item: Item) -> None:
        """A metadata line that is not the one that counts."""
        if item.poses and self._choice("message-as-metadata", item) is not None and item.value is not None:
            self._rewritten(
                item, dumps(_a_message(item.value, Fidelity.LOSSY, "it called itself metadata")), "a message"
            )
        elif not item.poses and self._choice("metadata-duplicated", item) is not None:
            self._take_out(item, "a metadata line")
        else:
            self.lines.append((self._bytes(item), False))

    def _message(self, item: Item, orphan: bool) -> None:
        if (role := self._choice("no-role", item)) == "quarantine":
            self._take_out(item, "a message")
            return
        if orphan and self._choice("orphan-result", item) == "insert-call" and item.row is not None:
            self._insert_call(item)
        fixes = [
            role in ("user", "assistant"),
            self._choice("bad-tool-calls", item) is not None,
            self._choice("lone-surrogate", item) is not None,
        ]
        if not any(fixes):
            self._line(self._bytes(item))
            return
        value = json.loads(self.data[item.start : item.stop].decode().strip())
        if fixes[0]:
            value = {"role": role, **value}
        if fixes[1]:
            value.pop("tool_calls", None)
        if fixes[2]:
            value = _marked(readable(value), Fidelity.LOSSY, "half of a surrogate pair")
        self._rewritten(item, dumps(value), "a message")

    def _insert_call(self, item: Item) -> None:
        row = item.row
        if row is None:
            return
        call = {"id": row.answers, "type": "function", "function": {"name": row.name or "unknown", "arguments": "{}"}}
        value = {"role": "assistant", "content": "", "tool_calls": [call]}
        line = dumps(value | ({"timestamp": row.timestamp} if is_date(row.timestamp) else {}))
        self._line(line)
        self.changes.append(Change(self.subject.spot(item), "a message", None, _text(line)))
        if self.before < self.boundary:
            self.put_in += 1

    # -- metadata

    def _head(self) -> bytes:
        """The metadata line, written anew only where it changes; empty where there is none and none is wanted."""
        scanned, head = self.scanned, self.scanned.head
        if head is None:
            if self._choice("metadata-missing", None) is None:
                return b""
            line = dumps(self._completed({}))
            self.changes.append(Change(self.subject.spot(), "the metadata line", None, _text(line)))
            return line
        moves = head.sort is Sort.PART or bool({"metadata-misplaced", "metadata-duplicated"} & self.codes)
        if head.sort is Sort.PART and not self._fixes(head):
            self.lines.insert(self.head_at, (self.data[head.start : head.stop], True))
            return b""
        values = self._values(dict(scanned.values))
        if head.sort is Sort.METADATA and values == scanned.values:
            line = self._bytes(head)
            if moves and (scanned.items[0] is not head or scanned.blank_before):
                self.changes.append(
                    Change(
                        self.subject.spot(head), "the metadata line, to the first line", self._shown(head), _text(line)
                    )
                )
            return self._placed(line, moves)
        line = dumps(values)
        if line.strip() != self.data[head.start : head.stop].strip():
            self.out.append((head.start, head.stop))
        self.changes.append(Change(self.subject.spot(head), "the metadata line", self._shown(head), _text(line)))
        return self._placed(line, moves)

    def _placed(self, line: bytes, moves: bool) -> bytes:
        """The line, if it becomes the first one; else it stays where it is."""
        if moves or not self.head_at:
            return line
        self.lines.insert(self.head_at, (line, False))
        return b""

    def _values(self, values: dict[str, Any]) -> dict[str, Any]:
        """The metadata line's values with what is wanted of them put right."""
        head = self.scanned.head
        if head is not None and head.fidelity is not Fidelity.EXACT:
            values = self._completed(readable(values))
        if self._choice("metadata-not-an-object", head) is not None:
            values["metadata"] = {}
        if self._choice("bad-date", head) is not None:
            values |= {name: date for name, date in self._dates().items() if not is_date(values.get(name))}
        if self._choice("bad-key", head) is not None:
            values.pop("key")
        if self._choice("key-disagrees", head) == "take-name":
            values["key"] = (
                decoded(self.subject.stem) if self.subject.naming is Naming.BASE64 else guessed_key(self.subject.stem)
            )
        values.pop(PENDING, None) if self._choice("save-unfinished", head) is not None else None
        return self._offsets(values)

    def _offsets(self, values: dict[str, Any]) -> dict[str, Any]:
        """Offsets count other rows where some before them were taken out or put in."""
        bad = self._choice("bad-offset", self.scanned.head) is not None
        for name in ("last_consolidated", "last_archived"):
            stored = values.get(name)
            if name not in values or (stored is None and not bad):
                continue
            if bad and (type(stored) is not int or not 0 <= stored <= self.count):
                values[name] = 0
            elif type(stored) is int and stored > 0 and (self.taken or self.put_in or stored > self.count):
                values[name] = min(max(0, stored - self.taken + self.put_in), self.count)
        return values

    def _completed(self, values: dict[str, Any]) -> dict[str, Any]:
        """A metadata line of which some is missing, in the release's own order."""
        found: dict[str, Any] = {"_type": METADATA}
        key = values.get("key")
        if not (isinstance(key, str) and key) and self.subject.naming is Naming.BASE64:
            key = decoded(self.subject.stem)
        found |= {"key": key} if isinstance(key, str) and key else {}
        found |= {name: values[name] if is_date(values.get(name)) else date for name, date in self._dates().items()}
        stored = values.get("metadata")
        found["metadata"] = stored if isinstance(stored, dict) else {}
        for name in ("last_archived", "last_consolidated") if self.subject.later else ("last_consolidated",):
            found[name] = values.get(name, 0)
        return found | {name: value for name, value in values.items() if name not in found}

    def _dates(self) -> dict[str, str]:
        """When the session began and ended, by its metadata, its messages, or its file."""
        values = self.scanned.values
        stamps = [item.row.timestamp for item in self.scanned.rows if item.row and is_date(item.row.timestamp)]
        stamps = stamps or [values[name] for name in DATES if is_date(values.get(name))]
        file = datetime.fromtimestamp(self.mtime_ns // 1_000_000_000, UTC).astimezone().replace(tzinfo=None).isoformat()
        return dict(zip(DATES, (stamps[0], stamps[-1]) if stamps else (file, file), strict=True))


def _plain(raw: bytes, value: Any) -> bool:
    """Whether bytes can stand as a line of their own, as nanobot reads them."""
    if b"\n" in raw or b"\r" in raw or b"\0" in raw:
        return False
    try:
        return bool(json.loads(raw.decode()) == value)
    except (ValueError, RecursionError):
        return False


def _why(item: Item) -> str:
    return "; ".join(map(str, item.troubles)) or "no JSON"


def _marked(value: Mapping[str, Any], fidelity: Fidelity, why: str) -> dict[str, Any]:
    return {**value, MARK: {"fidelity": str(fidelity), "damage": why}}


def _a_message(value: Mapping[str, Any], fidelity: Fidelity, why: str) -> dict[str, Any]:
    """What called itself metadata, as the message that it is."""
    return _marked(
        {name: inner for name, inner in value.items() if name != "_type"},
        Fidelity.LOSSY if fidelity is Fidelity.EXACT else fidelity,
        why,
    )


def _text(data: bytes) -> str:
    return cut(data.decode("utf-8", "backslashreplace").rstrip("\r\n"))
