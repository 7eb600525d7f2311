"""The dialog of a compaction: a range of the context, what folding it does, and the note that stands for it."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import TextArea
from textual.worker import Worker

from store import EXCHANGES, Archive, Compact, Cut, Plan, tokens_of

from .. import care, editor, render
from ..clock import human
from ..describe import Block
from ..ink import Inked
from ..widgets.bar import Bar, KeyBar
from ..widgets.context_diff import ContextDiff, ContextHead
from ..widgets.inspector import Inspector
from ..widgets.note_editor import NoteEditor
from ..widgets.ranged_list import RangedList
from ..widgets.virtual_list import VirtualList
from .healing import stopped

CHANGED = "the session has changed meanwhile; this is how it is now"
RUNNING = "a running nanobot would write its own copy over this: go on only if none is running"
STOPPED = "stopped; the note is as it was"
NO_COMMAND = "no summarizer is named: start with --summarizer COMMAND, or name one in the config"


class FoldSheet(Inked[care.Applied | None], ModalScreen[care.Applied | None]):
    """Stays until the compaction is carried out or left, so that no typed note is ever lost. Gives what was done."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (18, "-low"), (32, "-high")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "compact", "Compact", id="fold.compact"),
        Binding("ctrl+g", "summarize", "Summarizer", id="fold.summarize", tooltip="have your command write the note"),
        Binding("ctrl+o", "edit", "$EDITOR", id="fold.edit", tooltip="write the note in your own editor"),
        Binding("plus", "keep(1)", "Keep more", show=False, key_display="+", id="fold.more"),
        Binding("minus", "keep(-1)", "Keep less", show=False, key_display="-", id="fold.less"),
        Binding("tab", "other_pane", "Rows/note", id="fold.pane"),
        Binding("shift+tab", "other_pane", "Rows/note", show=False, id="fold.pane_back"),
        Binding("question_mark", "help", "Help", show=False, key_display="?", id="fold.help"),
        Binding("escape", "leave", "Leave", key_display="esc", id="fold.leave"),
    ]

    def __init__(self, archive: Archive, plan: Plan, title: str, draft: str | None, command: str | None) -> None:
        super().__init__()
        self._archive, self._title, self._command = archive, title, command
        self._take(plan)
        self.draft = self.fold.present if draft is None else draft
        """The note as it is typed, kept for the next time where it was not used."""
        self._keep: int | None = self._action.keep if self._action.first is None else None
        self._epoch = 0
        self._says = ""
        self._working: Worker[None] | None = None
        """What works on a note or carries the compaction out, until it says how that went or is stopped."""
        self._summarizing = False

    def _take(self, plan: Plan) -> None:
        if plan.fold is None or not isinstance(plan.action, Compact):
            raise TypeError("this is no plan of a compaction")
        self._plan, self.fold, self._action = plan, plan.fold, plan.action
        self.cut: Cut | None = plan.fold.cut
        self._asked = plan.action.first, plan.action.last

    def compose(self) -> ComposeResult:
        with Vertical(id="fold-sheet"):
            yield Bar(id="fold-title")
            self._why = Inspector(id="fold-why")
            yield self._why
            self._head = ContextHead(id="fold-head")
            yield self._head
            self._rows = ContextDiff(id="fold-rows")
            yield self._rows
            self._said = Inspector(id="fold-said")
            yield self._said
            yield Bar(id="note-title", classes="pane-title")
            self._note = NoteEditor(self.draft, id="note")
            yield self._note
            yield KeyBar(id="fold-keys")

    def on_mount(self) -> None:
        if not self._rows.is_attached:
            return
        self._why.can_focus = self._said.can_focus = False
        self._note.move_cursor(self._note.document.end)
        self._show_plan()
        self._rows.focus()
        # How many rows there is room for is known by then.
        self.call_after_refresh(self._rows.reveal)

    # -- what is shown

    def _show_plan(self) -> None:
        self._rows.take(self.fold.context)
        if self.cut is not None:
            first, last = self._asked
            leaves = self.cut.leaves
            self._rows.reach(leaves[0].seq if first is None else first, leaves[-1].seq if last is None else last)
            self._asked = self._rows.wanted or self.cut.span
        self._show()

    def _show(self) -> None:
        """Shows what the range as it is would do."""
        self._head.show(self.cut, self.draft)
        self._rows.show(self.cut, self.draft)
        self._show_why()
        self._show_titles()

    def _show_why(self) -> None:
        lines = [(RUNNING, "note")] if self._plan.offline else []
        lines += [(warning, "note") for warning in self._plan.warnings]
        if self.cut is not None:
            lines += [(reason, "accent") for reason in self.cut.reasons]
            if self.cut.notes:
                numbers = ", ".join(map(str, self.cut.notes))
                lines.append((f"the note of an earlier compaction leaves with them: {numbers}", "dim"))
        if self.fold.recorded is not None:
            lines.append((f"recorded of the agent's last call: {human(self.fold.recorded)} tokens in all", "dim"))
        if self.fold.present:
            lines.append(("the note takes the place of the summary that stands there now", "dim"))
        self._why.show([Block(((render.one_line(text), style),)) for text, style in lines])
        self._why.set_class(not lines, "-empty")

    def _show_titles(self) -> None:
        first, last = self._asked
        span = f"{first} to {last}" if first != last else f"message {first}"
        how = f"newest {self._keep} exchange{'s stay' if self._keep != 1 else ' stays'}: + or -" if (
            self._keep is not None) else "shift+↑↓ range"
        self.query_one("#fold-title", Bar).show(
            [(" Compact ", "tab"), (f"{span} ", "strong"), (f"of {self._title}", "dim")], [(f"{how} ", "dim")])
        left = [(" NOTE ", "strong"), (f"~{human(tokens_of(len(self.draft)))} tokens", "dim")]
        hint = "ctrl+s compacts" if self._note.has_focus else "enter: write it here"
        self.query_one("#note-title", Bar).show(left, [(f"{hint} ", "dim")])
        self._said.show([Block(((self._says, "note"),))])
        self._said.set_class(not self._says, "-empty")
        self.query_one("#note-title").set_class(self._note.has_focus, "-on")

    def on_descendant_focus(self) -> None:
        self._show_titles()

    def _say(self, text: str) -> None:
        self._says = render.one_line(text)
        self._show_titles()

    # -- the range

    @on(RangedList.RangeChanged, "#fold-rows")
    def _range_changed(self) -> None:
        wanted = self._rows.wanted
        if wanted is None or wanted == self._asked:
            return
        self._asked, self._keep, self._says = wanted, self._keep_of(wanted), ""
        context, epoch = self.fold.context, self._next()
        self.run_worker(lambda: care.cut(self.post_message, context, *wanted, epoch), thread=True, group="fold",
                        exclusive=True, exit_on_error=False)

    def _keep_of(self, wanted: tuple[int, int]) -> int | None:
        """How many exchanges a proposal keeps, as long as the range is what was proposed."""
        keep = self._keep
        return keep if keep is not None and self.fold.context.propose(keep) == wanted else None

    @on(care.RangeCut)
    def _cut_out(self, event: care.RangeCut) -> None:
        if event.epoch == self._epoch:
            self.cut = event.cut
            self._says = render.one_line(event.text) or self._says
            self._show()

    def action_keep(self, by: int) -> None:
        """Takes the proposal that keeps more exchanges, or fewer."""
        keep = max(1, (self._keep or EXCHANGES) + by if self._keep is not None else EXCHANGES)
        proposed = self.fold.context.propose(keep)
        if proposed is None:
            self._say(f"nothing is older than the newest {keep} exchange{'s' if keep != 1 else ''}")
            return
        self._keep = keep
        self._rows.reach(*proposed)

    def _next(self) -> int:
        """A new epoch: what still works for the range as it was is not wanted any more."""
        if self._summarizing:
            self._says = "the range is another now; ctrl+g summarizes that"
        self._rest()
        self._epoch += 1
        return self._epoch

    def _rest(self) -> None:
        """Nothing is waited for any more."""
        self._working, self._summarizing = None, False

    # -- the note

    @on(TextArea.Changed, "#note")
    def _typed(self) -> None:
        self.draft = self._note.text
        self._says = ""
        self._head.show(self.cut, self.draft)
        self._rows.say(self.draft)
        self._show_titles()

    def _replace(self, text: str) -> None:
        """Puts another text into the editor, which undo there takes back."""
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
        elif cut is not None and self._working is None:
            epoch, command = self._next(), self._command
            self._summarizing = True
            self._say("the summarizer works; esc stops it")
            self._working = self.run_worker(
                lambda: care.note(self.post_message, self._archive, self._action.ref, cut, command, epoch, stopped),
                thread=True, group="fold", exclusive=True, exit_on_error=False)

    @on(care.Noted)
    def _noted(self, event: care.Noted) -> None:
        if event.epoch == self._epoch:
            self._rest()
            self._replace(event.note)
            self._note.focus()

    @on(care.Progressed)
    def _progressed(self, event: care.Progressed) -> None:
        if event.epoch == self._epoch and self._summarizing:
            self._say(f"{event.what} {event.done}; esc stops it")

    @on(VirtualList.Chosen, "#fold-rows")
    def _to_note(self) -> None:
        self._note.focus()

    # -- carrying it out

    def action_compact(self) -> None:
        first, last = self._asked
        if self.cut is None or first is None or last is None or self._working is not None:
            return
        if not self.draft.strip():
            self._note.focus()
            self._say("a note first: it is all that the model will know of what leaves")
            return
        action = Compact(self._action.ref, first, last, self.draft, self._action.keep)
        epoch, seen = self._next(), self.fold
        self._say("…")
        self._working = self.run_worker(
            lambda: care.compact(self.post_message, self._archive, action, seen, epoch, stopped), thread=True,
            group="fold", exclusive=True, exit_on_error=False)

    @on(care.Planned)
    def _planned(self, event: care.Planned) -> None:
        if event.epoch == self._epoch:
            self._rest()
            self._take(event.plan)
            self._show_plan()
            self._say(CHANGED)

    @on(care.Applied)
    def _applied(self, event: care.Applied) -> None:
        self.dismiss(event)

    @on(care.GivenUp)
    def _given_up(self, event: care.GivenUp) -> None:
        if event.epoch == self._epoch:
            self._rest()
            self._say(event.text or STOPPED)

    async def action_help(self) -> None:
        from .help import Help

        if self.is_current:
            await self.app.push_screen(Help(ContextDiff.HELP, self))

    def action_other_pane(self) -> None:
        (self._rows if self._note.has_focus else self._note).focus()

    def action_leave(self) -> None:
        if self._working is not None:
            # One that had not begun yet has nothing to say about it.
            self._working.cancel()
            self._rest()
            self._say(STOPPED)
        else:
            self.dismiss(None)
