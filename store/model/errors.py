"""What can go wrong with an archive, each as one sentence a person can act on."""

from __future__ import annotations


class StoreError(Exception):
    """An archive cannot do what was asked; the text is one sentence that says what is wrong and what to do."""


class NotAnArchive(StoreError):
    """The path is missing, or what is there holds no sessions of a known layout."""


class UnknownSession(StoreError):
    """No session, or more than one, answers to the name that was given."""


class Busy(StoreError):
    """Another process holds the archive in a way that keeps readers out, or keeps changing it."""


class Damaged(StoreError):
    """The storage itself is broken at this place: pages, not values."""


class DamagedPages(Damaged):
    """Pages of a database are broken; a salvage may save what can still be read."""


class Cancelled(StoreError):
    """The caller asked a long read to stop."""


class Misused(StoreError):
    """What was asked for makes no sense here: an unknown code or choice, an action that this archive does not have."""


class Refused(StoreError):
    """The archive is not in a state for what was asked: changed since it was planned, in use, or a turn is open."""
