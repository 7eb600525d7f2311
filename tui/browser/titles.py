"""The titles of the panes, as spans of text and style. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sessionscope.store import Audit, Limits, View
from sessionscope.tui.sessions.current_session import CurrentSession
from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.sessions.session_catalog import SessionCatalog
from sessionscope.tui.text import glyphs
from sessionscope.tui.text.clock import human
from sessionscope.tui.text.fitting import one_line

Span = tuple[str, str] | tuple[str, str, str]
"""A text, its style, and maybe the action that a click on it does."""
Title = tuple[Sequence[Span], Sequence[Span]]
"""What a title shows at the left, and what at the right."""
VIEWS = {View.ALL: "all", View.ACTIVE: "active", View.COMPACTED: "compacted", View.CONTEXT: "context"}
"""The views in the order of their keys, with their names in the title of the timeline."""
ROOMY_CELLS = 72
"""From this width on, the timeline's title has room for the names of all views."""


def archive_title(opened_archive: OpenedArchive) -> Title:
    """Return the title of the screen: which archive it is and how it is read."""
    info = opened_archive.archive.info
    number = len(opened_archive.session_table)
    count = f"{number} session{'s' if number != 1 else ''}" if opened_archive.complete else "counting sessions…"
    left = [
        (" sessionscope  ", "tab"),
        (one_line(opened_archive.name), "strong"),
        (f"  {info.format} · {count}", "dim"),
    ]
    if info.warning:
        left.append((f"  {glyphs.DAMAGE} {info.warning}", "damage"))
    copy = opened_archive.archive.aside
    return left, [(f"private copy: {copy} ", "note") if copy else ("live ◌ ", "dim")]


def tree_title(catalog: SessionCatalog) -> Title:
    """Return the title of the session tree, with the filter and the order."""
    left = [(" SESSIONS", "strong")]
    if catalog.words:
        left.append((f"  /{one_line(' '.join(catalog.words))}", "note"))
    return left, [(f"by {catalog.order} ", "dim", "screen.sort")]


def previews_title(count: int) -> Title:
    """Return the title of the previews, with how many there are."""
    return [(" PREVIEWS", "strong")], [(f"{count} ", "dim")]


def timeline_title(
    session: CurrentSession | None, title: str, marked: tuple[int, int] | None, cells: int, position: str
) -> Title:
    """Return the title of the timeline: the session's own, what narrows it, its views, and the cursor's position.

    `marked` are the first and last index of the marked messages, and `cells` is the width of the pane.
    """
    if session is None:
        return [(" TIMELINE", "strong")], []
    right: list[Span] = []
    if session.only_runs is not None:
        right.append((" folded rows, esc: all ", "note", "screen.leave"))
    if marked is not None:
        right.append((f" {marked[1] - marked[0] + 1} marked, c compacts ", "note", "screen.compact"))
    roomy = cells >= ROOMY_CELLS
    # Beside such a word, only a wide screen has room for the views.
    if roomy or not right:
        for number, (view, name) in enumerate(VIEWS.items(), 1):
            shown = view is session.view and session.only_runs is None
            full_name = f"{name} {limits_text(session.limits)}".rstrip() if view is View.CONTEXT else name
            label = f"{number} {full_name}" if shown or roomy else str(number)
            right += [(label, "current" if shown else "dim", f"screen.view('{view}')"), (" ", "")]
    right.append((f" {position} ", "dim"))
    return [(f" {title}", "strong")], right


def compactions_title(audit: Audit | None) -> Title:
    """Return the title of the compactions, with how many were not undone."""
    left = [(" COMPACTIONS", "strong")]
    if audit is None:
        return left, [("", "dim")]
    return left, [(f"{sum(not compaction.undone for compaction in audit.compactions)} ", "dim")]


def inspector_title(subject: str, mode: str) -> Title:
    """Return the title of the inspector: what it shows, and how."""
    return [(f" {subject.upper()}", "strong")], [(f"{mode} ", "dim", "screen.mode")]


def limits_text(limits: Limits | None) -> str:
    """Return the limits of the context view in the few cells of a tab."""
    if limits is None:
        return ""
    tokens = f", {human(limits.tokens)} tokens" if limits.tokens else ""
    return f"(≤{limits.messages}{tokens})" if limits.messages else f"(no limit{tokens})"
