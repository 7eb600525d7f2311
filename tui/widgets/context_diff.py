"""The context before and after a compaction, side by side: what is compacted, what stays, and the place of the note."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from textual.strip import Strip
from textual.widget import Widget

from sessionscope.store import Candidate, Context, Cut, tokens_of
from sessionscope.tui.text import compaction_lines, glyphs, message_lines
from sessionscope.tui.text.clock import human
from sessionscope.tui.text.fitting import fit, one_line
from sessionscope.tui.text.styles import strip_of
from sessionscope.tui.workers.context_usage import bar

from .ranged_list import RangedList
from .virtual_list import Span

GAP = " │ "
"""What stands between the two columns."""
TOKENS = 5
"""Cells of the column of tokens."""
ROOMY = 44
"""From how many cells of a column on there is room for full counts."""
ASKED = "▌"
"""A message that was asked for."""
WIDENED = "╎"
"""A message that must be compacted with those."""


def halves(left: Sequence[Span], right: Sequence[Span], width: int) -> list[Span]:
    """Return two lists of spans in columns of the same width."""
    room = (width - len(GAP)) // 2
    return [*_within(left, room), (GAP, "line"), *_within(right, room)]


def _within(spans: Sequence[Span], room: int) -> list[Span]:
    """Return spans cut or padded to so many cells."""
    fitting: list[Span] = []
    for text, style in spans:
        size = cell_len(text)
        if size >= room:
            return [*fitting, (fit(text, room), style)]
        fitting.append((text, style))
        room -= size
    return [*fitting, (" " * room, "")]


class ContextHead(Widget):
    """How much the model is sent now and would be sent after, in numbers and as two bars on one scale."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "ContextHead { height: 2; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows, self._staying_count = 0, 0
        self._before, self._staying_tokens, self._note = 0, 0, ""

    def show(self, cut: Cut | None, note: str) -> None:
        """Show what a cut and a note do to the context; nothing without a cut."""
        self._rows = len(cut.leaves) + len(cut.stays) if cut is not None else 0
        self._staying_count = len(cut.stays) if cut is not None else 0
        self._before, self._staying_tokens = (cut.before, cut.staying) if cut is not None else (0, 0)
        self.say(note)

    def say(self, note: str) -> None:
        """Show another note."""
        self._note = note
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, before, after = self.size.width, self._before, self._staying_tokens + tokens_of(len(self._note))
        if not self._rows:
            return strip_of(self, [], width)
        room = (width - len(GAP)) // 2 - 1
        if y == 0:
            saves, style = compaction_lines.saving(before, after), "accent" if after <= before else "damage"
            left: list[Span] = [(" NOW ", "strong"), (_counted(self._rows, before), "")]
            right: list[Span] = [("AFTER ", "strong")]
            if room >= ROOMY:
                right += [(f"{_counted(self._staying_count + 1, after)}  ", ""), (saves, style)]
            else:
                right += [
                    (f"{human(self._staying_count + 1)}, ", ""),
                    (saves, style),
                    (f", ~{human(after)} tokens", ""),
                ]
        else:
            most = max(before, after)
            left = [(" ", ""), (bar(before, most, room), "title")]
            right = [(bar(after, most, room), "title" if after <= before else "damage")]
        return strip_of(self, halves(left, right, width), width)


def _counted(rows: int, tokens: int) -> str:
    return f"{human(rows)} message{'s' if rows != 1 else ''}, ~{human(tokens)} tokens"


class ContextDiff(RangedList):
    """One line for each message of the context: at the left as it is, at the right what stays of it."""

    HELP = """\
### Compacting
At the left the context as the model sees it now, at the right what stays of it, and where the note will stand.

- `▌` what was asked for, `╎` what leaves with it: a call and its results stay together, nanobot folds whole turns \
from the beginning, and `kept` never leaves
- `shift+↑↓` or dragging moves the end of the range; `space` begins another at the cursor, again ends it
- `+` and `-` take the proposal that keeps more or fewer of the newest exchanges
- `enter` or `tab` to the note; `ctrl+o` opens it in $EDITOR, `ctrl+g` has your command write it
- `ctrl+s` compacts, which `u` takes back; `esc` leaves all as it is and keeps the note for the next time
"""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.context = Context((), 0)
        self._compacted_seqs: frozenset[int] = frozenset()
        self._first = 0
        self._note = ""
        self._digits = 3

    def take(self, context: Context) -> None:
        """Show another context, in which nothing is selected yet."""
        self.context = context
        self._compacted_seqs = frozenset()
        self._digits = max([3, *(len(str(row.seq)) for row in context.rows[-1:]), len(str(context.highest))])
        self.unmark()
        self.set_count(len(context.rows) + context.note_last, 0)

    def show(self, cut: Cut | None, note: str) -> None:
        """Show what a cut removes, and the note that replaces it."""
        self._compacted_seqs = frozenset(row.seq for row in cut.leaves) if cut is not None else frozenset()
        self._first = cut.leaves[0].seq if cut is not None else 0
        self.say(note)

    def say(self, note: str) -> None:
        """Show another note."""
        self._note = note
        self.refresh()

    @property
    def wanted(self) -> tuple[int, int] | None:
        """The seqs at the ends of the selected range, in the order of the context."""
        if self.marked is None or not self.context.rows:
            return None
        first, last = (self.context.rows[min(at, len(self.context.rows) - 1)] for at in self.marked)
        return first.seq, last.seq

    def reach(self, first: int, last: int) -> None:
        """Select the range from one message to another, or the nearest ones."""
        places = {row.seq: at for at, row in enumerate(self.context.rows)}
        here = [at for seq, at in places.items() if first <= seq <= last]
        begin, end = places.get(first, min(here, default=0)), places.get(last, max(here, default=0))
        self.mark(begin, end)
        self.cursor = end
        self.reveal()

    def reveal(self) -> None:
        """Scroll to the range: to its beginning too, if there is room for all of it."""
        if self.marked is not None:
            first, last = self.marked
            self.scroll_to(
                y=min(max(0, first - 1), max(0, last + 2 - self.rows_visible))
                if (last - first + 2 > self.rows_visible)
                else max(0, first - 1),
                animate=False,
                immediate=True,
            )

    # -- drawing

    def spans(self, index: int, line: int, width: int) -> Iterable[Span]:
        rows = self.context.rows
        note = self._noted(width)
        if index >= len(rows):
            return halves([], note if self._compacted_seqs else [], width)
        row = rows[index]
        leaves = row.seq in self._compacted_seqs
        edge = (ASKED, "note") if self.is_marked(index) else (WIDENED, "note") if leaves else (" ", "")
        left = [edge, *self._line(row, width, "compacted" if leaves else "")]
        right = self._line(row, width, "")
        if leaves:
            right = note if row.seq == self._first and not self.context.note_last else []
        return halves(left, right, width)

    def _line(self, row: Candidate, width: int, style: str) -> list[Span]:
        room = (width - len(GAP)) // 2 - 1
        glyph = glyphs.NOTE if row.note else "●"
        role = fit(one_line(message_lines.ROLES.get(row.role, row.role)), message_lines.ROLE_CELLS)
        kept: list[Span] = [("kept ", "accent")] if row.kept else []
        state = style or ("note" if row.note else "title")
        left: list[Span] = [
            (f"{row.seq:>{self._digits}} ", style or "dim"),
            (f"{glyph} ", state),
            (f"{role} ", style or "dim"),
            *kept,
        ]
        return self._sized(left, one_line(row.head), row.tokens, room, style)

    def _noted(self, width: int) -> list[Span]:
        words = one_line(self._note[:400])
        left: list[Span] = [(f"{'new':>{self._digits}} ", "note"), (f"{glyphs.NOTE} ", "note")]
        return self._sized(left, words or "(the note)", tokens_of(len(self._note)), (width - len(GAP)) // 2 - 1, "note")

    @staticmethod
    def _sized(left: list[Span], words: str, tokens: int, room: int, style: str) -> list[Span]:
        size = f" {human(tokens):>{TOKENS - 1}}" if room >= 30 else ""
        used = sum(cell_len(text) for text, _ in left)
        return [*left, (fit(words, max(0, room - used - len(size))), style), (size, style or "dim")]

    def empty(self) -> str:
        return "nothing of it is in the context"
