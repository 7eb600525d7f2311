"""What may be wrong with one session's file, rule by rule. Pure: what puts it right is `mending`'s.

Severity follows what nanobot does with it: an error is what it loses, hides, or fails a turn for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct

from sessionscope.store.io.jsonlines import Fidelity, Trouble
from sessionscope.store.model.findings import KEEP, Choice, Finding, Severity
from sessionscope.store.model.rows import Ref, Spot
from sessionscope.store.nanobot.format.head import Metadata, metadata_of
from sessionscope.store.nanobot.format.names import Naming, encoded, guessed_key, safe_name
from sessionscope.store.nanobot.read.context import offset_of
from sessionscope.store.nanobot.read.exam import PENDING, Exam, Item, pair, strays
from sessionscope.store.nanobot.read.survey import Sort

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


class Patient(Struct, frozen=True):
    """A file as a doctor knows it: what it is called, whose it is, and how its release names it."""

    ref: Ref
    file: str
    stem: str
    naming: Naming
    later: bool

    def spot(self, item: Item | None = None) -> Spot:
        """The place of the file, or of a piece of it."""
        if item is None:
            return Spot(self.ref, file=self.file)
        return Spot(self.ref, item.id, item.seq, self.file, item.line, item.start, item.stop)


def finding(
    code: str, severity: Severity, place: Spot, message: str, fix: str = "", choices: tuple[Choice, ...] = ()
) -> Finding:
    """A finding; choices come behind that of leaving it as it is."""
    return Finding(code, severity, place, message, fix, (KEEP, *choices) if choices else ())


def ailments(patient: Patient, exam: Exam) -> Iterator[Finding]:
    """All that is wrong with a file, what stands first first."""
    yield from _damage(patient, exam)
    yield from _metadata(patient, exam)
    yield from _values(patient, exam)
    yield from _offset(patient, exam)
    yield from _rows(patient, exam)
    yield from _pairs(patient, exam)
    yield from _tail(patient, exam)


# -- damage


def _damage(patient: Patient, exam: Exam) -> Iterator[Finding]:
    whole_file = {line for _, line in exam.lost}
    told_utf16 = False
    for item in strays(exam):
        if item.code == "utf-16":
            # All of a file is, so that one word about it will do.
            if told_utf16:
                continue
            told_utf16 = True
        words = " and ".join(
            dict.fromkeys(
                _LOST[trouble] if at == 0 else _lower(_LOST[trouble]) for at, trouble in enumerate(item.troubles)
            )
        )
        words = words or "It shares its line with what is broken"
        effect = "nanobot loads nothing of the file" if item.line in whole_file else "nanobot loses it"
        yield finding(item.code, Severity.ERROR, patient.spot(item), f"{words}: {effect}.", _rescue(item))


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


def _metadata(patient: Patient, exam: Exam) -> Iterator[Finding]:
    head = exam.head
    for item in exam.items:
        if item.poses and item.sort is Sort.METADATA:
            yield finding(
                "message-as-metadata",
                Severity.ERROR,
                patient.spot(item),
                "It is a message that calls "
                "itself metadata: nanobot does not show it, and takes the session's title and offset from "
                "it.",
                "It becomes a message again.",
            )
    if head is None:
        if exam.items:
            yield finding(
                "metadata-missing",
                Severity.ERROR,
                patient.spot(),
                "There is no metadata line, so nanobot does not list the session.",
                "One is made from what the messages and the file tell.",
            )
        return
    if head.fidelity is Fidelity.PARTIAL:
        yield finding(
            "metadata-torn",
            Severity.ERROR,
            patient.spot(head),
            "The metadata line breaks off.",
            "What is left of it is completed from what the messages and the file tell.",
        )
    others = [item for item in exam.items if item.metadata and not item.poses and item is not head]
    for item in others:
        if item.sort is Sort.METADATA:
            yield finding(
                "metadata-duplicated",
                Severity.ERROR,
                patient.spot(item),
                "There are several metadata lines: nanobot lists the first and loads the last.",
                "The last one stays, in the first line; this one is kept aside.",
            )
    if head.sort is Sort.METADATA and (exam.items[0] is not head or exam.blank_before) and not others:
        what = "a blank line stands before" if exam.items[0] is head else "other lines stand before"
        yield finding(
            "metadata-misplaced",
            Severity.ERROR,
            patient.spot(head),
            f"{what.capitalize()} the metadata line, so nanobot does not list the session.",
            "It becomes the first line.",
        )
    state = [item for item in exam.items if item.sort is Sort.STATE]
    first = next((at for at, item in enumerate(exam.items) if item.message), len(exam.items))
    for item in state:
        if exam.items.index(item) > first or item is not state[-1]:
            yield finding(
                "state-misplaced",
                Severity.ERROR,
                patient.spot(item),
                "What the provider keeps stands among the messages, where nanobot takes it for one.",
                "It becomes the second line.",
            )


def head_of(exam: Exam) -> Metadata | None:
    """The metadata that counts, None without any."""
    return metadata_of(exam.values) if exam.head is not None else None


def _values(patient: Patient, exam: Exam) -> Iterator[Finding]:
    head = exam.head
    if head is None:
        return
    values, place = exam.values, patient.spot(head)
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
    elif isinstance(key, str) and patient.stem not in (safe_name(key), encoded(key)):
        takes = Choice("take-name", f"store the key that the name tells: {_own_key(patient)[:60]}")
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


def _own_key(patient: Patient) -> str:
    return patient.ref.id if patient.naming is Naming.BASE64 else guessed_key(patient.stem)


def is_date(value: Any) -> bool:
    """Whether it is a time as nanobot writes it."""
    try:
        return isinstance(value, str) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _offset(patient: Patient, exam: Exam) -> Iterator[Finding]:
    metadata, count = head_of(exam), sum(item.once_a_row for item in exam.items)
    offset = offset_of(metadata, count, patient.later)
    if offset.odd:
        yield finding(
            "bad-offset",
            Severity.ERROR,
            patient.spot(exam.head),
            f"{offset.odd}.",
            "It becomes 0: all messages count as not consolidated.",
        )


# -- rows


def _rows(patient: Patient, exam: Exam) -> Iterator[Finding]:
    for item in exam.rows:
        row = item.row
        if row is None:
            continue
        if row.role is None:
            yield finding(
                "no-role",
                Severity.ERROR,
                patient.spot(item),
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
                patient.spot(item),
                "Its tool calls are no list: nanobot fails every turn that would send it.",
                "They are taken out; the line is kept aside.",
            )
        if row.surrogate:
            yield finding(
                "lone-surrogate",
                Severity.ERROR,
                patient.spot(item),
                "It has half of a surrogate pair: nanobot cannot save the session any more.",
                "A replacement character takes its place, marked; the line is kept aside.",
            )
        if row.mark is not None:
            yield finding("saved-in-part", Severity.INFO, patient.spot(item), "A repair could save it only in part.")


def _pairs(patient: Patient, exam: Exam) -> Iterator[Finding]:
    rows = exam.rows
    metadata = head_of(exam)
    consolidated = offset_of(metadata, len(rows), patient.later).value
    waiting, orphans = pair([item.row for item in rows if item.row is not None])
    insert = (Choice("insert-call", "put an empty call before it, so that all is sent again"),)
    for at in orphans:
        sent = at >= consolidated
        row = rows[at].row
        shown = row.answers[:40] if row is not None else ""
        yield finding(
            "orphan-result",
            Severity.WARNING if sent else Severity.INFO,
            patient.spot(rows[at]),
            f"It is the result of a call {shown!r} that no message before it makes"
            + (": nanobot sends nothing of what comes before it." if sent else "."),
            "",
            insert if sent else (),
        )
    by_row: dict[int, list[str]] = {}
    for call in waiting:
        by_row.setdefault(call.at, []).append(call.name or call.id)
    open_turn = turn_of(exam)
    for at, names in by_row.items():
        shown = ", ".join(name[:40] for name in names[:5])
        if at >= consolidated and not open_turn:
            yield finding(
                "unanswered-calls",
                Severity.WARNING,
                patient.spot(rows[at]),
                f"Nobody answered {len(names)} "
                f"of its calls ({shown}), and no turn is open that would; settle answers them.",
            )
    if open_turn:
        yield finding(
            "open-turn",
            Severity.INFO,
            patient.spot(exam.head),
            f"A turn is open: {open_turn}. Its agent may go on with it; if it never will, settle ends it.",
        )


def turn_of(exam: Exam) -> str:
    """What is open in a session by its metadata, in words; empty where nothing is."""
    values = exam.values.get("metadata")
    values = values if isinstance(values, dict) else {}
    if isinstance(values.get("runtime_checkpoint"), dict):
        return "a checkpoint of it is stored"
    return "the user waits for an answer" if values.get("pending_user_turn") is True else ""


def _tail(patient: Patient, exam: Exam) -> Iterator[Finding]:
    if size := repeated(exam):
        rows = exam.rows
        yield finding(
            "duplicated-tail",
            Severity.WARNING,
            patient.spot(rows[-size]),
            f"The last {size} messages are the same as the {size} before them, byte for byte.",
            "",
            (Choice("remove", "take the second ones out and keep them aside"),),
        )


def repeated(exam: Exam) -> int:
    """How many of the last messages repeat as many before them, the most there are; 0 or at least 2."""
    prints = [item.print for item in exam.rows]
    for size in range(min(len(prints) // 2, LONGEST_TAIL), 1, -1):
        if prints[-1] == prints[-1 - size] and prints[-size:] == prints[-2 * size : -size]:
            return size
    return 0
