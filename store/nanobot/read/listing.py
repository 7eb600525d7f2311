"""The sessions of a folder, from the first lines of their files. A file is read again only if it has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import nlargest
from itertools import islice
from threading import Lock

from sessionscope.store.model.errors import Cancelled
from sessionscope.store.model.rows import Count, Ref, SessionSummary, State
from sessionscope.store.model.session_table import SessionTable, TableEntry
from sessionscope.store.nanobot.format.clock import Clock
from sessionscope.store.nanobot.format.compaction_log import in_force
from sessionscope.store.nanobot.format.discovery import Folder
from sessionscope.store.nanobot.format.file import OpenFile, Stat, stat_of, stat_or_none, trouble
from sessionscope.store.nanobot.format.file_head import FileHead, read_file_head
from sessionscope.store.nanobot.format.lines import FileOutline
from sessionscope.store.nanobot.format.names import ENDING, channel_of, key_of
from sessionscope.store.protocols import Cancel, Stamp, never

from .briefs import MAX_HEAD_BYTES, Brief, estimated_messages, forks, leftovers, read_brief
from .context import offset_of

HEAD_BYTES = 65_536
"""How many bytes are read of a file for its summary. More are read if they do not hold one whole line."""
SMALL_SESSIONS = 300
"""A folder of at most so many sessions is small: its session table is made at once, and all its files are polled."""
SMALL_FILES = 1_200
"""If a small folder has more files than that, only the sessions are polled."""
POLLED_RECENT = 64
"""In a large folder, how many of the files changed last are polled each time."""
POLLED_IN_TURN = 250
"""In a large folder, how many of all files are polled each time, in turn."""
UNDER_WAY_S = 10
"""A temporary file that changed less than so many seconds ago belongs to a save under way, and is not listed."""
CANCEL_INTERVAL = 64
"""After so many files, it is checked whether the walk was cancelled."""
KIND = "root"
"""The kind of a session that belongs to no other."""
LEFTOVER = "leftover"
"""The kind of a file that a save left."""
FORK = "fork"
"""The kind of a session that was forked from another."""


class Listing:
    """The sessions of a folder. A session's key is stable while the archive is open. Shared between threads."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._prefix = os.path.join(folder.path, "")
        self._keys: dict[str, int] = {}
        """The key of each file name."""
        self._names: list[str] = []
        """The file name of each key."""
        self._briefs: dict[str, Brief] = {}
        """The facts of the latest session table, by file name."""
        self._parents: dict[str, str] = {}
        """The file of each fork's or leftover's parent, by file name."""
        self._recent_names: list[str] = []
        """The files changed last."""
        self._turn = 0
        """The position of the first file that was polled in turn the last time."""
        self._lock = Lock()

    def key(self, name: str) -> int:
        """Return the key of a file. A new file gets the next key."""
        key = self._keys.get(name)
        return key if key is not None else self._keys_of([name])[name]

    def _keys_of(self, names: Iterable[str]) -> dict[str, int]:
        """Give keys to new files. Return the keys of all files."""
        with self._lock:
            keys = self._keys
            for name in names:
                if name not in keys:
                    # The name is stored first, since other threads read without the lock.
                    self._names.append(name)
                    keys[name] = len(self._names) - 1
            return keys

    def name(self, key: int) -> str | None:
        """Return the file of a key, or None if there is no such key."""
        return self._names[key] if 0 <= key < len(self._names) else None

    # -- all sessions

    def small(self) -> bool:
        """Return whether the folder has few sessions."""
        try:
            return len(list(islice(self._folder.files(), SMALL_SESSIONS + 1))) <= SMALL_SESSIONS
        except OSError:
            return True

    def newest(self, limit: int) -> list[str]:
        """Return the files that were changed last, the latest first."""
        try:
            changed = ((entry.stat().st_mtime_ns, entry.name) for entry in self._folder.files())
            return [name for _, name in nlargest(limit, changed)]
        except OSError as error:
            raise trouble(self._folder.path, error) from error

    def session_table(self, cancel: Cancel) -> SessionTable:
        """Return the table of all sessions. Files that have not changed are not read again. Raises Cancelled."""
        known_briefs = self._briefs
        briefs: dict[str, Brief] = {}
        with _open_folder(self._folder.path) as folder_fd:
            for index, (name, stat) in enumerate(self._scan()):
                if index % CANCEL_INTERVAL == 0 and cancel():
                    raise Cancelled("stopped")
                brief = known_briefs.get(name)
                if brief is None or brief.stat != stat:
                    brief = read_brief(self._folder, self._clock, name, folder_fd)
                if brief is not None:
                    briefs[name] = brief
        self._briefs, self._parents = briefs, forks(briefs) | leftovers(briefs, self._folder)
        self._recent_names = nlargest(POLLED_RECENT, briefs, key=lambda name: briefs[name].stat.mtime_ns)
        return self._table(briefs, self._parents)

    def _scan(self) -> list[tuple[str, Stat | None]]:
        """Return the name of every file, with its status unless it is new."""
        files: list[tuple[str, Stat | None]] = []
        try:
            for entry in self._folder.files():
                name = entry.name
                is_temporary = not name.endswith(ENDING)
                if not is_temporary and name not in self._briefs:
                    files.append((name, None))
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                is_under_way = is_temporary and time.time() - status.st_mtime < UNDER_WAY_S
                if not is_under_way or self._folder.only is not None:
                    files.append((name, stat_of(status)))
        except FileNotFoundError:
            # A folder that no longer exists has no sessions. One that cannot be read now may still have them.
            return []
        except OSError as error:
            raise trouble(self._folder.path, error) from error
        return files

    def _table(self, briefs: dict[str, Brief], parents: dict[str, str]) -> SessionTable:
        in_order = sorted(briefs.items(), key=lambda item: (item[1].created_at or 0, item[0]))
        keys = self._keys_of(name for name, _ in in_order)
        return SessionTable(
            [
                TableEntry(
                    key=keys[name],
                    id=brief.id,
                    parent_id=None,
                    created_at=brief.created_at or 0,
                    updated_at=brief.updated_at or brief.stat.mtime_ns // 1_000_000,
                    size=brief.messages,
                    compactions=brief.offset,
                    subagent=False,
                    title=brief.title,
                    group=brief.channel,
                    parent_key=keys[parents[name]] if name in parents else None,
                )
                for name, brief in in_order
            ]
        )

    def ref(self, session_table: SessionTable, at: int) -> Ref:
        """Return the ref of a session, given its position in the table."""
        return Ref(self._folder.layout, session_table.ids[at], self.name(session_table.keys[at]))

    def names_for(self, session_table: SessionTable, at: int) -> tuple[str, ...]:
        """Return the names by which a user may call a session, besides its id."""
        file = self.name(session_table.keys[at]) or ""
        return (
            str(self.ref(session_table, at)),
            f"{self._folder.layout}:{session_table.ids[at]}",
            file,
            file.removesuffix(ENDING),
        )

    def source_of(self, name: str) -> Ref | None:
        """Return the session from which a file's session was forked, or None if it was not."""
        if not self._briefs:
            self.session_table(never)
        source = self._parents.get(name)
        brief = self._briefs.get(source) if source is not None else None
        return Ref(self._folder.layout, brief.id, source) if brief is not None else None

    def file_of(self, key: str) -> str | None:
        """Return the file of the session with this session key, or None. A leftover of a save does not count."""
        if not self._briefs:
            self.session_table(never)
        return next((name for name, brief in self._briefs.items() if brief.id == key and not brief.temporary), None)

    # -- one session

    def head(self, name: str, file: OpenFile) -> tuple[FileHead, bytes]:
        """Return the head of a file with a preview, and the bytes from which it was read."""
        data = file.read(0, HEAD_BYTES)
        if len(data) < file.size and b"\n" not in data:
            data = file.read(0, MAX_HEAD_BYTES)
        return read_file_head(self._folder.name_of(name), data, len(data) == file.size), data

    def summary(
        self, name: str, head: FileHead, file: OpenFile, data: bytes, outline: FileOutline | None
    ) -> SessionSummary:
        """Return the summary of a session, given what `head` returned. Its counts are exact if it has an outline."""
        metadata = head.metadata
        if outline is not None:
            messages = Count(outline.messages)
            offset = outline.last_compact_seq or 0
        else:
            messages = Count(estimated_messages(data, file.size, metadata is not None), False)
            offset = offset_of(metadata, messages.value, head.later).value
        created_at = self._clock.ms(metadata.created_at) if metadata is not None else None
        updated_at = self._clock.ms(metadata.updated_at) if metadata is not None else None
        damage = list(metadata.damage) if metadata is not None else []
        if not file.size:
            damage.append("the file is empty")
        elif metadata is None:
            damage.append("there is no metadata line")
        if metadata is not None and created_at is None:
            damage.append("created_at is no date")
        if metadata is not None and updated_at is None:
            damage.append("updated_at is no date")
        if outline is not None and outline.rows_without_seq:
            damage.append("there are damaged lines")
        parent_id = self._parent_id(name)
        if head.name.temporary:
            kind = LEFTOVER
        elif parent_id is not None:
            kind = FORK
        else:
            kind = KIND
        return SessionSummary(
            ref=Ref(self._folder.layout, head.key, name),
            key=self.key(name),
            parent_id=parent_id,
            kind=kind,
            lifecycle="",
            status="active",
            title=metadata.title if metadata is not None else None,
            preview=head.preview,
            message_count=messages,
            active_count=Count(messages.value - offset, messages.exact),
            compaction_count=in_force(metadata.values, offset) if metadata is not None else 0,
            created_at=created_at,
            updated_at=updated_at,
            group=head.channel,
            damage=tuple(damage),
        )

    def _parent_id(self, name: str) -> str | None:
        brief = self._briefs.get(self._parents.get(name, ""))
        return brief.id if brief is not None else None

    def unreadable(self, name: str, why: str) -> SessionSummary:
        """Return the summary of a file that cannot be read."""
        key = key_of(self._folder.name_of(name).stem, None)
        return SessionSummary(
            ref=Ref(self._folder.layout, key, name),
            key=self.key(name),
            parent_id=None,
            kind=KIND,
            lifecycle="",
            status=State.DAMAGED,
            title=None,
            preview="",
            message_count=Count(0, False),
            active_count=Count(0, False),
            compaction_count=0,
            created_at=None,
            updated_at=None,
            group=channel_of(key),
            damage=(why,),
        )

    # -- changes

    def stamp(self) -> Stamp:
        """Return the statuses of the folder, the log and the files. In a large folder, only some files are polled."""
        folder = stat_or_none(self._folder.path)
        log = stat_or_none(self._folder.log.path) if self._folder.log is not None else None
        if len(self._briefs) <= SMALL_SESSIONS:
            return folder, log, tuple(sorted((name, stat_or_none(self._path(name))) for name in self._all_names()))
        recent = tuple(stat_or_none(self._path(name)) for name in self._recent_names)
        return folder, log, recent, self._changed_in_turn()

    def _all_names(self) -> list[str]:
        """Return all files of a small folder, since sidecars count too. If they are too many, only the sessions."""
        try:
            with os.scandir(self._folder.path) as entries:
                names = [entry.name for entry in islice(entries, SMALL_FILES + 1)]
        except OSError:
            return []
        return names if len(names) <= SMALL_FILES else list(self._briefs)

    def _changed_in_turn(self) -> tuple[str, ...]:
        """Poll the files whose turn it is. Return those that have changed, not the statuses, which differ each turn."""
        briefs = self._briefs
        names = list(briefs)
        self._turn = (self._turn + POLLED_IN_TURN) % len(names)
        polled = names[self._turn : self._turn + POLLED_IN_TURN]
        return tuple(name for name in polled if stat_or_none(self._path(name)) != briefs[name].stat)

    def _path(self, name: str) -> str:
        return self._prefix + name


@contextmanager
def _open_folder(path: str) -> Iterator[int | None]:
    """Open a folder and yield its descriptor, by which its files are opened faster, or None if the system has none."""
    try:
        fd = os.open(path, os.O_RDONLY) if os.open in os.supports_dir_fd else None
    except OSError:
        fd = None
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)
