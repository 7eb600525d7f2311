"""The beginning of a session's file: the metadata line, and the first words that were said. Pure.

nanobot lists a session by its first line, but loads the last metadata line wherever it is. A list of sessions can only
afford to read the first.
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

METADATA, PROVIDER_STATE, KEY_CHARS = "metadata", "provider_state", 1_000


class Metadata(Struct, frozen=True):
    """A metadata line. A value is None if the line does not have it or it cannot be used."""

    key: str | None = None
    created_at: Any = None
    updated_at: Any = None
    values: Mapping[str, Any] = {}
    last_consolidated: Any = UNSET
    last_archived: Any = UNSET
    whole: bool = True
    damage: tuple[str, ...] = ()

    @property
    def title(self) -> str | None:
        """The title that the session was given, None without one."""
        title = self.values.get("title")
        return title[:KEY_CHARS] if isinstance(title, str) and title.strip() else None

    @property
    def summary(self) -> str | None:
        """The text of the note that stands for the consolidated rows."""
        stored = self.values.get("_last_summary")
        text = stored.get("text") if isinstance(stored, Mapping) else stored
        return text if isinstance(text, str) and text else None

    @property
    def later(self) -> bool:
        """Whether 0.3.x wrote it: only these releases have `last_archived`."""
        return self.last_archived is not UNSET


class FileHead(Struct, frozen=True):
    """What a list needs to know of one file. `first` is the time of its first message, as it is stored."""

    name: FileName
    metadata: Metadata | None
    preview: str
    first: str | None
    session: bool
    """Whether anything in it says that it is a session's file. An empty one might be."""
    log: bool = False
    """Whether it is nanobot's log of summaries instead."""

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
        """Whether a release from 0.3.0 on wrote the file."""
        return self.naming is Naming.BASE64 or (self.metadata is not None and self.metadata.later)


class Line(Struct, gc=False):
    """The members of a record that a list needs. msgspec skips the others."""

    _type: Any = None
    key: Any = None
    created_at: Any = None
    updated_at: Any = None
    metadata: Any = UNSET
    last_consolidated: Any = UNSET
    last_archived: Any = UNSET
    role: Any = UNSET
    timestamp: Any = None


_decode = msgspec.json.Decoder(Line).decode
_REFUSED = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)


def metadata_in(line: Line) -> Metadata:
    """Return the values of a whole metadata line."""
    return _metadata(
        line.key, line.created_at, line.updated_at, line.metadata, line.last_consolidated, line.last_archived, True
    )


def metadata_of(record: Mapping[str, Any], whole: bool = True) -> Metadata:
    """Return a metadata record's values. Those of the wrong type are named."""
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
    """Return the head of a file from its first bytes. `complete` says that these are all of them."""
    if not preview and (found := _first_lines(name, data, complete)) is not None:
        return found
    metadata: Metadata | None = None
    first, words, fallback, session = None, "", "", not data.strip()
    for record, whole in _records(data, complete):
        kind = record.get("_type")
        if kind == METADATA:
            session, metadata = True, metadata or metadata_of(record, whole)
            continue
        if kind == PROVIDER_STATE:
            continue
        if metadata is None and first is None and not session and _is_log(record):
            return FileHead(name, None, "", None, False, log=True)
        session = session or "role" in record
        stamp = record.get("timestamp")
        first = first or (stamp if isinstance(stamp, str) else None)
        said = message_preview(record) if preview else ""
        if not preview or (said and record.get("role") == "user"):
            words = said
            break
        fallback = fallback or (said if record.get("role") == "assistant" else "")
    return FileHead(name, metadata, words or fallback, first, session)


def _is_log(record: Mapping[str, Any]) -> bool:
    return "cursor" in record and "content" in record and "role" not in record


def plain_lines(data: bytes) -> tuple[Line, str | None] | None:
    """Return the metadata line and the time of the first message, if a file begins with just these two, whole and
    plain.

    A list of thousands has no time for more. None means that it needs a full analysis.
    """
    cut = data.find(b"\n") + 1
    stop = data.find(b"\n", cut) + 1
    try:
        line, second = _decode(data[:cut]), _decode(data[cut:stop])
    except _REFUSED:
        return None
    if (
        line._type != METADATA
        or second._type is not None
        or type(line.key) is not str
        or not 0 < len(line.key) <= KEY_CHARS
        or type(line.metadata) is not dict
    ):
        return None
    return line, second.timestamp if type(second.timestamp) is str else None


def _first_lines(name: FileName, data: bytes, complete: bool) -> FileHead | None:
    """Return the head of a file that begins as it should, without previews.

    None means that it needs a full analysis.
    """
    metadata: Metadata | None = None
    at, size = 0, len(data)
    while at < size:
        stop = data.find(b"\n", at) + 1 or (size if complete else 0)
        try:
            found = _decode(data[at:stop])
        except _REFUSED:
            return None
        if found._type == METADATA:
            metadata = metadata or metadata_in(found)
        elif found._type != PROVIDER_STATE:
            if metadata is None and found.role is UNSET:
                return None
            stamp = found.timestamp
            return FileHead(
                name,
                metadata,
                "",
                stamp if isinstance(stamp, str) else None,
                metadata is not None or found.role is not UNSET,
            )
        at = stop
    return FileHead(name, metadata, "", None, metadata is not None or not size)


def _records(data: bytes, complete: bool) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Yield the records of the beginning of a file, and whether each is whole."""
    cut = len(data) if complete else data.rfind(b"\n") + 1
    for span in scan(data[:cut]):
        if span.value is not None:
            yield span.value, span.fidelity is not Fidelity.PARTIAL
    if cut < len(data):
        # The leading fields of a line longer than what was read are whole. Of a text, its beginning is enough.
        found = leading(data[cut:])
        if found.fields:
            yield found.fields | ({found.key: found.text} if found.key is not None else {}), False
