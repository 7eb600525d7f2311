"""nanobot's session folders, and drop-ins for nanobot's `Session` and `SessionManager`.

The drop-ins are imported on first use, since reading an archive does not need them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dropin.row_lines import Unwritable as Unwritable
    from .dropin.session import FILE_MAX_MESSAGES as FILE_MAX_MESSAGES
    from .dropin.session import Session as Session
    from .dropin.session import estimate_message_tokens as estimate_message_tokens
    from .dropin.session import find_legal_message_start as find_legal_message_start
    from .dropin.session import image_placeholder_text as image_placeholder_text
    from .dropin.session import message_preview as message_preview
    from .dropin.session import safe_filename as safe_filename
    from .dropin.session import safe_key as safe_key
    from .dropin.session import scrub_subagent_announce_body as scrub_subagent_announce_body
    from .dropin.session import without_runtime_context as without_runtime_context
    from .dropin.session_manager import SessionChanged as SessionChanged
    from .dropin.session_manager import SessionManager as SessionManager

__all__ = [
    "FILE_MAX_MESSAGES",
    "Session",
    "SessionChanged",
    "SessionManager",
    "Unwritable",
    "estimate_message_tokens",
    "find_legal_message_start",
    "image_placeholder_text",
    "message_preview",
    "safe_filename",
    "safe_key",
    "scrub_subagent_announce_body",
    "without_runtime_context",
]
_MODULES = {"SessionChanged": "session_manager", "SessionManager": "session_manager", "Unwritable": "row_lines"}
"""The modules of the names that are not in `dropin.session`."""


def __getattr__(name: str) -> Any:
    """Import a public name on its first use. Raises AttributeError for any other."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".dropin.{_MODULES.get(name, 'session')}", __name__), name)
    globals()[name] = value
    return value
