"""Sessions, archives and bundles as lines of spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from sessionscope.store import Bundled, Member, Place, SessionSummary, Severity

from . import glyphs
from .clock import ago
from .fitting import Span, between, fit, one_line

if TYPE_CHECKING:
    from sessionscope.tui.sessions.opened_archive import OpenedArchive

KIND_STYLES = {"fork": "accent", "leftover": "note"}
KIND_CHARS = 9
"""How many characters of a kind or lifecycle are shown."""
LEAST_TREE_CELLS = 20
"""How many cells of a tree's width are never used for indenting."""
DEEPEST_INDENT = 12
"""How deep sessions of a plan are indented at most."""
TITLE_CELLS = 40
"""How many cells the title of a session of a plan has at most."""


def title_of(summary: SessionSummary) -> str:
    """Return what a session is called: its title, else its first words."""
    return one_line(summary.title or summary.preview or "(empty)")


def archive_line(opened_archive: OpenedArchive, expanded: bool, width: int) -> list[Span]:
    """Return an archive as a top node of the tree."""
    count = str(len(opened_archive.session_table)) if opened_archive.complete else "…"
    right = f" {count} "
    name = f"{_arrow(expanded)}{one_line(opened_archive.name)}"
    style = "damage" if opened_archive.archive.info.warning else "title"
    return [(fit(name, width - len(right)), style), (right, "dim")]


def group_line(name: str, depth: int, expanded: bool, count: int, width: int) -> list[Span]:
    """Return a group of sessions, such as those of one channel."""
    right = f" {count} "
    left = f"{'  ' * depth}{_arrow(expanded)}{one_line(name)}"
    return [(fit(left, width - len(right)), "strong"), (right, "dim")]


def _arrow(expanded: bool | None) -> str:
    """Return whether children are shown; None means that there are none."""
    if expanded is None:
        return "  "
    return f"{glyphs.EXPANDED if expanded else glyphs.COLLAPSED} "


def tree_line(
    summary: SessionSummary | None,
    place: Place,
    depth: int,
    expanded: bool | None,
    children: int,
    width: int,
    sick: Severity | None = None,
    marked: bool = False,
) -> list[Span]:
    """Return a session in the tree.

    `expanded` is None without children, else whether they are shown. `sick` is the worst severity that the doctor
    found.
    """
    indent = "  " * min(depth, max(0, (width - LEAST_TREE_CELLS) // 2))
    if summary is None:
        return [(fit(f"{indent}{_arrow(expanded)}…", width), "dim")]
    left: list[Span] = [(indent, ""), (_arrow(expanded), "accent"), *_signs(summary, place, sick, marked)]
    left += _kind(summary)
    faint = summary.status == "archived" or not summary.message_count.value
    left.append((title_of(summary), "dim" if faint else ""))
    right = _counts(summary)
    if expanded is False:
        right.insert(0, (f" +{children}", "accent"))
    return between(left, right, width)


def _signs(summary: SessionSummary, place: Place, sick: Severity | None, marked: bool) -> list[Span]:
    """Return the signs before a session: marked, lost its parent, damaged, found by the doctor."""
    signs: list[Span] = []
    if marked:
        signs.append((f"{glyphs.MARKED} ", "note"))
    if place in glyphs.PLACES:
        signs.append((f"{glyphs.PLACES[place]} ", "damage" if place is not Place.SURVIVOR else "note"))
    if summary.damage:
        signs.append((f"{glyphs.DAMAGE} ", "damage"))
    if sick in (Severity.ERROR, Severity.WARNING):
        signs.append((f"{glyphs.SICK} ", glyphs.SEVERITIES[sick][1]))
    return signs


def _kind(summary: SessionSummary) -> list[Span]:
    """Return the status and the kind of a session, as far as they are not the usual ones."""
    archived = summary.status == "archived"
    spans: list[Span] = [("archived · ", "dim")] if archived else []
    if summary.kind == "subagent":
        spans.append((f"{one_line(summary.lifecycle)[:KIND_CHARS]} · ", "dim" if archived else "accent"))
    elif summary.kind != "root":
        spans.append((f"{one_line(summary.kind)[:KIND_CHARS]} · ", KIND_STYLES.get(summary.kind, "dim")))
    return spans


def _counts(summary: SessionSummary) -> list[Span]:
    compactions = f"{glyphs.NOTE}{summary.compaction_count}" if summary.compaction_count else ""
    return [
        (f" {compactions}" if compactions else "", "note"),
        (f" {summary.message_count!s:>4}", ""),
        (f" {ago(summary.updated_at):>3} ", "dim"),
    ]


def preview_line(summary: SessionSummary | None, line: int, width: int, marked: bool = False) -> list[Span]:
    """Return a session in the previews: title and counts, then the preview."""
    if summary is None:
        return [("…" if line == 0 else "", "dim")]
    right = _counts(summary)
    title, words = one_line(summary.title or ""), one_line(summary.preview)
    if not title and words:
        # Without a title, the first line is the beginning of the preview, and the second continues it.
        title, words = _broken(words, width - sum(cell_len(text) for text, _ in right) - 2)
    if line == 0:
        style = "dim" if summary.status == "archived" else "strong"
        marks: list[Span] = [(f" {glyphs.MARKED}", "note")] if marked else []
        marks += [(f" {glyphs.DAMAGE}", "damage")] if summary.damage else []
        return between([*marks, (f" {title or '(empty)'}", style)], right, width)
    return [(fit(f"   {words or one_line(summary.ref.id)}", width - 1), "dim")]


def bundle_line(bundle: Bundled, line: int, width: int) -> list[Span]:
    """Return a bundle: what and how much of it, then its first words or the reason."""
    if line == 0:
        count = len(bundle.sessions)
        kind = "" if bundle.kind == "trash" else f"{one_line(bundle.kind)} · "
        many = f" {count} {'session' if count == 1 else 'sessions'}" if count else ""
        right: list[Span] = [
            (many, "accent"),
            (f" {size_of(bundle.size):>7}", ""),
            (f" {ago(bundle.kept_at):>3} ", "dim"),
        ]
        return between([(f" {kind}", "note"), (one_line(bundle.what) or "(empty)", "strong")], right, width)
    first = bundle.sessions[0] if bundle.sessions else {}
    words = one_line(str(first.get("preview") or bundle.why))
    return [(fit(f"   {words}", width - 1), "dim")]


def size_of(size: int) -> str:
    """Return bytes for people."""
    for unit in ("B", "kB", "MB"):
        if size < 1_000:
            return f"{size} {unit}"
        size //= 1_000
    return f"{size} GB"


def member_spans(member: Member) -> list[Span]:
    """Return a session of a plan: what happens to it, at its place in the tree."""
    glyph, style = glyphs.FATES[member.fate]
    kind = f"{one_line(member.lifecycle)[:KIND_CHARS]} · " if member.lifecycle and member.depth else ""
    words = one_line(member.title or member.preview or "(empty)")
    words = fit(words, min(cell_len(words), TITLE_CELLS))
    return [
        ("  " * min(member.depth, DEEPEST_INDENT), ""),
        (f"{glyph} ", style),
        (kind, "accent"),
        (words, ""),
        (f"  {member.messages}", ""),
        (f"  {member.why}", "dim"),
    ]


def _broken(text: str, width: int) -> tuple[str, str]:
    """Return text up to the last space that fits, and the rest."""
    if cell_len(text) <= width:
        return text, ""
    head = set_cell_size(text, max(1, width)).rstrip()
    words = head.rpartition(" ")[0]
    # A long last word is broken rather than leaving most of the line empty.
    words = words if cell_len(words) * 2 > width else head
    return words, text[len(words) :].lstrip()
