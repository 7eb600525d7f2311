"""A drop-in for nanobot 0.2.0's `Session`, and its helper functions under the names that callers import.

Source: nanobot 0.2.0, `session/manager.py`, `utils/helpers.py` and `utils/subagent_channel_display.py`.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sessionscope.store.nanobot.format.history import (
    WINDOW,
    annotate_message_time,
    consolidated,
    estimate_message_tokens,
    find_legal_message_start,
    history,
    image_placeholder_text,
    legible,
)
from sessionscope.store.nanobot.format.message_preview import (
    message_preview,
    scrub_subagent_announce_body,
    without_runtime_context,
)
from sessionscope.store.nanobot.format.names import safe_name
from sessionscope.store.rules.preview import preview, sanitize

__all__ = [
    "FILE_MAX_MESSAGES",
    "Session",
    "estimate_message_tokens",
    "find_legal_message_start",
    "image_placeholder_text",
    "message_preview",
    "safe_filename",
    "safe_key",
    "scrub_subagent_announce_body",
    "without_runtime_context",
]

FILE_MAX_MESSAGES = 2000
"""How many rows a session keeps by default."""

_sanitize_assistant_replay_text = sanitize
_text_preview = preview
_message_preview_text = message_preview


def safe_filename(name: str) -> str:
    """Return a name with "_" for each character that a file system may refuse, and without surrounding white space.

    Several names may have the same result, which may be empty.
    """
    return safe_name(name)


def safe_key(key: str) -> str:
    """Return the stem of a key's session file in nanobot 0.2.0. Several keys may have the same one."""
    return safe_name(key)


class SessionChanged(OSError):
    """A session's file was changed by others, belongs to another key or release, or stays locked.

    The file was left as it is. The text says what to do.
    """


@dataclass
class Session:
    """A nanobot conversation: its rows, and how many of the first ones are consolidated into nanobot's memory.

    Fields are not checked. No content of a row makes a method fail. A `last_consolidated` that is no integer, negative
    or greater than the number of rows counts as 0. Times are local, without a zone.
    """

    key: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    created_at: datetime = field(default_factory=datetime.now)
    updated_at: datetime = field(default_factory=datetime.now)
    metadata: dict[str, Any] = field(default_factory=dict)
    last_consolidated: int = 0

    _annotate_message_time = staticmethod(annotate_message_time)

    def add_message(self, role: str, content: str, **kwargs: Any) -> None:
        """Append a row with the present time. `kwargs` are further members of the row, and may replace the time."""
        now = datetime.now()
        self.messages.append({"role": role, "content": content, "timestamp": now.isoformat(), **kwargs})
        self.updated_at = now

    def get_history(
        self, max_messages: int = WINDOW, *, max_tokens: int = 0, include_timestamps: bool = False
    ) -> list[dict[str, Any]]:
        """Return the messages not yet consolidated, as they would be sent to the model, oldest first.

        Only the newest `max_messages` rows are considered; 0 or less means 120. Of their messages, the newest that fit
        in `max_tokens` tokens are returned, but at least one; 0 or less means no limit. With `include_timestamps`, the
        text of a user begins with its time. Values are those of the rows, not copies.
        """
        rows = self.messages[self._consolidated() :]
        return history(rows, max_messages, max_tokens=max_tokens, include_timestamps=include_timestamps)

    def clear(self) -> None:
        """Remove all rows and the summary of earlier ones. Other metadata stays."""
        self.messages = []
        self.last_consolidated = 0
        self.updated_at = datetime.now()
        if isinstance(self.metadata, MutableMapping):
            self.metadata.pop("_last_summary", None)

    def retain_recent_legal_suffix(self, max_messages: int) -> None:
        """Keep at most `max_messages` of the newest rows.

        If possible, the first one is a user's row. It is never a tool's result whose call is removed. If the last turn
        alone is longer, its user's row is kept together with the newest rows. 0 or less clears the session. If there
        are no more rows than `max_messages`, nothing happens.
        """
        if max_messages <= 0:
            self.clear()
        elif len(self.messages) > max_messages:
            self._keep(_retained(self.messages, max_messages))

    def enforce_file_cap(
        self, on_archive: Callable[[list[dict[str, Any]]], object] | None = None, limit: int = FILE_MAX_MESSAGES
    ) -> None:
        """Remove rows as `retain_recent_legal_suffix(limit)` does, and call `on_archive` with the removed ones.

        It is called once, with the removed rows that were not consolidated, oldest first, if there are any. If it
        raises, the session stays as it was. A `limit` of 0 or less is no limit.
        """
        if limit <= 0 or len(self.messages) <= limit:
            return
        before = self.messages, self.last_consolidated, self.updated_at
        kept_indexes, consolidated_rows = _retained(self.messages, limit), self._consolidated()
        kept = set(kept_indexes)
        removed_rows = [
            row for index, row in enumerate(self.messages) if index >= consolidated_rows and index not in kept
        ]
        try:
            # The callback sees the session without these rows, as with upstream.
            self._keep(kept_indexes)
            if removed_rows and on_archive:
                on_archive(removed_rows)
        except BaseException:
            self.messages, self.last_consolidated, self.updated_at = before
            raise

    def _consolidated(self) -> int:
        """Return how many rows are consolidated, 0 if `last_consolidated` is not valid."""
        return consolidated(self.last_consolidated, len(self.messages))

    def _keep(self, indexes: list[int]) -> None:
        """Remove all rows but those of these indexes."""
        consolidated_rows = self._consolidated()
        self.messages = [self.messages[index] for index in indexes]
        self.last_consolidated = sum(index < consolidated_rows for index in indexes)
        self.updated_at = datetime.now()


def _retained(messages: list[dict[str, Any]], limit: int) -> list[int]:
    """Return the indexes of at most `limit` rows to keep, ascending. There must be more rows than that.

    If no user's row is among the newest, the last one is kept with the newest rows after it. Upstream keeps the rows
    that follow it and drops the newest instead.
    """
    rows = legible(messages)
    users = [index for index, row in enumerate(rows) if row.get("role") == "user"]
    start = len(rows) - limit
    question: list[int] = []
    if users and users[-1] < start:
        question = [users[-1]]
        start += 1
    else:
        start = next((index for index in users if index >= start), start)
    start += find_legal_message_start(rows[start:])
    return [*question, *range(start, len(rows))]
