"""The characters by which lines show what something is."""

from __future__ import annotations

from sessionscope.store import Fate, Place, Severity, State

Glyph = tuple[str, str]
"""A character and the name of its style."""

NOTE = "◆"
"""A note of a compaction, and a compaction."""
COMPACTED_NOTE = "◇"
"""A note that a later compaction compacted."""
DAMAGE = "‼"
LOG = "▤"
"""A summary from a log."""
EXPANDED = "▾"
COLLAPSED = "▸"
MARKED = "▪"
"""A session that is marked."""
RANGE = "▌"
"""A row in the selected range."""
SICK = "✚"
"""A session in which the doctor found something."""
UNKNOWN_STATE = "?"
STATES = {State.ACTIVE: "●", State.COMPACTED: "○", State.DROPPED: "✕", State.HOLE: "┄", State.DAMAGED: DAMAGE}
PLACES = {Place.ORPHAN: "!", Place.SURVIVOR: "↥", Place.CYCLE: "↻"}
FATES: dict[Fate, Glyph] = {Fate.DELETED: ("✕", "damage"), Fate.DETACHED: ("↥", "note"), Fate.ROOT: ("↥", "note")}
SEVERITIES: dict[Severity, Glyph] = {
    Severity.ERROR: (DAMAGE, "damage"),
    Severity.WARNING: ("!", "note"),
    Severity.INFO: ("·", "dim"),
}
