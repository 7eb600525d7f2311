"""The timeline: one line for each message, any number of them, read a page at a time."""

from __future__ import annotations

from collections.abc import Iterable

from textual.cache import LRUCache
from textual.message import Message

from sessionscope.store import StoreError, TimelineRow
from sessionscope.store import Timeline as Rows
from sessionscope.tui.text import message_lines

from .ranged_list import RangedList
from .virtual_list import Span

PAGE = 64
"""How many rows are read at once."""
PAGES = 32
"""How many pages are kept."""


class TimelinePane(RangedList):
    """Shows the rows of a store timeline. The cursor stays on its seq when the rows are replaced."""

    HELP = """\
### Timeline
One line a message: seq, state, role, round or tool, what was said, bytes.

`●` active `○` compacted out `◆` note `◇` note folded by a later one `✕` dropped `┄` rows gone `‼` damaged
`╭` calls tools, `╰` a result of it

In nanobot's sessions `○` is consolidated, and `command`, `hidden`, `delivery`, `subagent` say what else a message is.

- `1` all `2` active `3` compacted `4` what the model sees now, `v` the next view, `L` limits of what it sees (nanobot)
- `[` and `]` previous and next compaction, `:` go to a seq, `/` find, `n`/`N` next and previous hit
- `o` follow: a note to the rows it folded, a call to its result or child session; `O` up: a folded row to its note, \
a session to the call that spawned it; `b` back to where you were
- `space` marks rows from here on, again ends that; `shift+↑↓` or dragging do so too; `c` compacts what is marked, or \
what is proposed
- `enter` the whole message, `i` about the session, `w` what fills its context, `y` copy the message, \
`Y` copy the session's id
"""

    class ReadFailed(Message):
        """Rows could not be read. `text` says why."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: Rows | None = None
        self.unanswered: frozenset[int] = frozenset()
        self.hint = "choose a session"
        self._pages: LRUCache[int, list[TimelineRow]] = LRUCache(PAGES)
        self._digits = 3
        self.failed = False
        self._seq: int | None = None
        """The seq of the cursor's last row, in case that row cannot be read."""

    def show(self, rows: Rows | None, seq: int | None = None, *, follow: bool = False) -> None:
        """Show other rows with the cursor at a seq, or at the newest. Nothing of the old rows is kept."""
        self._take(rows)
        self.unmark()
        count = self.count_of(rows)
        index = count - 1 if rows is None or seq is None else rows.nearest(seq)
        middle = index - self.rows_visible // 2
        self.set_count(count, max(0, index), None if follow else max(0, middle))
        self.post_message(self.Highlighted(self, self.cursor))

    def update(self, rows: Rows) -> None:
        """Show newer rows of the same kind, and keep what is on the screen in its place.

        A visible cursor on the last row follows what is appended.
        """
        current = self.current
        seen = self.top <= self.cursor < self.top + self.rows_visible
        following = seen and self.count > 0 and self.cursor == self.count - 1
        seq, top_seq, offset = self._seq, _seq_of(self.row(self.top)), self.cursor - self.top
        index, first = self.cursor, self.top
        ends = self.span
        self._take(rows)
        if ends is None:
            self.unmark()
        else:
            self.move_ends(*map(rows.nearest, ends))
        count = self.count_of(rows)
        if following or (seq is None and current is None):
            self.set_count(count, max(0, count - 1), None)
        elif seq is None:
            # Damage has no seq to be found by. Its place only changes with what was before it.
            self.set_count(count, min(index, max(0, count - 1)), first, reveal=seen)
        else:
            index = rows.nearest(seq)
            top = index - offset if seen or top_seq is None else rows.nearest(top_seq)
            self.set_count(count, index, max(0, top), reveal=seen)
        now = self.current
        if current is None or now is None or _said(current) != _said(now):
            self.post_message(self.Highlighted(self, self.cursor))

    def _take(self, rows: Rows | None) -> None:
        self.rows = rows
        self.failed = False
        self._pages.clear()
        self._digits = max(3, rows.digits if rows else 0)

    @staticmethod
    def count_of(rows: Rows | None) -> int:
        return rows.length.value if rows else 0

    # -- rows

    def row(self, index: int) -> TimelineRow | None:
        """Return a row by index, read with its page unless that is cached. None if it cannot be read."""
        if not 0 <= index < self.count or self.rows is None:
            return None
        return self._peek(index)

    def _peek(self, index: int) -> TimelineRow | None:
        if self.rows is None:
            return None
        number, offset = divmod(index, PAGE)
        page = self._pages.get(number)
        if page is None:
            if self.failed:
                return None
            try:
                page = self.rows.window(number * PAGE, (number + 1) * PAGE)
            except StoreError as error:
                # Read nothing more until the rows are replaced, or every line would fail by itself.
                self.failed = True
                self.post_message(self.ReadFailed(str(error)))
                return None
            self._pages[number] = page
        return page[offset] if offset < len(page) else None

    @property
    def current(self) -> TimelineRow | None:
        """The row under the cursor."""
        row = self.row(self.cursor)
        if row is not None:
            self._seq = _seq_of(row)
        return row

    @property
    def span(self) -> tuple[int, int] | None:
        """The first and the last seq among the selected rows, None if there is none."""
        if self.marked is None:
            return None
        first, last = self.marked
        ends = (
            next((seq for at in order if (seq := _seq_of(self.row(at))) is not None), None)
            for order in (range(first, last + 1), range(last, first - 1, -1))
        )
        begin, end = ends
        return (begin, end) if begin is not None and end is not None else None

    def go_to(self, seq: int) -> bool:
        """Put the cursor on a seq, or as near as possible. Return False if that seq is not shown."""
        if self.rows is None or not self.count:
            return False
        index = self.rows.nearest(seq)
        self.center(index)
        return self.rows.locate(seq) is not None

    def center(self, index: int) -> None:
        """Put the cursor on a row and, unless it is on the screen, that row in the middle."""
        if not self.top <= index < self.top + self.rows_visible:
            self.scroll_to(y=max(0, index - self.rows_visible // 2), animate=False, immediate=True)
        self.cursor = index

    # -- drawing

    def spans(self, index: int, line: int, width: int) -> Iterable[Span]:
        row = self.row(index)
        if row is None:
            return [("  …", "dim")]
        last = True
        if row.role == "tool" and (index + 1) % PAGE:
            below = self.row(index + 1)
            last = below is None or below.role != "tool"
        return message_lines.message_line(
            row, width, self._digits, last, row.seq in self.unanswered, self.is_marked(index)
        )

    def empty(self) -> str:
        return self.hint


def _said(row: TimelineRow) -> tuple[object, ...]:
    """Return what makes a row the same as before: an identity may change although the message did not."""
    return row.seq, row.hole, row.role, row.size, row.head


def _seq_of(row: TimelineRow | None) -> int | None:
    return None if row is None else row.seq if row.seq is not None else row.hole[0] if row.hole else None
