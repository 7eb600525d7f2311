"""The checks of one session file. Pure. The repairs are in `write/fixes.py`.

Severity follows nanobot: an error is what it loses, hides, or fails a turn for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct

from sessionscope.store.io.spans import Fidelity, Trouble
from sessionscope.store.model import wording
from sessionscope.store.model.findings import KEEP, Choice, Finding, Severity
from sessionscope.store.model.rows import Ref, Spot
from sessionscope.store.nanobot.format.file_head import Metadata, metadata_of
from sessionscope.store.nanobot.format.names import Naming, encoded, guessed_key, safe_name
from sessionscope.store.nanobot.read.byte_spans import Sort
from sessionscope.store.nanobot.read.context import offset_of
from sessionscope.store.nanobot.read.message_scan import PENDING, Item, MessageScan, pair, rows_without_seq

DATES = ("created_at", "updated_at")
LONGEST_TAIL = 1_000
_LOST = {
    Trouble.TRUNCATED: "It breaks off",
    Trouble.TORN: "It is torn: another object begins before it ends",
    Trouble.GLUED: "There is more than one object on its line",
    Trouble.SPREAD: "It goes over several lines",
    Trouble.CONTROL: "Control characters stand bare in a text of it",
    Trouble.ESCAPE: "It has an escape that is none",
    Trouble.BAD_UTF8: "It has bytes that are not UTF-8",
    Trouble.UTF16: "It is UTF-16",
    Trouble.BOM: "A byte order mark stands there",
    Trouble.NUL: "NUL bytes stand there",
    Trouble.NOT_AN_OBJECT: "It is JSON, but no object",
    Trouble.SURROGATE: "It has half of a surrogate pair",
    Trouble.HUGE_NUMBER: "It has an integer of more than 4300 digits",
    Trouble.NESTED: "It is nested too deeply",
    Trouble.GARBAGE: "It is no JSON",
}


class Subject(Struct, frozen=True):
    """The file that is checked: its name, its key, and how its release names it."""

    ref: Ref
    file: str
    stem: str
    naming: Naming
    later: bool

    def spot(self, item: Item | None = None) -> Spot:
        """Return the place of the file, or of a piece of it."""
        if item is None:
            return Spot(self.ref, file=self.file)
        return Spot(self.ref, item.id, item.seq, self.file, item.line, item.start, item.stop)


def finding(
    code: str, severity: Severity, place: Spot, message: str, fix: str = "", choices: tuple[Choice, ...] = ()
) -> Finding:
    """Return a finding. Its first choice is to keep all as it is."""
    return Finding(code, severity, place, message, fix, (KEEP, *choices) if choices else ())


def check_file(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    """Run all checks of a file. Findings come in the order of the file."""
    yield from _damage(subject, scanned)
    yield from _metadata(subject, scanned)
    yield from _values(subject, scanned)
    yield from _offset(subject, scanned)
    yield from _rows(subject, scanned)
    yield from _pairs(subject, scanned)
    yield from _tail(subject, scanned)


# -- damage


def _damage(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    whole_file = {line for _, line in scanned.lost}
    reported_utf16 = False
    for item in rows_without_seq(scanned):
        if item.code == "utf-16":
            # The whole file is UTF-16, so one finding about it is enough.
            if reported_utf16:
                continue
            reported_utf16 = True
        words = " and ".join(
            dict.fromkeys(
                _LOST[trouble] if at == 0 else _lower(_LOST[trouble]) for at, trouble in enumerate(item.troubles)
            )
        )
        words = words or "It shares its line with what is broken"
        effect = "nanobot loads nothing of the file" if item.line in whole_file else "nanobot loses it"
        yield finding(item.code, Severity.ERROR, subject.spot(item), f"{words}: {effect}.", _rescue(item))


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _rescue(item: Item) -> str:
    if item.metadata and not item.poses:
        return "What it says of the session goes to the first line."
    if not item.message:
        return "It is taken out and kept aside, byte for byte."
    if item.fidelity is Fidelity.EXACT:
        return "The message becomes a line of its own, unchanged."
    saved = "its complete first fields" if item.fidelity is Fidelity.PARTIAL else "all but what is broken in it"
    return f"A message of {saved} becomes a line of its own, marked; the bytes are kept aside."


# -- metadata


def _metadata(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    head = scanned.head
    for item in scanned.items:
        if item.poses and item.sort is Sort.METADATA:
            yield finding(
                "message-as-metadata",
                Severity.ERROR,
                subject.spot(item),
                "It is a message that calls "
                "itself metadata: nanobot does not show it, and takes the session's title and offset from "
                "it.",
                "It becomes a message again.",
            )
    if head is None:
        if scanned.items:
            yield finding(
                "metadata-missing",
                Severity.ERROR,
                subject.spot(),
                "There is no metadata line, so nanobot does not list the session.",
                "One is made from what the messages and the file tell.",
            )
        return
    if head.fidelity is Fidelity.PARTIAL:
        yield finding(
            "metadata-torn",
            Severity.ERROR,
            subject.spot(head),
            "The metadata line breaks off.",
            "What is left of it is completed from what the messages and the file tell.",
        )
    others = [item for item in scanned.items if item.metadata and not item.poses and item is not head]
    for item in others:
        if item.sort is Sort.METADATA:
            yield finding(
                "metadata-duplicated",
                Severity.ERROR,
                subject.spot(item),
                "There are several metadata lines: nanobot lists the first and loads the last.",
                "The last one stays, in the first line; this one is kept aside.",
            )
    if head.sort is Sort.METADATA and (scanned.items[0] is not head or scanned.blank_before) and not others:
        what = "a blank line stands before" if scanned.items[0] is head else "other lines stand before"
        yield finding(
            "metadata-misplaced",
            Severity.ERROR,
            subject.spot(head),
            f"{what.capitalize()} the metadata line, so nanobot does not list the session.",
            "It becomes the first line.",
        )
    state = [item for item in scanned.items if item.sort is Sort.STATE]
    first = next((at for at, item in enumerate(scanned.items) if item.message), len(scanned.items))
    for item in state:
        if scanned.items.index(item) > first or item is not state[-1]:
            yield finding(
                "state-misplaced",
                Severity.ERROR,
                subject.spot(item),
                "What the provider keeps stands among the messages, where nanobot takes it for one.",
                "It becomes the second line.",
            )


def metadata_of_scan(scanned: MessageScan) -> Metadata | None:
    """Return the metadata that counts, None without any."""
    return metadata_of(scanned.values) if scanned.head is not None else None


def _values(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    head = scanned.head
    if head is None:
        return
    values, place = scanned.values, subject.spot(head)
    if head.fidelity is not Fidelity.PARTIAL:
        if not isinstance(values.get("metadata", {}), dict):
            yield finding(
                "metadata-not-an-object",
                Severity.ERROR,
                place,
                "Its metadata is no object: nanobot fails to clear or consolidate the session.",
                "It becomes an empty one; what was there is kept aside.",
            )
        for name in DATES:
            if not is_date(values.get(name)):
                yield finding(
                    "bad-date",
                    Severity.ERROR,
                    place,
                    f"{name} is no date: nanobot may list no session at all.",
                    "It is set by what the messages and the file tell.",
                )
                break
    key = values.get("key", UNSET)
    if key is not UNSET and (not isinstance(key, str) or not key):
        yield finding(
            "bad-key",
            Severity.WARNING,
            place,
            "The key that it stores is no text.",
            "It is taken out; the name of the file tells the key.",
        )
    elif isinstance(key, str) and subject.stem not in (safe_name(key), encoded(key)):
        takes = Choice("take-name", f"store the key that the name tells: {_own_key(subject)[:60]}")
        yield finding(
            "key-disagrees",
            Severity.WARNING,
            place,
            f"It stores the key {key[:60]!r}, but the file is "
            "named for another: nanobot lists one session and opens another.",
            "",
            (takes, Choice("rename", "name the file for its key, if no other has that name")),
        )
    if PENDING in values:
        yield finding(
            "save-unfinished",
            Severity.WARNING,
            place,
            "A save of sessionscope's own never ended: rows from "
            f"byte {str(values[PENDING])[:20]} on are not part of the session.",
            "They are taken out and kept aside.",
        )


def _own_key(subject: Subject) -> str:
    return subject.ref.id if subject.naming is Naming.BASE64 else guessed_key(subject.stem)


def is_date(value: Any) -> bool:
    """Return whether a value is a time as nanobot writes it."""
    try:
        return isinstance(value, str) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _offset(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    metadata, count = metadata_of_scan(scanned), sum(item.once_a_row for item in scanned.items)
    offset = offset_of(metadata, count, subject.later)
    if offset.anomaly:
        yield finding(
            "bad-offset",
            Severity.ERROR,
            subject.spot(scanned.head),
            f"{offset.anomaly}.",
            "It becomes 0: all messages count as not consolidated.",
        )


# -- rows


def _rows(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    for item in scanned.rows:
        row = item.row
        if row is None:
            continue
        if row.role is None:
            yield finding(
                "no-role",
                Severity.ERROR,
                subject.spot(item),
                "It has no role: nanobot fails every turn that would send it.",
                "",
                (
                    Choice("quarantine", "take it out and keep it aside"),
                    Choice("user", "make it the user's"),
                    Choice("assistant", "make it the assistant's"),
                ),
            )
        if row.calls is None:
            yield finding(
                "bad-tool-calls",
                Severity.ERROR,
                subject.spot(item),
                "Its tool calls are no list: nanobot fails every turn that would send it.",
                "They are taken out; the line is kept aside.",
            )
        if row.surrogate:
            yield finding(
                "lone-surrogate",
                Severity.ERROR,
                subject.spot(item),
                "It has half of a surrogate pair: nanobot cannot save the session any more.",
                "A replacement character takes its place, marked; the line is kept aside.",
            )
        if row.mark is not None:
            yield finding("saved-in-part", Severity.INFO, subject.spot(item), "A repair could save it only in part.")


def _pairs(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    rows = scanned.rows
    metadata = metadata_of_scan(scanned)
    consolidated = offset_of(metadata, len(rows), subject.later).value
    waiting, orphans = pair([item.row for item in rows if item.row is not None])
    insert = (Choice("insert-call", "put an empty call before it, so that all is sent again"),)
    for at in orphans:
        sent = at >= consolidated
        row = rows[at].row
        shown = row.answers[:40] if row is not None else ""
        yield finding(
            "orphan-result",
            Severity.WARNING if sent else Severity.INFO,
            subject.spot(rows[at]),
            f"It is the result of a call {shown!r} that no message before it makes"
            + (": nanobot sends nothing of what comes before it." if sent else "."),
            "",
            insert if sent else (),
        )
    by_row: dict[int, list[str]] = {}
    for call in waiting:
        by_row.setdefault(call.at, []).append(call.name or call.id)
    open_turn = turn_of(scanned)
    for at, names in by_row.items():
        if at >= consolidated and not open_turn:
            yield finding(
                "unanswered-calls",
                Severity.WARNING,
                subject.spot(rows[at]),
                wording.unanswered_calls(names),
            )
    if open_turn:
        yield finding(
            "open-turn",
            Severity.INFO,
            subject.spot(scanned.head),
            wording.open_turn(open_turn),
        )


def turn_of(scanned: MessageScan) -> str:
    """Return what is unfinished in a session by its metadata, in words; empty if nothing is."""
    values = scanned.values.get("metadata")
    values = values if isinstance(values, dict) else {}
    if isinstance(values.get("runtime_checkpoint"), dict):
        return "a checkpoint of it is stored"
    return "the user waits for an answer" if values.get("pending_user_turn") is True else ""


def _tail(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    if size := repeated(scanned):
        rows = scanned.rows
        yield finding(
            "duplicated-tail",
            Severity.WARNING,
            subject.spot(rows[-size]),
            f"The last {size} messages are the same as the {size} before them, byte for byte.",
            "",
            (Choice("remove", "take the second ones out and keep them aside"),),
        )


def repeated(scanned: MessageScan) -> int:
    """Return the largest number of last messages that repeat as many before them; 0 or at least 2."""
    prints = [item.print for item in scanned.rows]
    for size in range(min(len(prints) // 2, LONGEST_TAIL), 1, -1):
        if prints[-1] == prints[-1 - size] and prints[-size:] == prints[-2 * size : -size]:
            return size
    return 0
