"""The compaction dialog: a range of the context, what compacting it does, and the note that replaces it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar

from msgspec.structs import replace
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import TextArea

from sessionscope.store import (
    Archive,
    Cancel,
    Compact,
    Cut,
    Plan,
    propose_range,
    range_or_proposal,
    tokens_of,
    usual_exchanges,
)
from sessionscope.tui.external import editor
from sessionscope.tui.text.clock import human
from sessionscope.tui.text.describe import IF_OFFLINE, Block
from sessionscope.tui.text.fitting import one_line
from sessionscope.tui.text.styles import StyledScreen
from sessionscope.tui.widgets.bar import Bar, KeyBar
from sessionscope.tui.widgets.context_diff import ContextDiff, ContextHead
from sessionscope.tui.widgets.inspector import Inspector
from sessionscope.tui.widgets.note_editor import NoteEditor
from sessionscope.tui.widgets.ranged_list import RangedList
from sessionscope.tui.widgets.virtual_list import VirtualList
from sessionscope.tui.workers import action_workers, read_workers

CHANGED = "the session has changed meanwhile; this is how it is now"
STOPPED = "stopped; the note is as it was"
STOPPING = "stopping…"
UNSEEN = "the range has just changed: look at what leaves now, and press that again"
NOTHING = "nothing leaves; mark another range"
NO_COMMAND = "no summarizer is named: start with --summarizer COMMAND, or name one in the config"


class CompactDialog(StyledScreen[action_workers.Applied | None], ModalScreen[action_workers.Applied | None]):
    """Stays open until the compaction is done or cancelled, so that no typed note is ever lost.

    Returns what was done.
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (18, "-low"), (32, "-high")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "compact", "Compact", id="compact.compact"),
        Binding("ctrl+g", "summarize", "Summarizer", id="compact.summarize", tooltip="your command writes the note"),
        Binding("ctrl+o", "edit", "$EDITOR", id="compact.edit", tooltip="write the note in your own editor"),
        Binding("plus", "keep(1)", "Keep more", show=False, key_display="+", id="compact.more"),
        Binding("minus", "keep(-1)", "Keep less", show=False, key_display="-", id="compact.less"),
        Binding("tab", "other_pane", "Rows/note", id="compact.pane"),
        Binding("shift+tab", "other_pane", "Rows/note", show=False, id="compact.pane_back"),
        Binding("question_mark", "help", "Help", show=False, key_display="?", id="compact.help"),
        Binding("escape", "leave", "Leave", key_display="esc", id="compact.leave"),
    ]

    def __init__(self, archive: Archive, plan: Plan, title: str, draft: str | None, command: str | None) -> None:
        super().__init__()
        self._archive, self._title, self._command = archive, title, command
        self._keep: int | None = None
        """How many exchanges the proposal keeps, None if the range is not the proposed one."""
        self._take(plan)
        self._begun_with = self.compaction.present if draft is None else draft
        self._note = NoteEditor(self._begun_with, id="note")
        self._says = ""
        self._epoch = 0
        self._job: action_workers.Job | None = None
        self._done: action_workers.Applied | None = None

    def _take(self, plan: Plan) -> None:
        """Show a plan from now on, with the range that was asked for."""
        if plan.compaction is None or not isinstance(plan.action, Compact):
            raise TypeError("this is no plan of a compaction")
        self._plan, self.compaction, self._ref = plan, plan.compaction, plan.action.ref
        self._cutting: int | None = None
        """The epoch of the range that a worker is looking into."""
        self.cut: Cut | None = plan.compaction.cut
        action = plan.action
        self._asked = range_or_proposal(self.compaction.context, action.first, action.last, action.keep)
        self._keep = action.keep if action.first is None else self._keep_of(self._asked)

    @property
    def draft(self) -> str:
        """The note as it is typed."""
        return self._note.text

    @property
    def unused(self) -> str | None:
        """The note, if it is neither the present summary nor what was applied."""
        used = self._done.plan.action.note if self._done and isinstance(self._done.plan.action, Compact) else None
        return self.draft if self.draft not in (used, self.compaction.present) else None

    def compose(self) -> ComposeResult:
        with Vertical(id="compact-sheet"):
            yield Bar(id="compact-title")
            self._why = Inspector(id="compact-why")
            yield self._why
            self._head = ContextHead(id="compact-head")
            yield self._head
            self._rows = ContextDiff(id="compact-rows")
            yield self._rows
            self._said = Inspector(id="compact-said")
            yield self._said
            yield Bar(id="note-title", classes="pane-title")
            yield self._note
            yield KeyBar(id="compact-keys")

    def on_mount(self) -> None:
        if not self._rows.is_attached:
            return
        self._why.can_focus = self._said.can_focus = False
        self._note.move_cursor(self._note.document.end)
        self._show_plan()
        self._rows.focus()
        # The number of rows that fit is known by then.
        self.call_after_refresh(self._rows.reveal)

    # -- what is shown

    def _show_plan(self) -> None:
        self._rows.take(self.compaction.context)
        if self.cut is not None:
            self._rows.reach(*self._asked)
            self._asked = self._rows.wanted or self._asked
        self._show()

    def _show(self) -> None:
        """Show what the present range would do."""
        self._head.show(self.cut, self.draft)
        self._rows.show(self.cut, self.draft)
        self._show_why()
        self._show_titles()

    def _show_why(self) -> None:
        lines = [(f"{self._plan.offline} {IF_OFFLINE}", "note")] if self._plan.offline else []
        lines += [(warning, "note") for warning in self._plan.warnings]
        if self.cut is not None:
            lines += [(reason, "accent") for reason in self.cut.reasons]
            if self.cut.notes:
                numbers = ", ".join(map(str, self.cut.notes))
                lines.append((f"the note of an earlier compaction leaves with them: {numbers}", "dim"))
        if self.compaction.recorded is not None:
            lines.append((f"recorded of the agent's last call: {human(self.compaction.recorded)} tokens in all", "dim"))
        if self.compaction.present:
            lines.append(("the note takes the place of the summary that stands there now", "dim"))
        self._why.show([Block(((one_line(text), style),)) for text, style in lines])
        self._why.set_class(not lines, "-empty")

    def _show_titles(self) -> None:
        first, last = self._asked
        # A note may come before messages that are older than itself.
        span = f"message {first}" if first == last else f"{'note ' if first > last else ''}{first} to {last}"
        how = "shift+↑↓ range" if self._keep is None else f"newest {_exchanges_stay(self._keep)}: + or -"
        self.query_one("#compact-title", Bar).show(
            [(" Compact ", "tab"), (f"{span} ", "strong"), (f"of {self._title}", "dim")], [(f"{how} ", "dim")]
        )
        left = [(" NOTE ", "strong"), (f"~{human(tokens_of(len(self.draft)))} tokens", "dim")]
        hint = "ctrl+s compacts" if self._note.has_focus else "enter: write it here"
        self.query_one("#note-title", Bar).show(left, [(f"{hint} ", "dim")])
        self._said.show([Block(((self._says, "note"),))])
        self._said.set_class(not self._says, "-empty")
        self.query_one("#note-title").set_class(self._note.has_focus, "-on")

    def on_descendant_focus(self) -> None:
        self._show_titles()

    def _say(self, text: str) -> None:
        self._says = one_line(text)
        self._show_titles()

    # -- the range

    @on(RangedList.RangeChanged, "#compact-rows")
    def _range_changed(self) -> None:
        wanted = self._rows.wanted
        if wanted is None or (wanted == self._asked and self.cut is not None):
            return
        self._asked, self._keep = wanted, self._keep_of(wanted)
        if self._job is None:
            self._says = ""
        elif not self._job.writes:
            self._stop(self._job, "the range is another now; ctrl+g summarizes that")
        context, epoch = self.compaction.context, self._next()
        self._cutting = epoch
        self.run_worker(
            lambda: action_workers.cut(self.post_message, context, *wanted, epoch),
            thread=True,
            group="cut",
            exclusive=True,
            exit_on_error=False,
        )

    def _keep_of(self, wanted: tuple[int, int]) -> int | None:
        proposed = None if self._keep is None else propose_range(self.compaction.context, self._keep)
        return self._keep if proposed == wanted else None

    @on(action_workers.RangeCut)
    def _cut_out(self, event: action_workers.RangeCut) -> None:
        if event.epoch == self._cutting:
            self._cutting, self.cut = None, event.cut
            self._says = one_line(event.text) or self._says
            self._show()

    @property
    def _settled(self) -> bool:
        """Whether what is shown belongs to the selected range."""
        return self._cutting is None and self._rows.wanted == self._asked

    def action_keep(self, by: int) -> None:
        """Select the range of the proposal that keeps more exchanges, or fewer."""
        keep = max(1, self._keep + by) if self._keep is not None else usual_exchanges(self.compaction.context)
        proposed = propose_range(self.compaction.context, keep)
        if proposed is None:
            self._say(f"nothing is older than the newest {keep} exchange{'s' if keep != 1 else ''}")
            return
        self._keep = keep
        self._rows.reach(*proposed)
        self._show_titles()

    def _next(self) -> int:
        self._epoch += 1
        return self._epoch

    # -- the note

    @on(TextArea.Changed, "#note")
    def _typed(self) -> None:
        if self._job is None:
            self._says = ""
        self._head.say(self.draft)
        self._rows.say(self.draft)
        self._show_titles()

    def _replace(self, text: str) -> None:
        """Replace the text in the editor. The editor's own undo reverts that."""
        self._note.replace(text, (0, 0), self._note.document.end)
        self._note.move_cursor(self._note.document.end)

    def action_edit(self) -> None:
        text = editor.edited(self.app, self.draft)
        if text is not None:
            self._replace(text)

    def action_summarize(self) -> None:
        cut = self.cut
        if self._command is None:
            self._say(NO_COMMAND)
        elif self._may_begin() and cut is not None:
            command, ref = self._command, self._ref
            self._begin(
                "the summarizer works; esc stops it",
                False,
                lambda epoch, cancel: action_workers.note(
                    self.post_message, self._archive, ref, cut, command, epoch, cancel
                ),
            )

    @on(action_workers.Noted)
    def _noted(self, event: action_workers.Noted) -> None:
        if self._ended(event.epoch):
            self._replace(event.note)
            self._note.focus()

    @on(action_workers.Progressed)
    def _progressed(self, event: action_workers.Progressed) -> None:
        job = self._job
        if job is not None and job.epoch == event.epoch and not job.writes:
            self._say(f"{event.what} {event.done}; esc stops it")

    @on(VirtualList.Chosen, "#compact-rows")
    def _to_note(self) -> None:
        self._note.focus()

    # -- what works beside the dialog

    def _may_begin(self) -> bool:
        """Return whether work on what is shown can begin. If not, say why."""
        if self._job is not None:
            self._say(self._says)
        elif self.cut is None and self._cutting is None:
            self._say(self._says or NOTHING)
        elif not self._settled:
            self._say(UNSEEN)
        else:
            return True
        return False

    def _begin(self, says: str, writes: bool, work: Callable[[int, Cancel], None]) -> None:
        job = self._job = action_workers.Job(self._next(), writes, threading.Event())
        self._say(says)
        self.run_worker(
            lambda: work(job.epoch, lambda: job.stop.is_set() or read_workers.stopped()),
            thread=True,
            group="compact",
            exclusive=True,
            exit_on_error=False,
        )

    def _ended(self, epoch: int) -> bool:
        """Return whether the answer is the one that is awaited, and await none from now on."""
        if self._job is None or self._job.epoch != epoch:
            return False
        self._job, self._says = None, ""
        return True

    def _stop(self, job: action_workers.Job, says: str) -> None:
        """Stop a worker. One that writes may have done so already, so its answer is still awaited."""
        job.stop.set()
        if not job.writes:
            self._job = None
        self._say(says)

    @on(action_workers.GivenUp)
    def _given_up(self, event: action_workers.GivenUp) -> None:
        if self._ended(event.epoch):
            self._say(event.text or STOPPED)

    # -- carrying it out

    def action_compact(self) -> None:
        if not self._may_begin():
            return
        if not self.draft.strip():
            self._note.focus()
            self._say("a note first: it is all that the model will know of what leaves")
            return
        action = Compact(self._ref, *self._asked, self.draft)
        seen = replace(self.compaction, cut=self.cut)
        self._begin(
            "…",
            True,
            lambda epoch, cancel: action_workers.compact(self.post_message, self._archive, action, seen, epoch, cancel),
        )

    @on(action_workers.Planned)
    def _planned(self, event: action_workers.Planned) -> None:
        if self._ended(event.epoch):
            self._take(event.plan)
            self._show_plan()
            self._say(CHANGED)

    @on(action_workers.Overtaken)
    def _overtaken(self, event: action_workers.Overtaken) -> None:
        if self._ended(event.epoch):
            if event.context != self.compaction.context:
                self.compaction, self.cut, self._cutting = replace(self.compaction, context=event.context), None, None
                self._show_plan()
            # Otherwise the note was not accepted.
            self._say(event.text)

    @on(action_workers.Applied)
    def _applied(self, event: action_workers.Applied) -> None:
        self._done = event
        self._finish()

    def on_screen_resume(self) -> None:
        # It may have been applied while something else was on top.
        self.call_after_refresh(self._finish)

    def _finish(self) -> None:
        if self._done is not None and self.is_active:
            self.dismiss(self._done)

    async def action_help(self) -> None:
        from .help import Help

        if self.is_active:
            await self.app.push_screen(Help(ContextDiff.HELP, self))

    def action_other_pane(self) -> None:
        (self._rows if self._note.has_focus else self._note).focus()

    def action_leave(self) -> None:
        if self._job is not None:
            self._stop(self._job, STOPPING if self._job.writes else STOPPED)
        elif self._done is None:
            self.dismiss(None)

    def unfinished(self) -> str | None:
        if self._job is not None and self._job.writes:
            return "the compaction is being carried out"
        unused = self.unused
        return "the note has not been used" if unused and unused != self._begun_with else None


def _exchanges_stay(count: int) -> str:
    return "1 exchange stays" if count == 1 else f"{count} exchanges stay"
