"""The session on the screen: what is known of it so far, and the questions the panes ask about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sessionscope.store import Audit, Compaction, Limits, Outline, Ref, SessionDetail, Timeline, Usage, View

from .session_catalog import OpenedArchive


@dataclass(eq=False, repr=False)
class CurrentSession:
    """One opened session. `epoch` tells answers for it from those for what was open before."""

    epoch: int
    opened_archive: OpenedArchive
    ref: Ref
    key: int
    view: View = View.ALL
    wanted: int | None = None
    """A seq to go to as soon as the outline tells where it is."""
    only_runs: tuple[tuple[int, int], ...] | None = None
    """The runs of seqs to which the timeline is narrowed, None while it shows the view."""
    limits: Limits | None = None
    """How much the context view may hold, None for what the release itself sends."""
    outline: Outline | None = None
    audit: Audit | None = None
    detail: SessionDetail | None = None
    usage: Usage | None = None
    outline_cost: float = field(default=0.0)
    """Seconds that the last full outline took, by which the next ones are spaced."""
    missed: bool = False
    """Whether the last session table did not find it."""

    @property
    def node(self) -> int | None:
        """Its node in the library, None when it is gone. No read."""
        return self.opened_archive.find(self.key, self.ref.id)

    def rows(self) -> Timeline:
        """The timeline as it is to be shown now. Bounded reads only."""
        reader = self.opened_archive.reader
        if self.outline is None:
            self.outline = reader.outline_if_small(self.ref)
        if self.only_runs is not None and self.outline is not None:
            return reader.timeline_of_runs(self.ref, self.outline, self.only_runs)
        return reader.timeline(self.ref, self.view, self.outline, self.limits)

    def compacted_by(self, seq: int | None) -> Compaction | None:
        """The compaction in force that took a row, as far as that is known for certain."""
        if seq is None or self.audit is None:
            return None
        for compaction in self.audit.compactions:
            if (
                compaction.rows is not None
                and not compaction.undone
                and any(a <= seq <= b for a, b in compaction.set_runs)
            ):
                return compaction
        return None

    def compaction_of_note(self, note_seq: int | None) -> Compaction | None:
        """The compaction that a note stands for."""
        if note_seq is None or self.audit is None:
            return None
        return next((compaction for compaction in self.audit.compactions if compaction.note_seq == note_seq), None)
