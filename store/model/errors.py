"""The errors of the store. The text of each is one sentence that a user can act on."""

from __future__ import annotations


class StoreError(Exception):
    """An archive cannot do what was asked. The text is one sentence that says what is wrong and what to do."""


class NotAnArchive(StoreError):
    """The path does not exist, or what is there holds no sessions of a known layout."""


class UnknownSession(StoreError):
    """No session, or more than one, has the given name."""


class Busy(StoreError):
    """Another process locks the archive against readers, or keeps changing it."""


class Damaged(StoreError):
    """The storage itself is broken here: pages, not values."""


class DamagedPages(Damaged):
    """Pages of a database are broken. A salvage may save what can still be read."""


class Cancelled(StoreError):
    """The caller asked a long read to stop."""


class Misused(StoreError):
    """What was asked for makes no sense here: an unknown code or choice, an action that this archive does not have."""


class Refused(StoreError):
    """The archive is not in the state that the action needs: it has changed, is in use, or a turn is unfinished."""
