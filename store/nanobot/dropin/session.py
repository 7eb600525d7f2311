"""A drop-in for nanobot 0.2.0's `Session`, and the helpers around it under the names that callers import.

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
"""How many rows a session keeps unless a caller asks for another number."""

_sanitize_assistant_replay_text = sanitize
_text_preview = preview
_message_preview_text = message_preview


def safe_filename(name: str) -> str:
    """Return a name with each character that a file system may refuse replaced by "_", and without blanks around it.

    Several names may give the same result, and it may be empty.
    """
    return safe_name(name)


def safe_key(key: str) -> str:
    """Return the stem of the file of a session's key in 0.2.0's layout. Several keys may share one."""
    return safe_name(key)


class SessionChanged(OSError):
    """A session's file is not what the session was loaded from, and was not changed. The text says what to do."""


@dataclass
class Session:
    """A conversation of nanobot's: its rows, and how many of the first are consolidated into its memory.

    Fields are taken as they come. Nothing in a row breaks a method. An impossible `last_consolidated` (no integer,
    negative, beyond the last row) counts as 0. Times are local, without a zone.
    """

    key: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    created_at: datetime = field(default_factory=datetime.now)
    updated_at: datetime = field(default_factory=datetime.now)
    metadata: dict[str, Any] = field(default_factory=dict)
    last_consolidated: int = 0

    _annotate_message_time = staticmethod(annotate_message_time)

    def add_message(self, role: str, content: str, **kwargs: Any) -> None:
        """Add a row with the present time after the others. `kwargs` are more of its fields, and may set the time."""
        now = datetime.now()
        self.messages.append({"role": role, "content": content, "timestamp": now.isoformat(), **kwargs})
        self.updated_at = now

    def get_history(
        self, max_messages: int = WINDOW, *, max_tokens: int = 0, include_timestamps: bool = False
    ) -> list[dict[str, Any]]:
        """Return the messages that the model would be sent of those not yet consolidated, oldest first.

        At most `max_messages` rows are used (0 and less mean 120). Of their messages, the newest that fit `max_tokens`
        are kept (0 and less: all), at least one. `include_timestamps` writes its time above a user's text. Values are
        those of the rows, not copies.
        """
        waiting = self.messages[self._consolidated() :]
        return history(waiting, max_messages, max_tokens=max_tokens, include_timestamps=include_timestamps)

    def clear(self) -> None:
        """Drop all rows, and the summary of earlier ones. Other metadata stays."""
        self.messages = []
        self.last_consolidated = 0
        self.updated_at = datetime.now()
        if isinstance(self.metadata, MutableMapping):
            self.metadata.pop("_last_summary", None)

    def retain_recent_legal_suffix(self, max_messages: int) -> None:
        """Keep at most so many of the newest rows, from a user's on, and no tool result without its call before it.

        If the turn under way is longer, the question that began it is kept, with the newest rows since. 0 and less
        clear the session. If there are no more rows than that, nothing happens.
        """
        if max_messages <= 0:
            self.clear()
        elif len(self.messages) > max_messages:
            self._keep(_retained(self.messages, max_messages))

    def enforce_file_cap(
        self, on_archive: Callable[[list[dict[str, Any]]], object] | None = None, limit: int = FILE_MAX_MESSAGES
    ) -> None:
        """Drop rows as `retain_recent_legal_suffix(limit)` does, and give `on_archive` those that are lost.

        That is one call with each dropped row that was not consolidated, oldest first; no call if there is none. If it
        raises, the session is unchanged. A `limit` of 0 and less is no limit.
        """
        if limit <= 0 or len(self.messages) <= limit:
            return
        before = self.messages, self.last_consolidated, self.updated_at
        kept, known = _retained(self.messages, limit), self._consolidated()
        staying = set(kept)
        lost = [row for at, row in enumerate(self.messages) if at >= known and at not in staying]
        try:
            # The callback sees the session without them, as upstream's does.
            self._keep(kept)
            if lost and on_archive:
                on_archive(lost)
        except BaseException:
            self.messages, self.last_consolidated, self.updated_at = before
            raise

    def _consolidated(self) -> int:
        return consolidated(self.last_consolidated, len(self.messages))

    def _keep(self, kept: list[int]) -> None:
        known = self._consolidated()
        self.messages = [self.messages[at] for at in kept]
        self.last_consolidated = sum(at < known for at in kept)
        self.updated_at = datetime.now()


def _retained(messages: list[dict[str, Any]], limit: int) -> list[int]:
    """Return the indexes of at most `limit` rows to keep, ascending. There must be more rows than that.

    If no user's row is among the newest, upstream keeps the rows after the last one and drops the newest instead.
    """
    rows = legible(messages)
    users = [at for at, row in enumerate(rows) if row.get("role") == "user"]
    start = len(rows) - limit
    lead = users[-1:] if users and users[-1] < start else []
    start = start + 1 if lead else next((at for at in users if at >= start), start)
    start += find_legal_message_start(rows[start:])
    return [*lead, *range(start, len(rows))]
