"""What an archive is, and what it is capable of."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Capability(StrEnum):
    """What an archive may offer beyond reading its sessions."""

    LIMITS = "limits"
    """The context view takes limits of messages and tokens."""
    COMPACT = "compact"
    CLOSE = "close"
    ARCHIVE = "archive"
    """Sessions can be marked as archived, or as active again."""
    SETTLE = "settle"
    REPAIR = "repair"
    RESTORE = "restore"
    """What a change replaced or removed is backed up and can be restored."""


WRITES = frozenset(Capability) - {Capability.LIMITS}
"""Capabilities that change the archive."""
_CANNOT = {
    Capability.LIMITS: "have no context limits",
    Capability.COMPACT: "cannot be compacted",
    Capability.CLOSE: "cannot be moved to the trash",
    Capability.ARCHIVE: "cannot be marked as archived",
    Capability.SETTLE: "cannot be settled",
    Capability.REPAIR: "cannot be repaired",
    Capability.RESTORE: "cannot be restored",
}


class ArchiveInfo(Struct, frozen=True):
    """What an archive is. `format` reads like "power-loop 0.2.0-0.3.x"."""

    location: str
    name: str
    format: str
    sessions: str
    """What a sentence calls the sessions of this format, such as "nanobot sessions"."""
    layout: str
    capabilities: frozenset[Capability] = frozenset()
    """What this format offers, whether or not this archive may be written now."""
    warning: str | None = None
    """What a user should know before trusting what is shown of this archive."""
    root: str = ""
    """The file or folder next to which its trash and backups are stored."""
    read_only: str = ""
    """Why nothing in this archive may be changed now, as a sentence; "" if it may, or if the format is read-only."""

    def lacks(self, capability: Capability) -> str:
        """Return why this format never offers something, as a sentence; "" if it does."""
        if capability in self.capabilities:
            return ""
        if capability in WRITES and not self.capabilities & WRITES:
            return f"{self.sessions} are read-only."
        return f"{self.sessions} {_CANNOT[capability]}."
