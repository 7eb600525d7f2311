"""Persistence for the sessions that AI agents leave on disk.

These are its public names, each loaded on first use. `__init__.pyi` names them for type checkers and is written by
`python -m tests.public_names`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

PUBLIC = {
    "protocols": (
        "Actions",
        "Archive",
        "Cancel",
        "Format",
        "Reader",
        "Stamp",
        "Timeline",
        "Zone",
        "actions_for",
        "never",
    ),
    "io.bundle": ("Manifest", "read_manifest"),
    "model.session_table": ("SessionTable", "Changes", "TableEntry", "Order"),
    "diagnosis": ("diagnose",),
    "model.errors": (
        "Busy",
        "Cancelled",
        "Damaged",
        "Misused",
        "NotAnArchive",
        "Refused",
        "StoreError",
        "UnknownSession",
    ),
    "io.clock": ("now_ms",),
    "io.files": ("PrivateFolder", "write_private"),
    "model.archive_info": ("ArchiveInfo", "Capability"),
    "model.context": ("Candidate", "Context", "Cut", "tokens_of"),
    "rules.compaction_planning": (
        "NOTE_BYTES",
        "plan_cut",
        "propose_range",
        "stored_range",
        "usual_exchanges",
        "range_or_proposal",
    ),
    "read_only": ("ReadOnlyArchive", "ReadOnlyReader", "Rows"),
    "registry": ("open_archive", "register", "usual_places"),
    "rules.message_rows": ("message_of", "piece_of", "row_of", "session_of"),
    "model.outline": ("Outline", "runs_of"),
    "model.plans": (
        "Action",
        "Close",
        "Compact",
        "Fate",
        "CompactionPlan",
        "Member",
        "Plan",
        "Progress",
        "Receipt",
        "Repair",
        "Restore",
        "SetArchived",
        "Settle",
        "Uncompact",
        "needed",
    ),
    "powerloop.demo.writer": ("write_demo",),
    "powerloop.salvage.rebuild": ("Salvaged", "salvage"),
    "powerloop.dropin.session_store": ("SessionStore",),
    "model.findings": ("Change", "Choice", "Finding", "Severity"),
    "model.rows": (
        "Archived",
        "Audit",
        "Certainty",
        "Compaction",
        "Count",
        "Limits",
        "Link",
        "Message",
        "NoteSpan",
        "Place",
        "Ref",
        "SessionDetail",
        "SessionSummary",
        "Spot",
        "State",
        "TimelineRow",
        "ToolCall",
        "Usage",
        "UsageRound",
        "View",
    ),
    "trash": ("Bundled", "bundles", "empty_trash", "export_bundle"),
}
"""The public names, by the module that defines them."""

_HOME = {name: home for home, names in PUBLIC.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
