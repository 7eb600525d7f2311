"""Every verb of the browser, with its key and the name by which a keymap knows it."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from sessionscope.store import Capability

NEEDS = {
    "ask_limits": Capability.LIMITS,
    "archive": Capability.ARCHIVE,
    "close": Capability.CLOSE,
    "compact": Capability.COMPACT,
    "mark": Capability.CLOSE,
    "settle": Capability.SETTLE,
    "trash": Capability.RESTORE,
    "uncompact": Capability.COMPACT,
    "undo": Capability.RESTORE,
}
"""What an archive must offer for an action to exist: its key, its palette entry, its line in the help."""
ON_LISTS = {"archive", "close", "mark"}
"""Actions on the sessions that are marked, or on the one under the cursor of a list."""
VERBS: list[BindingType] = [
    Binding("s", "pane('sessions')", "Sessions", id="pane.sessions", tooltip="go to the session tree"),
    Binding("p", "pane('previews')", "Previews", show=False, id="pane.previews", tooltip="go to the preview list"),
    Binding("a", "pane('audit')", "Audit", id="pane.audit", tooltip="go to the compaction audit"),
    Binding("v", "cycle_view", "View", id="view.cycle", tooltip="all, active, compacted, context"),
    Binding("1", "view('all')", "All rows", show=False, id="view.all"),
    Binding("2", "view('active')", "Active rows", show=False, id="view.active"),
    Binding("3", "view('compacted')", "Compacted rows", show=False, id="view.compacted"),
    Binding("4", "view('context')", "What the model sees now", show=False, id="view.context"),
    Binding(
        "left_square_bracket",
        "compaction(-1)",
        "Previous compaction",
        key_display="[",
        show=False,
        id="go.previous_compaction",
    ),
    Binding(
        "right_square_bracket", "compaction(1)", "Next compaction", key_display="]", show=False, id="go.next_compaction"
    ),
    Binding("o", "follow", "Follow", id="go.follow", tooltip="note to rows, call to result or child session"),
    Binding("O", "up", "Up", show=False, id="go.up", tooltip="row to its note, session to its caller"),
    Binding("b,backspace", "back", "Back", show=False, id="go.back", tooltip="where you were before"),
    Binding(
        "L",
        "ask_limits",
        "Limits of the context",
        show=False,
        id="view.limits",
        tooltip="messages and tokens that the context view may hold",
    ),
    Binding("colon", "ask('seq')", "Go to seq", key_display=":", show=False, id="go.seq"),
    Binding("slash", "find_here", "Find", key_display="/", id="find", tooltip="filter, or find in the timeline"),
    Binding("f", "ask('filter')", "Filter", show=False, id="filter", tooltip="filter the sessions"),
    Binding("n", "find_next(1)", "Next hit", show=False, id="find.next"),
    Binding("N", "find_next(-1)", "Previous hit", show=False, id="find.previous"),
    Binding("t", "sort", "Sort", show=False, id="sort", tooltip="sessions by activity, creation or size"),
    Binding("m", "mode", "Text/Markdown/raw", show=False, id="inspector.mode"),
    Binding("i", "about", "About the session", show=False, id="inspector.session"),
    Binding("e", "pager", "Open in $PAGER", show=False, id="inspector.pager"),
    Binding("greater_than_sign", "piece(1)", "Read on", key_display=">", show=False, id="inspector.on"),
    Binding("less_than_sign", "piece(-1)", "Read back", key_display="<", show=False, id="inspector.back"),
    Binding("y", "copy", "Copy the message", show=False, id="copy.message"),
    Binding("Y", "copy_id", "Copy the session's id", show=False, id="copy.session"),
    Binding("r", "doctor", "Doctor", show=False, id="doctor", tooltip="what is wrong here, and its repair"),
    Binding(
        "S", "settle", "Settle", show=False, id="settle", tooltip="answer the tool calls that a crash left unanswered"
    ),
    Binding("u", "undo", "Undo", show=False, id="undo", tooltip="take back what was done last"),
    Binding("space", "mark", "Mark", show=False, id="mark", tooltip="mark a session, to close several"),
    Binding(
        "x",
        "close",
        "Close",
        show=False,
        id="close",
        tooltip="close a session, or those that are marked, with what goes with it",
    ),
    Binding(
        "A",
        "archive",
        "Archive/reopen",
        show=False,
        id="archive",
        tooltip="mark a session as archived, or as active again",
    ),
    Binding("c", "compact", "Compact", id="compact", tooltip="fold the marked rows, or what is proposed, into a note"),
    Binding(
        "w",
        "context_usage",
        "Weight",
        show=False,
        id="weigh",
        tooltip="what fills the model's context: by role, the biggest rows, over rounds",
    ),
    Binding("T", "trash", "Trash", show=False, id="trash", tooltip="what was closed, and brought back from there"),
    Binding("escape", "leave", "Leave", show=False, id="leave"),
    Binding("question_mark", "help", "Help", key_display="?", id="help"),
    Binding("q", "quit", "Quit", id="quit"),
]
