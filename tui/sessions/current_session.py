"""The open session: what is known of it so far, and what of it the timeline shows."""

from __future__ import annotations

from dataclasses import dataclass

from sessionscope.store import Audit, Compaction, Limits, Outline, Ref, SessionDetail, Timeline, Usage, View

from .opened_archive import OpenedArchive

Runs = tuple[tuple[int, int], ...]
"""Runs of seqs, each with its first and its last."""


@dataclass(eq=False, repr=False)
class CurrentSession:
    """One open session. Workers send its `epoch` with their answers, which tells them from answers for another one."""

    epoch: int
    opened_archive: OpenedArchive
    ref: Ref
    key: int
    """Its storage key, which can change if the session is deleted and made again."""
    view: View = View.ALL
    only_runs: Runs | None = None
    """The runs to which the timeline is narrowed, None if it shows the whole view."""
    limits: Limits | None = None
    """The limits of the context view, None for those of the agent's own release."""
    outline: Outline | None = None
    """The order and state of its messages, None until it is read."""
    outline_seconds: float = 0.0
    """How long the last full read of the outline took."""
    audit: Audit | None = None
    detail: SessionDetail | None = None
    usage: Usage | None = None

    @property
    def node(self) -> int | None:
        """Its node in the catalog, None if it no longer exists. Reads nothing."""
        return self.opened_archive.find(self.key, self.ref.id)

    # -- what is shown of it

    def show_view(self, view: View) -> None:
        """Choose a view, and show all of it."""
        self.view, self.only_runs = view, None

    def narrow_to(self, runs: Runs | None) -> None:
        """Show only some runs of seqs, or with None the whole view again."""
        self.only_runs = runs

    def limit_context(self, limits: Limits | None) -> None:
        """Choose the limits of the context view."""
        self.limits = limits

    def rows(self) -> Timeline:
        """Return the timeline that is to be shown, with bounded reads. Raises StoreError."""
        reader = self.opened_archive.reader
        if self.outline is None:
            self.outline = reader.outline_if_small(self.ref)
        if self.only_runs is not None and self.outline is not None:
            return reader.timeline_of_runs(self.ref, self.outline, self.only_runs)
        return reader.timeline(self.ref, self.view, self.outline, self.limits)

    # -- what was read of it

    def replace_key(self, key: int) -> None:
        """Go on with a session that was made again under the same id."""
        self.key, self.outline = key, None

    def outline_read(self, outline: Outline, seconds: float) -> bool:
        """Keep an outline and how long it took. Return whether it differs from the one before."""
        changed = self.outline != outline
        self.outline, self.outline_seconds = outline, seconds
        return changed

    def grow(self) -> bool:
        """Add what was appended to the outline, with a bounded read. Return False if that needs a full read.

        Raises StoreError.
        """
        grown = None if self.outline is None else self.opened_archive.reader.grown(self.ref, self.outline)
        if grown is None:
            return False
        self.outline = grown
        return True

    def session_read(self, audit: Audit | None, detail: SessionDetail | None, usage: Usage | None) -> None:
        """Keep the compactions, the bookkeeping and the usage."""
        self.audit, self.detail, self.usage = audit, detail, usage

    # -- questions about its compactions

    def compacted_by(self, seq: int | None) -> Compaction | None:
        """Return the compaction in force that compacted a message, if it is known for certain which one did."""
        if seq is None or self.audit is None:
            return None
        for compaction in self.audit.compactions:
            in_force = compaction.rows is not None and not compaction.undone
            if in_force and any(first <= seq <= last for first, last in compaction.set_runs):
                return compaction
        return None

    def compaction_of_note(self, note_seq: int | None) -> Compaction | None:
        """Return the compaction that a note stands for."""
        if note_seq is None or self.audit is None:
            return None
        return next((compaction for compaction in self.audit.compactions if compaction.note_seq == note_seq), None)
