"""Rows and sessions as lines of spans: text with the name of a style. Hostile text is made harmless here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from sessionscope.store import (
    Archived,
    Bundled,
    Certainty,
    Compaction,
    Fate,
    Finding,
    Member,
    Place,
    SessionSummary,
    Severity,
    Spot,
    State,
    TimelineRow,
)

from .clock import ago, human
from .visible import visible

if TYPE_CHECKING:
    from sessionscope.tui.sessions.opened_archive import OpenedArchive

Span = tuple[str, str]

GLYPHS = {State.ACTIVE: "●", State.COMPACTED: "○", State.DROPPED: "✕", State.HOLE: "┄", State.DAMAGED: "‼"}
MARKED, RANGE, FATES = "▪", "▌", {Fate.DELETED: ("✕", "damage"), Fate.DETACHED: ("↥", "note"), Fate.ROOT: ("↥", "note")}
NOTE, DAMAGE, EXPANDED, COLLAPSED, UNKNOWN_STATE, LOG = "◆", "‼", "▾", "▸", "?", "▤"
ROLES = {"user": "user", "assistant": "agent", "tool": "tool", "system": "sys"}
KINDS = {"fork": "accent", "leftover": "note"}
PLACES = {Place.ORPHAN: "!", Place.SURVIVOR: "↥", Place.CYCLE: "↻"}
ROLE_WIDTH, SIZE_WIDTH, WIDE, WIDER = 5, 5, 64, 92


def one_line(text: str) -> str:
    """Return text as a single visible line: white space joined, control characters shown."""
    return visible(" ".join(text.split()))


def fit(text: str, width: int) -> str:
    """Return text in exactly `width` cells, cut with an ellipsis or padded."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width)


def title_of(summary: SessionSummary) -> str:
    """Return what a session is called: its title, else its first words."""
    return one_line(summary.title or summary.preview or "(empty)")


# -- sessions


def archive_line(opened_archive: OpenedArchive, expanded: bool, width: int) -> list[Span]:
    """Return an archive as a top node of the tree."""
    count = str(len(opened_archive.session_table)) if opened_archive.complete else "…"
    right = f" {count} "
    name = f"{EXPANDED if expanded else COLLAPSED} {one_line(opened_archive.name)}"
    style = "damage" if opened_archive.archive.info.warning else "title"
    return [(fit(name, width - len(right)), style), (right, "dim")]


def group_line(name: str, depth: int, expanded: bool, count: int, width: int) -> list[Span]:
    """Return a group of sessions, such as those of one channel."""
    indent = "  " * depth
    right = f" {count} "
    return [
        (fit(f"{indent}{EXPANDED if expanded else COLLAPSED} {one_line(name)}", width - len(right)), "strong"),
        (right, "dim"),
    ]


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
    indent = "  " * min(depth, max(0, (width - 20) // 2))
    mark = "  " if expanded is None else f"{EXPANDED if expanded else COLLAPSED} "
    if summary is None:
        return [(fit(f"{indent}{mark}…", width), "dim")]
    archived = summary.status == "archived"
    spans: list[Span] = [(indent, ""), (mark, "accent")]
    if marked:
        spans.append((f"{MARKED} ", "note"))
    if place in PLACES:
        spans.append((f"{PLACES[place]} ", "damage" if place is not Place.SURVIVOR else "note"))
    if summary.damage:
        spans.append((f"{DAMAGE} ", "damage"))
    if sick in (Severity.ERROR, Severity.WARNING):
        spans.append((f"{SICK} ", SEVERITIES[sick][1]))
    if archived:
        spans.append(("archived · ", "dim"))
    if summary.kind == "subagent":
        spans.append((f"{one_line(summary.lifecycle)[:9]} · ", "dim" if archived else "accent"))
    elif summary.kind != "root":
        spans.append((f"{one_line(summary.kind)[:9]} · ", KINDS.get(summary.kind, "dim")))
    right = _counts(summary)
    if expanded is False:
        right.insert(0, (f" +{children}", "accent"))
    plain = "dim" if archived or not summary.message_count.value else ""
    return _between([*spans, (title_of(summary), plain)], right, width)


def _counts(summary: SessionSummary) -> list[Span]:
    compactions = f"{NOTE}{summary.compaction_count}" if summary.compaction_count else ""
    return [
        (f" {compactions}" if compactions else "", "note"),
        (f" {summary.message_count!s:>4}", ""),
        (f" {ago(summary.updated_at):>3} ", "dim"),
    ]


def _between(left: list[Span], right: list[Span], width: int) -> list[Span]:
    """Return the left spans, cut or padded to the room that the right ones leave."""
    used = sum(cell_len(text) for text, _ in right)
    if width < used + 10:
        right, used = [], 0
    spans: list[Span] = []
    room = width - used
    for at, (text, style) in enumerate(left):
        size = cell_len(text)
        if at == len(left) - 1 or size > room:
            spans.append((fit(text, room), style))
            room = 0
            break
        spans.append((text, style))
        room -= size
    return [*spans, (" " * room, ""), *right]


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
        marks: list[Span] = [(f" {MARKED}", "note")] if marked else []
        marks += [(f" {DAMAGE}", "damage")] if summary.damage else []
        return _between([*marks, (f" {title or '(empty)'}", style)], right, width)
    return [(fit(f"   {words or one_line(summary.ref.id)}", width - 1), "dim")]


def bundle_line(found: Bundled, line: int, width: int) -> list[Span]:
    """Return a bundle: what and how much of it, then its first words or the reason."""
    if line == 0:
        count = len(found.sessions)
        kind = "" if found.kind == "trash" else f"{one_line(found.kind)} · "
        many = f" {count} {'session' if count == 1 else 'sessions'}" if count else ""
        right: list[Span] = [
            (many, "accent"),
            (f" {size_of(found.size):>7}", ""),
            (f" {ago(found.kept_at):>3} ", "dim"),
        ]
        return _between([(f" {kind}", "note"), (one_line(found.what) or "(empty)", "strong")], right, width)
    first = found.sessions[0] if found.sessions else {}
    words = one_line(str(first.get("preview") or found.why))
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
    glyph, style = FATES[member.fate]
    kind = f"{one_line(member.lifecycle)[:9]} · " if member.lifecycle and member.depth else ""
    words = one_line(member.title or member.preview or "(empty)")
    words = fit(words, min(cell_len(words), 40))
    return [
        ("  " * min(member.depth, 12), ""),
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


# -- timeline


def timeline_line(
    row: TimelineRow, width: int, digits: int, last_of_pair: bool, unanswered: bool, marked: bool = False
) -> list[Span]:
    """Return a message in one line: seq, state, pair, role, round or tool, first words, size."""
    if row.hole is not None:
        return _hole_line(row.hole, width, digits, marked)
    note = row.note is not None
    glyph, style = _glyph(row)
    compacted = row.state not in (State.ACTIVE, "")
    plain = "compacted" if compacted else ""
    gutter = "╭" if row.calls else ("╰" if last_of_pair else "├") if row.role == "tool" else " "
    # A role is free text in the file, so a hostile one must not widen its column.
    role = fit(one_line(ROLES.get(row.role, row.role)), ROLE_WIDTH)
    seq = str(row.seq) if row.seq is not None else f"L{row.line}" if row.line is not None else "?"
    left: list[Span] = [
        (f"{seq:>{digits}}", "compacted" if compacted else "dim"),
        (RANGE if marked else " ", "note"),
        (glyph, style),
        (f"{gutter}", "dim"),
        (f"{role} ", "note" if note else plain or _role_style(row.role)),
    ]
    if width >= WIDE:
        label = fit(_label(row), 12 if width >= WIDER else 9)
        left.append((f"{label} ", "note" if note else "compacted" if compacted else "dim"))
    elif row.label:
        left.append((f"{one_line(row.label)} ", "compacted" if compacted else "accent"))
    for damage in row.damage:
        # The line number is shown instead of the seq already, and leaves room for the text.
        words = one_line(damage.removeprefix(f"line {row.line}: "))
        words = fit(words, width // 3).rstrip() if row.head and cell_len(words) > width // 3 else words
        left.append((f"{DAMAGE} {words} ", "damage"))
    if row.tools:
        left.append((f"{', '.join(one_line(tool) for tool in row.tools)} ", plain or "accent"))
    if unanswered:
        left.append(("⚠ unanswered ", "damage"))
    right: list[Span] = [(f" {human(row.size):>{SIZE_WIDTH - 1}} ", "compacted" if compacted else "dim")]
    if width < 40:
        right = []
    return _between([*left, (one_line(row.head), plain)], right, width)


def _role_style(role: str) -> str:
    return {"user": "title", "assistant": "strong"}.get(role, "dim")


def _glyph(row: TimelineRow) -> Span:
    if row.damage:
        return DAMAGE, "damage"
    if row.note is not None:
        return (NOTE, "note") if row.state == State.ACTIVE else ("◇", "compacted")
    if not row.state:
        return " ", "dim"
    if row.state in GLYPHS:
        style = {State.ACTIVE: "title", State.DROPPED: "damage"}.get(State(row.state), "compacted")
        return GLYPHS[State(row.state)], style
    return UNKNOWN_STATE, "damage"


def _label(row: TimelineRow) -> str:
    if row.label:
        return one_line(row.label)
    if row.note is not None:
        if row.note.from_seq is None or row.note.to_seq is None:
            return "note"
        return f"{row.note.from_seq}-{row.note.to_seq}"
    if row.role == "tool" and row.name:
        return one_line(row.name)
    if row.name and row.role != "assistant":
        return one_line(row.name)
    return f"r{row.round_index}" if row.round_index is not None else ""


def _hole_line(hole: tuple[int, int], width: int, digits: int, marked: bool) -> list[Span]:
    first, last = hole
    count = last - first + 1
    words = f" {count} rows are gone, {first} to {last} " if count > 1 else f" row {first} is gone "
    line = fit(f"┄┄{words}" + "┄" * width, width - digits - 2)
    return [(" " * digits, ""), (RANGE if marked else " ", "note"), (line, "hole")]


# -- compactions


def audit_lines(compaction: Compaction, width: int) -> tuple[list[Span], list[Span], list[Span]]:
    """Return a compaction in three lines: what was compacted into which note; rows and tokens; the saving and
    anomalies.
    """
    into = "summary" if compaction.note is not None and compaction.note_seq is None else _seq(compaction.note_seq)
    gone = compaction.from_seq is None and compaction.note is not None
    span = f"gone rows → {into}" if gone else f"{_seq(compaction.from_seq)}-{_seq(compaction.to_seq)} → {into}"
    marks: list[Span] = [
        (f" {NOTE}{compaction.number} ", "compacted" if compaction.undone else "note"),
        (span, "strong"),
    ]
    when: list[Span] = [(f" {ago(compaction.created_at)} ", "dim")]
    rows = "rows unknown" if compaction.rows is None else f"{compaction.rows} row{'s' if compaction.rows != 1 else ''}"
    sure = "" if compaction.set_is is Certainty.UNKNOWN else f" {compaction.set_is}"
    round_ = f" · round {compaction.round_index}" if compaction.round_index is not None else ""
    if compaction.undone:
        rows, sure = "undone", ""
    second: list[Span] = [(f"   {rows}{sure}{round_}", "")]
    if compaction.anomalies:
        third: list[Span] = [
            (
                f"   {DAMAGE} {compaction.anomalies[0]}"
                + (f", +{len(compaction.anomalies) - 1}" if compaction.anomalies[1:] else ""),
                "damage",
            )
        ]
        second = [(f"   {rows}{sure} · {tokens(compaction)}", "")]
    else:
        third = [(f"   {tokens(compaction)}", "dim")]
    return _between(marks, when, width), _cut(second, width), _cut(third, width)


def archived_lines(entry: Archived, source: str, width: int) -> tuple[list[Span], list[Span], list[Span]]:
    """Return a summary from the log in three lines: number and age, its first words, whose it is."""
    name = f" {LOG} {entry.number if entry.number is not None else '?'} "
    whose = "   of this session" if entry.of_this_session else "   of which session is not said"
    last: list[Span] = [(f"   {DAMAGE} {one_line(entry.damage[0])}", "damage")] if entry.damage else [(whose, "dim")]
    return (
        _between([(name, "accent"), (one_line(source), "dim")], [(f" {ago(entry.created_at)} ", "dim")], width),
        [(fit(f"   {one_line(entry.text)}", width), "")],
        _cut(last, width),
    )


def _cut(spans: list[Span], width: int) -> list[Span]:
    return [(fit(text, width), style) for text, style in spans]


def _seq(seq: int | None) -> str:
    return "?" if seq is None else str(seq)


def tokens(compaction: Compaction) -> str:
    """Return tokens before and after, what that saves, and how it is known."""
    if compaction.before_tokens is None and compaction.after_tokens is None:
        return "tokens unknown"
    text = f"{human(compaction.before_tokens)} → {human(compaction.after_tokens)}"
    if compaction.before_tokens and compaction.after_tokens is not None:
        text += f" {saving(compaction.before_tokens, compaction.after_tokens)}"
    return f"{text} {compaction.tokens_are}"


def saving(before: int, after: int) -> str:
    """Return a change of tokens in percent."""
    saved = round(100 * (before - after) / before)
    return f"saves {saved}%" if saved >= 0 else f"costs {-saved}%"


# -- findings

SEVERITIES = {Severity.ERROR: ("‼", "damage"), Severity.WARNING: ("!", "note"), Severity.INFO: ("·", "dim")}
CODE_CELLS, SICK = 24, "✚"


def finding_line(finding: Finding, session: str, width: int) -> list[Span]:
    """Return a finding in one line: severity, code, place, and whether anything can be done."""
    glyph, style = SEVERITIES[finding.severity]
    left: list[Span] = [(f" {glyph} ", style)]
    where = place_words(finding.place)
    if width >= WIDE:
        left += [(fit(finding.code, CODE_CELLS), "strong"), (" ", "")]
    else:
        left.append((f"{finding.code}  ", "strong"))
    left += [(f"{one_line(session)} ", "")] if session else []
    left += [(f"{where} ", "dim")] if where else []
    left.append((one_line(finding.message) if width >= WIDER else "", "dim"))
    can = "repair " if finding.fixable else "choose " if finding.choices else ""
    return _between(left, [(can, "accent")], width)


def place_words(place: Spot) -> str:
    """Return where in its session, or in which file, something is."""
    if place.seq is not None:
        return f"#{place.seq}"
    if place.line is not None:
        return f"line {place.line}"
    return one_line(place.file) if place.file is not None and place.session is None else ""
