"""Persistence for the sessions that AI agents leave on disk. These are its public names, loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .archive import Actions as Actions
    from .archive import Archive as Archive
    from .archive import Cancel as Cancel
    from .archive import Reader as Reader
    from .archive import Stamp as Stamp
    from .archive import Timeline as Timeline
    from .archive import never as never
    from .bundle import Manifest as Manifest
    from .bundle import read_manifest as read_manifest
    from .census import Census as Census
    from .census import Changes as Changes
    from .census import Entry as Entry
    from .census import Order as Order
    from .closing import Fate as Fate
    from .closing import Member as Member
    from .diagnosis import diagnose as diagnose
    from .errors import Busy as Busy
    from .errors import Cancelled as Cancelled
    from .errors import Damaged as Damaged
    from .errors import Misused as Misused
    from .errors import NotAnArchive as NotAnArchive
    from .errors import Refused as Refused
    from .errors import StoreError as StoreError
    from .errors import UnknownSession as UnknownSession
    from .files import PrivateFolder as PrivateFolder
    from .files import write_private as write_private
    from .folding import NOTE_BYTES as NOTE_BYTES
    from .folding import Candidate as Candidate
    from .folding import Context as Context
    from .folding import Cut as Cut
    from .folding import tokens_of as tokens_of
    from .opening import open_archive as open_archive
    from .opening import usual_places as usual_places
    from .outline import Outline as Outline
    from .plans import Action as Action
    from .plans import Close as Close
    from .plans import Compact as Compact
    from .plans import FoldPlan as FoldPlan
    from .plans import Plan as Plan
    from .plans import Progress as Progress
    from .plans import Receipt as Receipt
    from .plans import Repair as Repair
    from .plans import Restore as Restore
    from .plans import SetArchived as SetArchived
    from .plans import Settle as Settle
    from .plans import Uncompact as Uncompact
    from .powerloop.demo import write_demo as write_demo
    from .powerloop.salvage import Salvaged as Salvaged
    from .powerloop.salvage import salvage as salvage
    from .powerloop.session_store import SessionStore as SessionStore
    from .repair import Change as Change
    from .repair import Choice as Choice
    from .repair import Finding as Finding
    from .repair import Severity as Severity
    from .rows import Archived as Archived
    from .rows import ArchiveInfo as ArchiveInfo
    from .rows import Audit as Audit
    from .rows import Certainty as Certainty
    from .rows import Compaction as Compaction
    from .rows import Count as Count
    from .rows import Limits as Limits
    from .rows import Link as Link
    from .rows import Message as Message
    from .rows import Place as Place
    from .rows import Ref as Ref
    from .rows import SessionDetail as SessionDetail
    from .rows import SessionSummary as SessionSummary
    from .rows import Spot as Spot
    from .rows import State as State
    from .rows import TimelineRow as TimelineRow
    from .rows import ToolCall as ToolCall
    from .rows import Usage as Usage
    from .rows import View as View
    from .trash import Bundled as Bundled
    from .trash import bundles as bundles
    from .trash import empty_trash as empty_trash
    from .trash import export_bundle as export_bundle

_HOMES = {
    "archive": ("Actions", "Archive", "Cancel", "Reader", "Stamp", "Timeline", "never"),
    "bundle": ("Manifest", "read_manifest"),
    "census": ("Census", "Changes", "Entry", "Order"),
    "diagnosis": ("diagnose",),
    "errors": (
        "Busy",
        "Cancelled",
        "Damaged",
        "Misused",
        "NotAnArchive",
        "Refused",
        "StoreError",
        "UnknownSession",
    ),
    "files": ("PrivateFolder", "write_private"),
    "opening": ("open_archive", "usual_places"),
    "outline": ("Outline",),
    "closing": ("Fate", "Member"),
    "folding": ("NOTE_BYTES", "Candidate", "Context", "Cut", "tokens_of"),
    "plans": (
        "Action",
        "Close",
        "Compact",
        "FoldPlan",
        "Plan",
        "Progress",
        "Receipt",
        "Repair",
        "Restore",
        "SetArchived",
        "Settle",
        "Uncompact",
    ),
    "powerloop.demo": ("write_demo",),
    "powerloop.salvage": ("Salvaged", "salvage"),
    "powerloop.session_store": ("SessionStore",),
    "repair": ("Change", "Choice", "Finding", "Severity"),
    "trash": ("Bundled", "bundles", "empty_trash", "export_bundle"),
    "rows": (
        "ArchiveInfo",
        "Archived",
        "Audit",
        "Certainty",
        "Compaction",
        "Count",
        "Limits",
        "Link",
        "Message",
        "Place",
        "Ref",
        "SessionDetail",
        "SessionSummary",
        "Spot",
        "State",
        "TimelineRow",
        "ToolCall",
        "Usage",
        "View",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
