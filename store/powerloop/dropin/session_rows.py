"""Arguments and results of `SessionStore`: power-loop's enums, limits and row types.

Source: power-loop 0.2.0, `runtime/session_store.py`. Rows have the same fields, defaults, equality and `dataclasses`
support as upstream's. In two cases upstream raises and these do not: an unknown value of an enum stays a string, and
JSON that does not parse is read as `{"damaged": text}`, in a list if the column holds a list.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Required, TypedDict, TypeVar, overload

import msgspec
from msgspec import Struct

from sessionscope.store.rules.values import Damages, parse

T = TypeVar("T")
R = TypeVar("R", bound=Struct)
DEFAULT_DB_PATH = "./power_loop_sessions.db"
"""The database that `SessionStore.open` opens if no path is given."""
MAX_SPAWN_DEPTH = 3
"""How many levels of subagents a root may have."""
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Encodes JSON as power-loop stores it."""
encode_strictly = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
"""Does the same, but raises ValueError for NaN and the infinities, which JSON does not have."""


class SessionKind(str, Enum):
    """Whether a session is a root or that of a subagent."""

    ROOT = "root"
    SUBAGENT = "subagent"


class SessionStatus(str, Enum):
    """Whether a session is archived. An archived session can still be used."""

    ACTIVE = "active"
    ARCHIVED = "archived"


class SubagentLifecycle(str, Enum):
    """How long a subagent's session lives. It is closed with its parent, unless it is detached."""

    EPHEMERAL = "ephemeral"
    LINKED = "linked"
    DETACHED = "detached"


class MessageState(str, Enum):
    """Whether a message is in the model's context, or a note of a compaction replaces it."""

    ACTIVE = "active"
    COMPACTED_OUT = "compacted_out"


class NewMessage(TypedDict, total=False):
    """A message for `append_messages`, with the arguments of `append_message` as keys."""

    role: Required[str]
    content: str | None
    tool_calls: list[dict[str, Any]] | None
    tool_call_id: str | None
    name: str | None
    round_index: int | None
    meta: dict[str, Any] | None


def message_values(
    *,
    role: str,
    content: str | None = None,
    tool_calls: list[dict[str, Any]] | None = None,
    tool_call_id: str | None = None,
    name: str | None = None,
    round_index: int | None = None,
    meta: dict[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Return the values of a message from its role to its meta, in the order of `INSERT_MESSAGE`."""
    return (
        role,
        name,
        content,
        encode(tool_calls) if tool_calls else None,
        tool_call_id,
        round_index,
        encode(meta) if meta else "{}",
    )


def _damaged(text: str) -> Any:
    return {"damaged": text}


def decode_json(stored: bytes, damaged: Callable[[str], Any] = _damaged) -> Any:
    """Return the value of a JSON column, None if it is empty, and `damaged(text)` for text that does not parse."""
    if not stored:
        return None
    try:
        return msgspec.json.decode(stored)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        damages = Damages()
        # This parser accepts more, such as NaN. It returns the text itself if it fails.
        value = parse(stored.decode("utf-8", "backslashreplace"), "", damages)
        return damaged(value) if damages else value


def _object(stored: bytes) -> Any:
    return decode_json(stored) or {}


def _list(stored: bytes) -> Any:
    return decode_json(stored, lambda text: [_damaged(text)])


def _enum_decoder(kind: type[Enum]) -> Callable[[str], Any]:
    """Return a function from a stored string to a member of an enum, or to the string itself if it is unknown."""
    members = {member.value: member for member in kind}
    return lambda value: members.get(value, value)


class _LazyColumn(Generic[T]):
    """A column that is decoded when it is first read, by the type of its value: bytes or str until then.

    `column` is the descriptor of the struct's own field, `stored` the type of a value that is not decoded yet.
    """

    def __init__(self, column: Any, stored: type, decode: Callable[[Any], T]) -> None:
        self._column, self._stored, self._decode = column, stored, decode

    @overload
    def __get__(self, row: None, owner: type) -> _LazyColumn[T]: ...
    @overload
    def __get__(self, row: Struct, owner: type) -> T: ...
    def __get__(self, row: Struct | None, owner: type) -> T | _LazyColumn[T]:
        if row is None:
            return self
        value = self._column.__get__(row)
        if type(value) is self._stored:
            value = self._decode(value)
            self._column.__set__(row, value)
        return value  # type: ignore[no-any-return]

    def __set__(self, row: Struct, value: T) -> None:
        self._column.__set__(row, value)


class _Row(Struct, eq=False):
    """A row that behaves like upstream's dataclasses. A struct is built several times faster than a dataclass."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__)

    # The `__ne__` of a struct does not call `__eq__`.
    __ne__ = object.__ne__

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {name: getattr(self, name) for name in self.__struct_fields__}


def _with_dataclass_fields(row: type[R]) -> type[R]:
    """Add what the functions of `dataclasses` need to read the fields of a struct."""
    fields = [
        (field.name, field.type)
        if field.default_factory is msgspec.NODEFAULT
        else (field.name, field.type, dataclasses.field(default_factory=field.default_factory))
        for field in msgspec.structs.fields(row)
    ]
    equivalent: Any = dataclasses.make_dataclass(row.__name__, fields)
    for name in ("__dataclass_fields__", "__dataclass_params__"):
        setattr(row, name, getattr(equivalent, name))
    return row


class _SessionColumns(_Row, eq=False, gc=False):
    """The columns of a session as stored."""

    session_id: str
    created_at: int
    updated_at: int
    system_prompt: str | None
    model: str | None
    config: Any
    status: Any
    kind: Any
    parent_session_id: str | None
    spawn_tool_call_id: str | None
    spawn_depth: int
    lifecycle: Any
    metadata: Any = msgspec.field(default_factory=dict)


class _MessageColumns(_Row, eq=False, gc=False):
    """The columns of a message as stored."""

    session_id: str
    seq: int
    role: str
    name: str | None
    content: str | None
    tool_calls: Any
    tool_call_id: str | None
    round_index: int | None
    state: Any
    meta: Any
    created_at: int


@_with_dataclass_fields
class SessionRow(_SessionColumns, eq=False, gc=False):
    """A session. Times are in epoch milliseconds. `spawn_depth` is 0 for a root."""

    config = _LazyColumn[dict[str, Any]](_SessionColumns.config, bytes, _object)
    status = _LazyColumn[SessionStatus](_SessionColumns.status, str, _enum_decoder(SessionStatus))
    kind = _LazyColumn[SessionKind](_SessionColumns.kind, str, _enum_decoder(SessionKind))
    lifecycle = _LazyColumn[SubagentLifecycle](_SessionColumns.lifecycle, str, _enum_decoder(SubagentLifecycle))
    metadata = _LazyColumn[dict[str, Any]](_SessionColumns.metadata, bytes, _object)


@_with_dataclass_fields
class MessageRow(_MessageColumns, eq=False, gc=False):
    """A message. `seq` counts from 1 within its session, `created_at` is in epoch milliseconds."""

    tool_calls = _LazyColumn[list[dict[str, Any]] | None](_MessageColumns.tool_calls, bytes, _list)
    state = _LazyColumn[MessageState](_MessageColumns.state, str, _enum_decoder(MessageState))
    meta = _LazyColumn[dict[str, Any]](_MessageColumns.meta, bytes, _object)


@dataclass
class SessionStateRow:
    """The bookkeeping of a session: the seq of the next message, counters, and the tool calls without a result."""

    session_id: str
    next_seq: int
    round_index: int
    last_compact_seq: int
    pending: dict[str, Any] | None


@dataclass
class CompactionRow:
    """A compaction: the requested range of seqs, both ends included, and the seq of its note. Sizes are in tokens."""

    session_id: str
    compact_seq: int
    note_seq: int
    from_seq: int
    to_seq: int
    before_tokens: int | None
    after_tokens: int | None
    round_index: int | None
    created_at: int


@dataclass
class UsageRow:
    """The tokens of one round.

    power-loop 0.2.0 records only the last round of each send, and every send counts its rounds from 0.
    """

    session_id: str
    round_index: int
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    model: str | None
    created_at: int


@dataclass
class Counts:
    """The number of messages of a session, in total and by state, and of its compactions."""

    messages: int
    active: int
    compacted_out: int
    compactions: int


class Descendant(Struct, frozen=True, gc=False):
    """A session below another. `depth` is 1 for a child, 2 for a grandchild."""

    session_id: str
    depth: int


class Page(list[SessionRow]):
    """A page of a listing of sessions."""

    next: int | None = None
    """The value of `after` for the next page; None on the last page."""
