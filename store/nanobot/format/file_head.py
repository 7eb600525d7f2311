"""Head of a session's file: its metadata line and the preview of its first messages. Pure.

nanobot lists a session by the first line of its file, and loads the last metadata line wherever that is. The head has
the first one, which is all that a list of sessions can afford to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sessionscope.store.io.jsonlines import leading, scan
from sessionscope.store.io.spans import Fidelity

from .message_preview import message_preview
from .names import FileName, Naming, channel_of, key_of, naming

METADATA = "metadata"
"""The `_type` of a metadata line."""
PROVIDER_STATE = "provider_state"
"""The `_type` of the line that holds the state of nanobot's provider."""
KEY_CHARS = 1_000
"""How many characters of a key or a title are kept."""


class Metadata(Struct, frozen=True):
    """A metadata line. Members that it lacks, or that have the wrong type, have their defaults."""

    key: str | None = None
    created_at: Any = None
    updated_at: Any = None
    values: Mapping[str, Any] = {}
    """The member `metadata`."""
    last_consolidated: Any = UNSET
    last_archived: Any = UNSET
    whole: bool = True
    """Whether the line was read to its end."""
    damage: tuple[str, ...] = ()

    @property
    def title(self) -> str | None:
        """The title that a user gave the session, or None."""
        title = self.values.get("title")
        return title[:KEY_CHARS] if isinstance(title, str) and title.strip() else None

    @property
    def summary(self) -> str | None:
        """The text of the note that replaces the consolidated messages, or None."""
        stored = self.values.get("_last_summary")
        text = stored.get("text") if isinstance(stored, Mapping) else stored
        return text if isinstance(text, str) and text else None

    @property
    def later(self) -> bool:
        """Whether nanobot 0.3.x wrote it: only these releases have `last_archived`."""
        return self.last_archived is not UNSET


class FileHead(Struct, frozen=True):
    """The facts about a file that a list of sessions shows."""

    name: FileName
    metadata: Metadata | None
    preview: str
    first_timestamp: str | None
    """The timestamp of the first message, as stored."""
    session: bool
    """Whether it is recognised as a session's file. An empty file counts as one."""
    log: bool = False
    """Whether it is nanobot's log of summaries, which is not a session."""

    @property
    def key(self) -> str:
        return key_of(self.name.stem, self.metadata.key if self.metadata else None)

    @property
    def channel(self) -> str | None:
        return channel_of(self.key)

    @property
    def naming(self) -> Naming:
        return naming(self.name.stem, self.metadata.key if self.metadata else None)

    @property
    def later(self) -> bool:
        """Whether nanobot 0.3.0 or later wrote the file."""
        return self.naming is Naming.BASE64 or (self.metadata is not None and self.metadata.later)


class HeadLine(Struct, gc=False):
    """The members of a line that a list of sessions needs. msgspec skips the others without decoding them."""

    _type: Any = None
    key: Any = None
    created_at: Any = None
    updated_at: Any = None
    metadata: Any = UNSET
    last_consolidated: Any = UNSET
    last_archived: Any = UNSET
    role: Any = UNSET
    timestamp: Any = None


_decode = msgspec.json.Decoder(HeadLine).decode
_DECODE_ERRORS = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)


def metadata_in(line: HeadLine) -> Metadata:
    """Return the values of a metadata line that was decoded to its end."""
    return _metadata(
        line.key, line.created_at, line.updated_at, line.metadata, line.last_consolidated, line.last_archived, True
    )


def metadata_of(record: Mapping[str, Any], whole: bool = True) -> Metadata:
    """Return the values of a metadata record. `whole` is False if only its first members were read."""
    get = record.get
    return _metadata(
        get("key"),
        get("created_at"),
        get("updated_at"),
        get("metadata", UNSET),
        get("last_consolidated", UNSET),
        get("last_archived", UNSET),
        whole,
    )


def _metadata(
    key: Any, created_at: Any, updated_at: Any, values: Any, consolidated: Any, archived: Any, whole: bool
) -> Metadata:
    damage = [] if whole else ["the metadata line is cut off, or longer than what is read of it"]
    if key is not None and (not isinstance(key, str) or not key):
        damage.append("the stored key is no text")
    if not isinstance(values, (dict, UnsetType)):
        damage.append("metadata is not an object")
    return Metadata(
        key[:KEY_CHARS] if isinstance(key, str) and key else None,
        created_at,
        updated_at,
        values if isinstance(values, dict) else {},
        consolidated,
        archived,
        whole,
        tuple(damage),
    )


def read_file_head(name: FileName, data: bytes, complete: bool, preview: bool = True) -> FileHead:
    """Return the head of a file, given its first bytes. `complete` says that `data` is the whole file.

    The preview is that of the first user message that has one, else of the first such assistant message. Without
    `preview` it is empty, which is faster.
    """
    if not preview and (head := _head_of_plain_lines(name, data, complete)) is not None:
        return head
    metadata: Metadata | None = None
    first_timestamp: str | None = None
    user_preview = assistant_preview = ""
    is_session = not data.strip()
    for record, whole in _records(data, complete):
        record_type = record.get("_type")
        if record_type == METADATA:
            is_session = True
            metadata = metadata or metadata_of(record, whole)
            continue
        if record_type == PROVIDER_STATE:
            continue
        if not is_session and first_timestamp is None and _is_log_entry(record):
            return FileHead(name, None, "", None, False, log=True)
        is_session = is_session or "role" in record
        first_timestamp = first_timestamp or _timestamp_of(record)
        if not preview:
            break
        role = record.get("role")
        if role == "user" and (user_preview := message_preview(record)):
            break
        if role == "assistant" and not assistant_preview:
            assistant_preview = message_preview(record)
    return FileHead(name, metadata, user_preview or assistant_preview, first_timestamp, is_session)


def _is_log_entry(record: Mapping[str, Any]) -> bool:
    """Return whether a record is an entry of nanobot's log of summaries."""
    return "cursor" in record and "content" in record and "role" not in record


def _timestamp_of(record: Mapping[str, Any]) -> str | None:
    timestamp = record.get("timestamp")
    return timestamp if isinstance(timestamp, str) else None


def read_plain_head(data: bytes) -> tuple[HeadLine, str | None] | None:
    """Return the metadata line of a file and the timestamp of its first message, given its first bytes.

    It is a fast path for lists of thousands of sessions. It returns None unless the first two lines are a valid
    metadata line and a valid message; `read_file_head` reads all other files.
    """
    first_end = data.find(b"\n") + 1
    second_end = data.find(b"\n", first_end) + 1
    try:
        first, second = _decode(data[:first_end]), _decode(data[first_end:second_end])
    except _DECODE_ERRORS:
        return None
    if first._type != METADATA or second._type is not None:
        return None
    if type(first.key) is not str or not 0 < len(first.key) <= KEY_CHARS or type(first.metadata) is not dict:
        return None
    return first, second.timestamp if type(second.timestamp) is str else None


def _head_of_plain_lines(name: FileName, data: bytes, complete: bool) -> FileHead | None:
    """Return the head without a preview, or None if a line up to the first message is not a valid JSON object."""
    metadata: Metadata | None = None
    start, size = 0, len(data)
    while start < size:
        stop = data.find(b"\n", start) + 1 or (size if complete else 0)
        try:
            # A line that `data` holds only in part is empty here, which is refused.
            line = _decode(data[start:stop])
        except _DECODE_ERRORS:
            return None
        if line._type == METADATA:
            metadata = metadata or metadata_in(line)
        elif line._type != PROVIDER_STATE:
            if metadata is None and line.role is UNSET:
                return None
            timestamp = line.timestamp if isinstance(line.timestamp, str) else None
            return FileHead(name, metadata, "", timestamp, session=True)
        start = stop
    return FileHead(name, metadata, "", None, session=metadata is not None or not size)


def _records(data: bytes, complete: bool) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Yield the records in the first bytes of a file, each with whether it is whole."""
    lines_end = len(data) if complete else data.rfind(b"\n") + 1
    for span in scan(data[:lines_end]):
        if span.value is not None:
            yield span.value, span.fidelity is not Fidelity.PARTIAL
    if lines_end < len(data):
        # The last line is cut off. Its complete members are used, and what there is of the text that is cut.
        partial = leading(data[lines_end:])
        if partial.fields:
            cut_text = {partial.key: partial.text} if partial.key is not None else {}
            yield partial.fields | cut_text, False
