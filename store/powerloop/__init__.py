"""power-loop databases: read as an archive, and written by the drop-in `SessionStore` and its companions.

The names that this package exports are upstream's. They are imported on first use, since readers need none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dropin.session_store import DEFAULT_DB_PATH as DEFAULT_DB_PATH
    from .dropin.session_store import MAX_SPAWN_DEPTH as MAX_SPAWN_DEPTH
    from .dropin.session_store import SCHEMA_SQL as SCHEMA_SQL
    from .dropin.session_store import CompactionRow as CompactionRow
    from .dropin.session_store import Counts as Counts
    from .dropin.session_store import Descendant as Descendant
    from .dropin.session_store import MessageRow as MessageRow
    from .dropin.session_store import MessageState as MessageState
    from .dropin.session_store import NewMessage as NewMessage
    from .dropin.session_store import Page as Page
    from .dropin.session_store import SessionKind as SessionKind
    from .dropin.session_store import SessionRow as SessionRow
    from .dropin.session_store import SessionStateRow as SessionStateRow
    from .dropin.session_store import SessionStatus as SessionStatus
    from .dropin.session_store import SessionStore as SessionStore
    from .dropin.session_store import SubagentLifecycle as SubagentLifecycle
    from .dropin.session_store import UsageRow as UsageRow

__all__ = [
    "DEFAULT_DB_PATH",
    "MAX_SPAWN_DEPTH",
    "SCHEMA_SQL",
    "CompactionRow",
    "Counts",
    "Descendant",
    "MessageRow",
    "MessageState",
    "NewMessage",
    "Page",
    "SessionKind",
    "SessionRow",
    "SessionStateRow",
    "SessionStatus",
    "SessionStore",
    "SubagentLifecycle",
    "UsageRow",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(".dropin.session_store", __name__), name)
    globals()[name] = value
    return value
