"""The checks of one session file. Pure; the repairs are in `write/fixes.py`.

Severity follows nanobot: an error is anything for which it loses a message, hides a session or fails a turn.
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
"""The members of the metadata line that hold a time, in nanobot's order."""
MAX_TAIL_MESSAGES = 1_000
"""How many messages a repeated tail may have to be reported."""
CALL_CHARS = 40
"""To how many characters an id or a name of a tool call is cut in a sentence."""
KEY_CHARS = 60
"""To how many characters a session's key is cut in a sentence."""
ROLE_CHOICES = (
    Choice("quarantine", "take it out and keep it aside"),
    Choice("user", "make it the user's"),
    Choice("assistant", "make it the assistant's"),
)
"""What a person may choose for a message without a role."""
_TROUBLE_PHRASES = {
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
"""What a finding says of each kind of damage."""


class Subject(Struct, frozen=True):
    """The session file that is checked or repaired."""

    ref: Ref
    file: str
    """The file's name, without its folder."""
    stem: str
    """The name without its ending: the key in one of nanobot's namings."""
    naming: Naming
    later: bool
    """Whether nanobot 0.3 or later wrote the file."""

    def spot(self, item: Item | None = None) -> Spot:
        """Return the place of a piece of the file, or of the whole file."""
        if item is None:
            return Spot(self.ref, file=self.file)
        return Spot(self.ref, item.id, item.seq, self.file, item.line, item.start, item.stop)


def finding(
    code: str, severity: Severity, spot: Spot, message: str, fix: str = "", choices: tuple[Choice, ...] = ()
) -> Finding:
    """Return a finding. If it has choices, the first one is to leave everything as it is."""
    return Finding(code, severity, spot, message, fix, (KEEP, *choices) if choices else ())


def check_file(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    """Run all checks of a file. Yield the findings of each check in the order of the file."""
    yield from _check_damage(subject, scanned)
    yield from _check_metadata_line(subject, scanned)
    yield from _check_provider_state(subject, scanned)
    yield from _check_metadata_values(subject, scanned)
    yield from _check_offset(subject, scanned)
    yield from _check_rows(subject, scanned)
    yield from _check_tool_calls(subject, scanned)
    yield from _check_open_turn(subject, scanned)
    yield from _check_repeated_tail(subject, scanned)


# -- damage


def _check_damage(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    fatal_lines = {line for _, line in scanned.lost}
    reported_utf16 = False
    for item in rows_without_seq(scanned):
        if item.code == "utf-16":
            # The encoding is that of the whole file, so it is reported once.
            if reported_utf16:
                continue
            reported_utf16 = True
        effect = "nanobot loads nothing of the file" if item.line in fatal_lines else "nanobot loses it"
        yield finding(
            item.code, Severity.ERROR, subject.spot(item), f"{_damage_phrase(item)}: {effect}.", _rescue(item)
        )


def _damage_phrase(item: Item) -> str:
    if not item.troubles:
        return "It shares its line with what is broken"
    first, *others = (_TROUBLE_PHRASES[trouble] for trouble in item.troubles)
    return " and ".join(dict.fromkeys([first, *(phrase[:1].lower() + phrase[1:] for phrase in others)]))


def _rescue(item: Item) -> str:
    """Return the sentence that says what a repair makes of a damaged piece."""
    if item.metadata and not item.claims_metadata:
        return "What it says of the session goes to the first line."
    if not item.message:
        return "It is taken out and kept aside, byte for byte."
    if item.fidelity is Fidelity.EXACT:
        return "The message becomes a line of its own, unchanged."
    saved = "its complete first fields" if item.fidelity is Fidelity.PARTIAL else "all but what is broken in it"
    return f"A message of {saved} becomes a line of its own, marked; the bytes are kept aside."


# -- metadata


def metadata_of_scan(scanned: MessageScan) -> Metadata | None:
    """Return the metadata that counts, or None if the file has none."""
    return metadata_of(scanned.values) if scanned.head is not None else None


def _check_metadata_line(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    for item in scanned.items:
        if item.claims_metadata and item.sort is Sort.METADATA:
            yield finding(
                "message-as-metadata",
                Severity.ERROR,
                subject.spot(item),
                "It is a message that calls itself metadata: nanobot does not show it, and takes the session's title "
                "and offset from it.",
                "It becomes a message again.",
            )
    head = scanned.head
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
    others = [item for item in scanned.items if item.metadata and not item.claims_metadata and item is not head]
    for item in others:
        if item.sort is Sort.METADATA:
            yield finding(
                "metadata-duplicated",
                Severity.ERROR,
                subject.spot(item),
                "There are several metadata lines: nanobot lists the first and loads the last.",
                "The last one stays, in the first line; this one is kept aside.",
            )
    is_first = scanned.items[0] is head
    if head.sort is Sort.METADATA and not others and (not is_first or scanned.blank_before):
        obstacle = "A blank line stands before" if is_first else "Other lines stand before"
        yield finding(
            "metadata-misplaced",
            Severity.ERROR,
            subject.spot(head),
            f"{obstacle} the metadata line, so nanobot does not list the session.",
            "It becomes the first line.",
        )


def _check_provider_state(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    """Yield a finding for each line of provider state that is behind a message, or that is not the last such line."""
    if scanned.head is None:
        return
    state_indexes = [index for index, item in enumerate(scanned.items) if item.sort is Sort.STATE]
    first_message = next((index for index, item in enumerate(scanned.items) if item.message), len(scanned.items))
    for index in state_indexes:
        if index > first_message or index != state_indexes[-1]:
            yield finding(
                "state-misplaced",
                Severity.ERROR,
                subject.spot(scanned.items[index]),
                "What the provider keeps stands among the messages, where nanobot takes it for one.",
                "It becomes the second line.",
            )


def _check_metadata_values(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    head = scanned.head
    if head is None:
        return
    values, spot = scanned.values, subject.spot(head)
    if head.fidelity is not Fidelity.PARTIAL:
        if not isinstance(values.get("metadata", {}), dict):
            yield finding(
                "metadata-not-an-object",
                Severity.ERROR,
                spot,
                "Its metadata is no object: nanobot fails to clear or consolidate the session.",
                "It becomes an empty one; what was there is kept aside.",
            )
        bad_date = next((name for name in DATES if not is_date(values.get(name))), None)
        if bad_date is not None:
            yield finding(
                "bad-date",
                Severity.ERROR,
                spot,
                f"{bad_date} is no date: nanobot may list no session at all.",
                "It is set by what the messages and the file tell.",
            )
    yield from _check_key(subject, values.get("key", UNSET), spot)
    if PENDING in values:
        yield finding(
            "save-unfinished",
            Severity.WARNING,
            spot,
            f"A save of sessionscope's own never ended: rows from byte {str(values[PENDING])[:20]} on are not part of "
            "the session.",
            "They are taken out and kept aside.",
        )


def _check_key(subject: Subject, key: Any, spot: Spot) -> Iterator[Finding]:
    """Yield a finding if the stored key is no text, or if the file is named for another key. UNSET is no key."""
    if key is UNSET:
        return
    if not isinstance(key, str) or not key:
        yield finding(
            "bad-key",
            Severity.WARNING,
            spot,
            "The key that it stores is no text.",
            "It is taken out; the name of the file tells the key.",
        )
        return
    if subject.stem in (safe_name(key), encoded(key)):
        return
    key_of_name = subject.ref.id if subject.naming is Naming.BASE64 else guessed_key(subject.stem)
    yield finding(
        "key-disagrees",
        Severity.WARNING,
        spot,
        f"It stores the key {key[:KEY_CHARS]!r}, but the file is named for another: nanobot lists one session "
        "and opens another.",
        choices=(
            Choice("take-name", f"store the key that the name tells: {key_of_name[:KEY_CHARS]}"),
            Choice("rename", "name the file for its key, if no other has that name"),
        ),
    )


def is_date(value: Any) -> bool:
    """Return whether a value is a time as nanobot writes it: ISO 8601 text."""
    try:
        return isinstance(value, str) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False


def _check_offset(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    # An offset counts the messages that the file had before it was damaged.
    count = sum(item.was_message for item in scanned.items)
    offset = offset_of(metadata_of_scan(scanned), count, subject.later)
    if offset.anomaly:
        yield finding(
            "bad-offset",
            Severity.ERROR,
            subject.spot(scanned.head),
            f"{offset.anomaly}.",
            "It becomes 0: all messages count as not consolidated.",
        )


# -- messages


def _check_rows(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    for item in scanned.rows:
        row = item.row
        if row is None:
            continue
        spot = subject.spot(item)
        if row.role is None:
            message = "It has no role: nanobot fails every turn that would send it."
            yield finding("no-role", Severity.ERROR, spot, message, choices=ROLE_CHOICES)
        if row.calls is None:
            yield finding(
                "bad-tool-calls",
                Severity.ERROR,
                spot,
                "Its tool calls are no list: nanobot fails every turn that would send it.",
                "They are taken out; the line is kept aside.",
            )
        if row.surrogate:
            yield finding(
                "lone-surrogate",
                Severity.ERROR,
                spot,
                "It has half of a surrogate pair: nanobot cannot save the session any more.",
                "A replacement character takes its place, marked; the line is kept aside.",
            )
        if row.mark is not None:
            yield finding("saved-in-part", Severity.INFO, spot, "A repair could save it only in part.")


def _check_tool_calls(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    """Yield findings for results without a call, and for calls without a result that nanobot would send."""
    rows = scanned.rows
    consolidated = offset_of(metadata_of_scan(scanned), len(rows), subject.later).value
    unanswered, orphans = pair([item.row for item in rows if item.row is not None])
    for index in orphans:
        yield _orphan_result(subject, rows[index], sent=index >= consolidated)
    if open_turn_reason(scanned):
        return
    names_by_row: dict[int, list[str]] = {}
    for call in unanswered:
        if call.at >= consolidated:
            names_by_row.setdefault(call.at, []).append(call.name or call.id)
    for index, names in names_by_row.items():
        yield finding(
            "unanswered-calls",
            Severity.WARNING,
            subject.spot(rows[index]),
            wording.unanswered_calls(names),
        )


def _orphan_result(subject: Subject, item: Item, sent: bool) -> Finding:
    """Return the finding for a tool result without a call. `sent` says that it is not consolidated."""
    call_id = item.row.answers[:CALL_CHARS] if item.row is not None else ""
    message = f"It is the result of a call {call_id!r} that no message before it makes"
    if not sent:
        return finding("orphan-result", Severity.INFO, subject.spot(item), f"{message}.")
    message += ": nanobot sends nothing of what comes before it."
    insert_call = Choice("insert-call", "put an empty call before it, so that all is sent again")
    return finding("orphan-result", Severity.WARNING, subject.spot(item), message, choices=(insert_call,))


def _check_open_turn(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    if reason := open_turn_reason(scanned):
        yield finding(
            "open-turn",
            Severity.INFO,
            subject.spot(scanned.head),
            wording.open_turn(reason),
        )


def open_turn_reason(scanned: MessageScan) -> str:
    """Return why the metadata says that a turn is open, as words for a sentence; empty if no turn is open."""
    values = scanned.values.get("metadata")
    if not isinstance(values, dict):
        return ""
    if isinstance(values.get("runtime_checkpoint"), dict):
        return "a checkpoint of it is stored"
    return "the user waits for an answer" if values.get("pending_user_turn") is True else ""


def _check_repeated_tail(subject: Subject, scanned: MessageScan) -> Iterator[Finding]:
    if size := repeated_tail_size(scanned):
        yield finding(
            "duplicated-tail",
            Severity.WARNING,
            subject.spot(scanned.rows[-size]),
            f"The last {size} messages are the same as the {size} before them, byte for byte.",
            choices=(Choice("remove", "take the second ones out and keep them aside"),),
        )


def repeated_tail_size(scanned: MessageScan) -> int:
    """Return how many of the last messages repeat as many before them: the highest such count, at least 2, or 0."""
    checksums = [item.print for item in scanned.rows]
    for size in range(min(len(checksums) // 2, MAX_TAIL_MESSAGES), 1, -1):
        if checksums[-1] == checksums[-1 - size] and checksums[-size:] == checksums[-2 * size : -size]:
            return size
    return 0
