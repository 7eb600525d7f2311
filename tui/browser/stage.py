"""What the browser stands on: the panes, the session that is open, and how each is shown. No keys."""

from __future__ import annotations

import time

from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.timer import Timer
from textual.worker import Worker

from sessionscope.store import Capability, Limits, Outline, Ref, StoreError, View
from sessionscope.tui.sessions.current_session import CurrentSession
from sessionscope.tui.sessions.session_catalog import OpenedArchive, SessionCatalog
from sessionscope.tui.text import describe, render
from sessionscope.tui.text.clock import human
from sessionscope.tui.text.styles import StyledScreen
from sessionscope.tui.widgets.audit_pane import AuditPane
from sessionscope.tui.widgets.bar import Bar, KeyBar
from sessionscope.tui.widgets.column import LeftBorder, plain_lines
from sessionscope.tui.widgets.inspector import Inspector
from sessionscope.tui.widgets.preview_list import PreviewList
from sessionscope.tui.widgets.prompt import Prompt
from sessionscope.tui.widgets.session_tree import SessionTree
from sessionscope.tui.widgets.timeline import TimelinePane
from sessionscope.tui.workers import read_workers

INSPECT_AFTER_S, SILENCE_S, ROOMY = 0.1, 30, 72
TITLES = {
    "sessions": "tree-title",
    "previews": "list-title",
    "timeline": "timeline-title",
    "audit": "audit-title",
    "inspector": "inspector-title",
}
FIRST = ("sessions", "timeline")
"""The panes that the first frame holds."""
WIDTHS = [(0, "-narrow"), (110, "-normal"), (160, "-wide")]
HEIGHTS = [(0, "-flat"), (12, "-low"), (20, "-high")]
VIEWS = {View.ALL: "all", View.ACTIVE: "active", View.COMPACTED: "compacted", View.CONTEXT: "context"}


class Stage(StyledScreen[None]):
    """The panes and what is in them. `opened` is the session in the timeline, `subject` what the inspector is about."""

    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    AUTO_FOCUS = None

    def __init__(self, catalog: SessionCatalog, size: Size) -> None:
        # With the classes of its first size from the start, nothing needs to be styled twice before the first frame.
        fitting = [
            max(point for point in points if point[0] <= length)[1]
            for points, length in ((WIDTHS, size.width), (HEIGHTS, size.height))
        ]
        super().__init__(classes=" ".join([*fitting, "-show-left"]))
        self.catalog = catalog
        self.current_session: CurrentSession | None = None
        self.mode = describe.MODES[0]
        self.subject = "message"
        self.piece = 0
        self._epoch = 0
        self.filter_epoch = 0
        self.back_history: list[tuple[OpenedArchive, Ref, View, int | None]] = []
        """Where the cursor was, for the way back."""
        self.furnished = False
        self._said: dict[str, float] = {}
        self.message_bytes = 0
        self.studying: Worker[None] | None = None
        self._inspecting: Timer | None = None
        self.opening: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Bar(id="title")
        with Horizontal(id="panes"):
            with LeftBorder(id="left"):
                yield Bar(id="tree-title", classes="pane-title")
                yield SessionTree(self.catalog, id="sessions")
            with LeftBorder(id="middle"):
                yield Bar(id="timeline-title", classes="pane-title")
                yield TimelinePane(id="timeline")
            yield LeftBorder(id="right")
        yield KeyBar(id="keys")

    def render_lines(self, crop: Region) -> list[Strip]:
        # All of it lies hidden under the panes.
        return plain_lines(self, Style.null(), crop)

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        # Before the first frame everything was styled as it was mounted; later a theme may have changed meanwhile.
        event.refresh_styles = self.furnished

    def find_panes(self) -> None:
        """Keeps the panes at hand once they are mounted."""
        self.tree_pane = self.query_one(SessionTree)
        self.list_pane = PreviewList(self.catalog, id="previews")
        self.timeline = self.query_one(TimelinePane)
        self.audit_pane, self.inspector = AuditPane(id="audit"), Inspector(id="inspector")
        self.prompt = Prompt(id="prompt")

    async def furnish(self) -> None:
        """Adds all that the first frame does not wait for: sessions and rows are what somebody came to see."""
        right = self.query_one("#right")
        if not right.is_mounted or not right.is_attached:
            # Not there yet; or, when the app is closed at once, not there any more.
            if self.is_attached and self.is_running:
                self.call_after_refresh(self.furnish)
            return
        await self.query_one("#left").mount(Bar(id="list-title", classes="pane-title"), self.list_pane)
        await self.mount(self.prompt, before="#keys")
        await right.mount(
            Bar(id="audit-title", classes="pane-title"),
            self.audit_pane,
            Bar(id="inspector-title", classes="pane-title"),
            self.inspector,
        )
        self.furnished = True
        self.list_pane.rebuild()
        if self.current_session is not None and self.current_session.node is not None:
            self.list_pane.select(self.current_session.node)
        self.read_current_session(self.current_session.outline if self.current_session is not None else None)
        self.show_titles()

    def failed(self, text: str) -> None:
        """Says what went wrong; not again and again while it stays so."""
        if self.says_anew(text):
            self.notify(render.one_line(text), severity="error", markup=False)

    def says_anew(self, text: str) -> bool:
        """Whether nothing said so lately; from now on something did."""
        now = time.monotonic()
        anew = now >= self._said.get(text, 0.0)
        if anew:
            self._said[text] = now + SILENCE_S
        return anew

    def sessions_changed(self) -> None:
        """Called once another session table is shown."""

    def show_sessions(self, keep: bool = True) -> None:
        """Shows the tree and the list as the library is now."""
        self.tree_pane.rebuild(keep)
        if self.furnished:
            self.list_pane.rebuild(keep)
        self.show_titles()

    def open_node(self, node: int, seq: int | None = None) -> None:
        """Opens a session in the timeline, at a seq or at its newest message."""
        if self.opening is not None:
            self.opening.stop()
        self.catalog.load([node])
        summary = self.catalog.summary(node)
        if summary is None:
            self.failed("that session is gone")
            return
        if (
            self.current_session is not None
            and self.current_session.ref == summary.ref
            and self.current_session.opened_archive is self.catalog.opened_archive(node)
        ):
            if seq is not None:
                self.timeline.go_to(seq)
            return
        self._epoch += 1
        before, opened_archive = self.current_session, self.catalog.opened_archive(node)
        self.current_session = CurrentSession(self._epoch, opened_archive, summary.ref, summary.key)
        if before is None or before.opened_archive is not opened_archive:
            self.timeline.markable = Capability.COMPACT in opened_archive.capabilities
            self.refresh_bindings()
        self.timeline.unanswered = frozenset()
        self.subject = "message"
        self.show_rows(seq)
        if self.furnished:
            self.audit_pane.show(None, "reading…")
            # A worker needs the processor too, which the first look at the rows has first claim on.
            self.call_after_refresh(self.read_current_session, self.current_session.outline)
            self.list_pane.select(node)

    def read_current_session(self, outline: Outline | None = None) -> None:
        """Reads in a worker what is known of the opened session beyond its rows, the outline too unless it is at hand.

        Ends such a worker for another session.
        """
        current_session = self.current_session
        if current_session is not None:
            self.studying = self.run_worker(
                lambda: read_workers.read_session(
                    self.post_message,
                    current_session.opened_archive.archive,
                    current_session.ref,
                    current_session.epoch,
                    outline,
                    read_workers.stopped,
                ),
                thread=True,
                group="study",
                exclusive=True,
                exit_on_error=False,
            )

    def show_rows(self, seq: int | None = None, *, keep: bool = False) -> None:
        """Shows the opened session as it is now: at a seq, at its end, or with `keep` where it was."""
        current_session = self.current_session
        if current_session is None:
            return
        try:
            rows = current_session.rows()
        except StoreError as error:
            self.timeline.show(None)
            self.failed(str(error))
            return
        self.timeline.hint = (rows.about or "no rows here") if rows.length.exact else "reading the session's index…"
        if not rows.length.exact and (seq is None or rows.locate(seq) is None):
            current_session.wanted = seq
        if keep:
            self.timeline.update(rows)
        else:
            self.timeline.show(rows, seq)
        self.show_titles()

    def inspect_soon(self) -> None:
        """Lets the inspector follow once the keys rest."""
        if self._inspecting is not None:
            self._inspecting.stop()
        self._inspecting = self.set_timer(INSPECT_AFTER_S, self.inspect)

    def inspect(self, keep: bool = False) -> None:
        """Shows the row, compaction or session that is looked at, with one bounded read."""
        if self._inspecting is not None:
            self._inspecting.stop()
        current_session = self.current_session
        if not self.furnished or current_session is None:
            return
        try:
            self.inspector.show(self._blocks(current_session), keep)
        except StoreError as error:
            self.inspector.show([describe.Block(((render.one_line(str(error)), "damage"),))])
        self.show_titles()

    def _blocks(self, current_session: CurrentSession) -> list[describe.Block]:
        compaction = self.audit_pane.compaction
        if self.subject == "session" or not self.timeline.count:
            return (
                describe.session_blocks(current_session.detail, current_session.usage) if current_session.detail else []
            )
        if self.subject == "compaction" and compaction is not None:
            blocks = describe.compaction_blocks(compaction)
            if compaction.note is not None:
                blocks += describe.note_blocks(compaction.note, self.mode)
            elif compaction.note_row is not None:
                note = current_session.opened_archive.reader.message(current_session.ref, compaction.note_row)
                blocks += describe.message_blocks(note, self.mode)[1:]
            return blocks
        if self.subject == "compaction" and (entry := self.audit_pane.entry) is not None:
            return describe.archived_blocks(entry, self.audit_pane.audit.source, self.mode)
        row = self.timeline.current
        if row is None or row.row is None:
            words = f"rows {row.hole[0]} to {row.hole[1]} are gone from the file" if row and row.hole else ""
            return [describe.Block(((words, "hole"),))]
        start = self.piece * describe.PIECE
        found = current_session.opened_archive.reader.message(
            current_session.ref, row.row, start, start + describe.PIECE
        )
        self.message_bytes = found.size
        return describe.message_blocks(found, self.mode, current_session.compacted_by(row.seq))

    @property
    def narrow(self) -> bool:
        return self.has_class("-narrow")

    def set_pane(self, name: str) -> None:
        """Gives the focus to a pane and, on a narrow screen, slides it in."""
        if not self.furnished and name not in FIRST:
            # Somebody typed ahead of the first frame.
            self.call_after_refresh(self.set_pane, name)
            return
        if name == "timeline" and self.subject == "compaction":
            self.subject = "message"
            self.inspect_soon()
        # At once, and first: a pane that is hidden while it has the focus takes the focus away later.
        self.set_focus(self.query_one(f"#{name}"))
        self.slide(name)

    def slide(self, name: str) -> None:
        """On a narrow or low screen, shows the column with a pane and hides the others."""
        here = {"-narrow", "-low", "-flat"} & self.classes
        if not here:
            # Everything is on the screen, and restyling it all would cost the better part of a frame.
            self._light(name)
            return
        self.update_classes(
            {
                "-show-left": name in ("sessions", "previews"),
                "-show-right": name in ("audit", "inspector"),
                "-show-audit": name == "audit",
                "-show-previews": name == "previews",
            }
        )
        self._light(name)

    def _light(self, name: str) -> None:
        """Marks the title of the pane in focus."""
        for pane, title in TITLES.items():
            self.query(f"#{title}").set_class(pane == name, "-on")
        # What a title has room for is known once the panes have their new sizes.
        self.call_after_refresh(self.show_titles)

    def on_resize(self) -> None:
        if self.focused is not None and self.focused.id in TITLES:
            self.call_after_refresh(self.slide, self.focused.id)
        self.call_after_refresh(self.show_titles)

    # -- titles

    def show_titles(self) -> None:
        try:
            self.query_one("#title", Bar).show(*self._bar_title())
            self.query_one("#tree-title", Bar).show(*self._tree_title())
            self.query_one("#timeline-title", Bar).show(*self._timeline_title())
            if not self.furnished:
                return
            self.query_one("#list-title", Bar).show([(" PREVIEWS", "strong")], [(f"{self.list_pane.count} ", "dim")])
            self.query_one("#audit-title", Bar).show(*self._audit_title())
            subject = self.subject if self.timeline.count else "session"
            if subject == "compaction" and self.audit_pane.compaction is None:
                subject = "summary" if self.audit_pane.entry is not None else "message"
            what = subject.upper()
            self.query_one("#inspector-title", Bar).show(
                [(f" {what}", "strong")], [(f"{self.mode} ", "dim", "screen.mode")]
            )
        except NoMatches:
            return

    def _bar_title(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        opened_archive = (
            self.current_session.opened_archive if self.current_session is not None else self.catalog.opened_archives[0]
        )
        info = opened_archive.archive.info
        number = len(opened_archive.session_table)
        count = f"{number} session{'s' if number != 1 else ''}" if opened_archive.complete else "counting sessions…"
        left = [
            (" sessionscope  ", "tab"),
            (render.one_line(opened_archive.name), "strong"),
            (f"  {info.format} · {count}", "dim"),
        ]
        if info.warning:
            left.append((f"  {render.DAMAGE} {info.warning}", "damage"))
        aside = opened_archive.archive.aside
        right = [(f"private copy: {aside} " if aside else "live ◌ ", "note" if aside else "dim")]
        return left, right

    def _tree_title(self) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
        words = " ".join(self.catalog.words)
        left = [(" SESSIONS", "strong")] + ([(f"  /{render.one_line(words)}", "note")] if words else [])
        return left, [(f"by {self.catalog.order} ", "dim", "screen.sort")]

    def _timeline_title(self) -> tuple[list[tuple[str, str]], list[tuple[str, str] | tuple[str, str, str]]]:
        current_session = self.current_session
        if current_session is None:
            return [(" TIMELINE", "strong")], []
        summary = self.catalog.summary(current_session.node) if current_session.node is not None else None
        title = render.title_of(summary) if summary is not None else render.one_line(current_session.ref.id)
        tabs: list[tuple[str, str] | tuple[str, str, str]] = []
        if current_session.only_runs is not None:
            tabs.append((" folded rows, esc: all ", "note", "screen.leave"))
        marked = self.timeline.marked
        if marked is not None:
            tabs.append((f" {marked[1] - marked[0] + 1} marked, c compacts ", "note", "screen.compact"))
        roomy = self.timeline.size.width >= ROOMY
        narrowed = current_session.only_runs is not None or marked is not None
        # Beside that word the tabs have room on a wide screen alone.
        for number, (view, name) in enumerate(VIEWS.items() if roomy or not narrowed else (), 1):
            now = view is current_session.view and current_session.only_runs is None
            name = f"{name} {_spoken(current_session.limits)}".rstrip() if view is View.CONTEXT else name
            label = f"{number} {name}" if now or roomy else str(number)
            tabs.append((label, "current" if now else "dim", f"screen.view('{view}')"))
            tabs.append((" ", ""))
        length = self.timeline.rows.length if self.timeline.rows is not None else 0
        tabs.append((f" {self.timeline.cursor + 1 if self.timeline.count else 0}/{length} ", "dim"))
        return [(f" {title}", "strong")], tabs

    def _audit_title(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        audit = self.current_session.audit if self.current_session is not None else None
        compactions = sum(not compaction.undone for compaction in audit.compactions) if audit is not None else 0
        return [(" COMPACTIONS", "strong")], [(f"{compactions} " if audit is not None else "", "dim")]


def _spoken(limits: Limits | None) -> str:
    """Limits of the context view in the few cells of a tab."""
    if limits is None:
        return ""
    tokens = f", {human(limits.tokens)} tokens" if limits.tokens else ""
    return f"(≤{limits.messages}{tokens})" if limits.messages else f"(no limit{tokens})"
