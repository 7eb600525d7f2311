"""Sentences that the reads, the doctors and the actions of several formats share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTHING_DONE = "Nothing was done."
NOTHING_TO_REPAIR = "There is nothing to put right."
NOTHING_TO_SETTLE = "No call is open in it, and no turn."
STOPPED = "stopped before anything was changed."
SESSION_CHANGED = "The session has changed since this was planned; nothing was done. Look again."
NOTE_IS_MISSING = "a compaction needs a note, which is all that the model will know of what leaves."
TURN_IS_OPEN = "a turn is open"

NAMED_CALLS = 5
"""How many calls a finding names."""
NAME_CHARS = 40
"""How many characters of a name from a file a sentence shows."""
WARNINGS = 3
"""How many of the warnings of a plan a refusal repeats."""


def session_is_gone(session_id: str) -> str:
    """Return that a session no longer exists."""
    return f"session {session_id!r} is gone."


def message_is_gone(row: str, session_id: str) -> str:
    """Return that a message no longer exists."""
    return f"message {row} of session {session_id!r} is gone."


def name_is_ambiguous(name: str, refs: Iterable[object]) -> str:
    """Return that a name stands for several sessions, with their refs."""
    return f"{name!r} names more than one session; say which: {', '.join(map(str, refs))}."


def name_is_unknown(name: str, similar: Sequence[str]) -> str:
    """Return that a name stands for no session, with the ids of similar ones."""
    return f"no session {name!r}" + (f"; did you mean {', '.join(similar)}?" if similar else ".")


def is_not_overwritten(what: str) -> str:
    """Return that something exists and is therefore not restored."""
    return f"{what} is there already and is not overwritten"


def close_anyway(warnings: Sequence[str]) -> str:
    """Return that sessions are not closed because of warnings."""
    return f"{'; '.join(warnings[:WARNINGS])}. Close it anyway, or settle it first."


def calls_without_result(count: int) -> str:
    """Return how many calls have no result."""
    return f"{count:,} {'call is' if count == 1 else 'calls are'} not answered"


def already_undone(number: int) -> str:
    """Return that a compaction was undone before."""
    return f"compaction {number} was taken back already."


def cannot_back_up(archive: object, error: OSError) -> str:
    """Return that a change was not made, since it could not be backed up."""
    why = error.strerror or error
    return f"{archive}: what would change cannot be backed up beside it ({why}); nothing was changed."


def bad_manifest(bundle: object, error: Exception) -> str:
    """Return that the manifest of a bundle cannot be used."""
    return f"{bundle}: its manifest cannot be read ({error})."


# -- findings


def unanswered_calls(names: Sequence[object]) -> str:
    """Return the finding about calls without a result in a session without an open turn."""
    shown = ", ".join(str(name)[:NAME_CHARS] for name in names[:NAMED_CALLS])
    return f"Nobody answered {len(names)} of its calls ({shown}), and no turn is open that would; settle answers them."


def open_turn(what: str) -> str:
    """Return the finding about a turn that waits for something."""
    return f"A turn is open: {what}. Its agent may go on with it; if it never will, settle ends it."
