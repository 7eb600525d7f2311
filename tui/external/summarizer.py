"""A note from the user's command: the messages go in as text, the note comes out. Uses no shell and no screen."""

from __future__ import annotations

import os
import re
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress

from sessionscope.store import Cancel, Cancelled, Progress
from sessionscope.tui.text.visible import visible

SECONDS = 300
"""How many seconds a command may take."""
NOTE_BYTES = 100_000
"""How many bytes a command may print."""
COMPLAINT_BYTES = 4_000
"""How many bytes of its stderr are kept."""
TICK_S = 0.1
"""Seconds between two calls of `cancel`."""
GRACE_S = 1.0
"""Seconds that a command has to end before it is killed."""
_PIECE_BYTES = 65_536
"""How many bytes are read or written at once."""
# What a terminal interprets: control sequences, commands with a string, and two-character escapes.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|\x9b[0-?]*[ -/]*[@-~]", re.DOTALL
)
_CONTROLS = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f]")


class NoteError(Exception):
    """There is no note. The text says why, in one sentence."""


def summarize(command: str, pieces: Iterable[str], progress: Progress, cancel: Cancel, seconds: float = SECONDS) -> str:
    """Return what a command prints when it is given some text. Its process group ends with it, whatever happens.

    Raises NoteError if that is no note, Cancelled, and whatever reading the pieces raises.
    """
    process = _started(command)
    try:
        printed, complaint = _Talk(process, pieces, progress, cancel, seconds).heard()
        status = process.wait()
    finally:
        _end(process)
    if status:
        last = next((line for line in reversed(complaint.decode(errors="replace").splitlines()) if line.strip()), "")
        how = f"ended with status {status}" if status > 0 else f"was ended by {_signal(-status)}"
        raise NoteError(f"the summarizer {how}{': ' if last else ''}{visible(_plain(last))[:200]}.")
    try:
        note = _plain(printed.decode()).strip()
    except UnicodeDecodeError:
        raise NoteError("the summarizer printed something else than text in UTF-8.") from None
    if not note:
        raise NoteError("the summarizer printed nothing.")
    return note


def _started(command: str) -> subprocess.Popen[bytes]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise NoteError(f"the summarizer's command line cannot be taken apart: {error}.") from None
    if not words:
        raise NoteError("no summarizer is named; set summarizer in the config, or use --summarizer.")
    try:
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise NoteError(f"the summarizer {visible(words[0])} could not be started: {why}.") from None


class _Talk:
    """Writes to a command and reads what it prints, without waiting for either."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        pieces: Iterable[str],
        progress: Progress,
        cancel: Cancel,
        seconds: float,
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process, self._pieces, self._progress, self._cancel = process, iter(pieces), progress, cancel
        self._seconds, self._began = seconds, time.monotonic()
        self._unsent = b""
        self._in, self._out, self._err = process.stdin, process.stdout, process.stderr
        self._printed, self._complaint = bytearray(), bytearray()

    def heard(self) -> tuple[bytes, bytes]:
        """Return what it printed, and the end of its stderr."""
        with selectors.DefaultSelector() as selector:
            os.set_blocking(self._in.fileno(), False)
            selector.register(self._in, selectors.EVENT_WRITE, self._send)
            selector.register(self._out, selectors.EVENT_READ, self._hear)
            selector.register(self._err, selectors.EVENT_READ, self._hear_complaint)
            while selector.get_map():
                self._check()
                ended = self._process.poll() is not None
                ready = selector.select(TICK_S)
                for key, _ in ready:
                    if not key.data():
                        selector.unregister(key.fileobj)
                        if key.fileobj is self._in:
                            self._in.close()
                # Its children may hold its pipes open for ever, but everything that it wrote itself was read.
                if ended and not ready:
                    break
        while self._process.poll() is None:
            self._check()
            time.sleep(TICK_S)
        return bytes(self._printed), bytes(self._complaint)

    def _check(self) -> None:
        took = time.monotonic() - self._began
        if self._cancel():
            raise Cancelled("stopped; nothing was changed.")
        if took > self._seconds:
            raise NoteError(f"the summarizer took longer than {self._seconds:g} seconds and was stopped.")
        self._progress("the summarizer works, seconds", int(took), 0)

    def _send(self) -> bool:
        while not self._unsent:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._unsent = piece.encode("utf-8", "replace")
        try:
            self._unsent = self._unsent[os.write(self._in.fileno(), self._unsent[:_PIECE_BYTES]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            # It may need no more input.
            return False
        return True

    def _hear(self) -> bool:
        data = os.read(self._out.fileno(), _PIECE_BYTES)
        self._printed += data
        if len(self._printed) > NOTE_BYTES:
            raise NoteError(f"the summarizer printed more than {NOTE_BYTES:,} bytes, which is no note.")
        return bool(data)

    def _hear_complaint(self) -> bool:
        data = os.read(self._err.fileno(), _PIECE_BYTES)
        self._complaint += data
        del self._complaint[:-COMPLAINT_BYTES]
        return bool(data)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and everything that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
            if number is signal.SIGKILL:
                break
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _plain(text: str) -> str:
    """Return text without anything that a terminal would interpret, and with plain line ends."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
