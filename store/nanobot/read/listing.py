"""The sessions of a folder by what the beginnings of their files tell, read again only where a file changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import nlargest
from itertools import islice
from threading import Lock

from msgspec import UNSET

from sessionscope.store.model.errors import Cancelled, StoreError, UnknownSession
from sessionscope.store.model.rows import Count, Ref, SessionSummary, State
from sessionscope.store.model.session_table import SessionTable, TableEntry
from sessionscope.store.nanobot.format.clock import Clock
from sessionscope.store.nanobot.format.compaction_log import in_force
from sessionscope.store.nanobot.format.discovery import Folder
from sessionscope.store.nanobot.format.file import OpenFile, Stat, beginning, stat_of, trouble
from sessionscope.store.nanobot.format.file_head import (
    KEY_CHARS,
    FileHead,
    HeadLine,
    Metadata,
    metadata_in,
    read_file_head,
    read_plain_head,
)
from sessionscope.store.nanobot.format.lines import FileOutline
from sessionscope.store.nanobot.format.names import ENDING, channel_of, key_of
from sessionscope.store.protocols import Cancel, Stamp, never

from .briefs import Brief, forks, leftovers
from .context import offset_of

HEAD_BYTES, LINE_BYTES, LONGEST = 65_536, 2_048, 1 << 20
"""What is read of a file for its summary, for a session table, and at most for a metadata line."""
FEW, FEW_FILES, HOT, TURN = 300, 1_200, 64, 250
"""Sessions that are counted at once, in a folder of files that each look asks for; of more, those it asks for each time
and in turn."""
UNDER_WAY_S = 10
"""How old a temporary file is at least before it counts as left behind."""
KIND, LEFTOVER, FORK = "root", "leftover", "fork"


class Listing:
    """Which files there are, by keys that last as long as the archive is open. Shared between threads."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._prefix = os.path.join(folder.path, "")
        self._keys: dict[str, int] = {}
        self._names: list[str] = []
        self._briefs: dict[str, Brief] = {}
        self._parents: dict[str, str] = {}
        self._hot: list[str] = []
        self._turn = 0
        self._lock = Lock()

    def key(self, name: str) -> int:
        """The key of a file."""
        known = self._keys.get(name)
        if known is not None:
            return known
        with self._lock:
            if name not in self._keys:
                self._names.append(name)
                self._keys[name] = len(self._names) - 1
            return self._keys[name]

    def _keys_of(self, names: Iterable[str]) -> dict[str, int]:
        """The keys of all files, of which these have one now."""
        with self._lock:
            keys = self._keys
            for name in names:
                if name not in keys:
                    keys[name] = len(self._names)
                    self._names.append(name)
            return keys

    def name(self, key: int) -> str | None:
        """The file of a key."""
        return self._names[key] if 0 <= key < len(self._names) else None

    # -- all of them

    def _scan(self) -> list[tuple[str, Stat | None]]:
        """Every file, with what it looks like if it was read before."""
        found: list[tuple[str, Stat | None]] = []
        try:
            for entry in self._folder.files():
                name = entry.name
                if name in self._briefs or not name.endswith(ENDING):
                    try:
                        status = entry.stat()
                    except FileNotFoundError:
                        continue
                    # A save that is under way has a temporary file too; it is gone in a moment.
                    fresh = not name.endswith(ENDING) and time.time() - status.st_mtime < UNDER_WAY_S
                    if not fresh or self._folder.only is not None:
                        found.append((name, stat_of(status)))
                else:
                    found.append((name, None))
        except FileNotFoundError:
            # A folder that went away has no sessions any more; one that cannot be read now may still have them.
            return []
        except OSError as error:
            raise trouble(self._folder.path, error) from error
        return found

    def small(self) -> bool:
        """Whether there are few sessions."""
        many = 0
        try:
            for many, _ in enumerate(self._folder.files(), 1):
                if many > FEW:
                    break
        except OSError:
            return True
        return many <= FEW

    def newest(self, limit: int) -> list[str]:
        """The files that were written last, the newest first."""
        try:
            written = ((entry.stat().st_mtime_ns, entry.name) for entry in self._folder.files())
            return [name for _, name in nlargest(limit, written)]
        except OSError as error:
            raise trouble(self._folder.path, error) from error

    def session_table(self, cancel: Cancel) -> SessionTable:
        """Every session. Files that are as they were are not read again. Raises Cancelled."""
        briefs: dict[str, Brief] = {}
        known_briefs = self._briefs
        with _open_folder(self._folder.path) as folder:
            for many, (name, stat) in enumerate(self._scan()):
                if not many % 64 and cancel():
                    raise Cancelled("stopped")
                known = known_briefs.get(name)
                brief = known if known is not None and known.stat == stat else self._brief(name, folder)
                if brief is not None:
                    briefs[name] = brief
        parents = forks(briefs) | leftovers(briefs, self._folder)
        self._briefs, self._parents = briefs, parents
        self._hot = nlargest(HOT, briefs, key=lambda name: briefs[name].stat.mtime_ns)
        order = sorted(briefs.items(), key=lambda item: (item[1].created_at or 0, item[0]))
        key = self._keys_of(name for name, _ in order).__getitem__
        return SessionTable(
            [
                TableEntry(
                    key(name),
                    brief.id,
                    None,
                    brief.created_at or 0,
                    brief.updated_at or brief.stat.mtime_ns // 1_000_000,
                    brief.messages,
                    brief.offset,
                    False,
                    brief.title,
                    brief.channel,
                    key(parents[name]) if name in parents else None,
                )
                for name, brief in order
            ]
        )

    def _brief(self, name: str, folder: int | None) -> Brief | None:
        """What is told of a file by its first lines; None where it is no session's, or gone.

        `folder` is the number of its folder, None where the system opens none.
        """
        try:
            data, stat = beginning(name if folder is not None else self._path(name), LINE_BYTES, folder)
            found = read_plain_head(data)
            if found is not None:
                return self._plain(name, stat, data, *found)
            # Two whole lines are wanted: the metadata, and the first message.
            size = LINE_BYTES
            while len(data) == size and data.count(b"\n") < 2 and size < LONGEST:
                size *= 8
                data, stat = beginning(self._path(name), size)
        except UnknownSession:
            return None
        except StoreError:
            seen = _stat(self._path(name))
            return self._described(name, seen, b"", None, None) if seen is not None else None
        head = read_file_head(self._folder.name_of(name), data, len(data) < size, preview=False)
        if head.log and self._folder.only is None:
            return None
        return self._described(name, stat, data, head.metadata, head.first_timestamp)

    def _plain(self, name: str, stat: Stat, data: bytes, line: HeadLine, first: str | None) -> Brief:
        """The same as `_described`, in fewer steps, for a file that begins as nearly all do."""
        messages, offset = _rows_in(data, stat.size, True), line.last_consolidated
        if line.last_archived is not UNSET or type(offset) is not int or not 0 <= offset <= messages:
            return self._described(name, stat, data, metadata_in(line), first)
        title, ms = line.metadata.get("title"), self._clock.ms
        return Brief(
            stat,
            line.key,
            channel_of(line.key),
            title[:KEY_CHARS] if isinstance(title, str) and title.strip() else None,
            ms(line.created_at),
            ms(line.updated_at),
            first,
            offset,
            messages,
            not name.endswith(ENDING) and self._folder.name_of(name).temporary,
        )

    def _described(self, name: str, stat: Stat, data: bytes, metadata: Metadata | None, first: str | None) -> Brief:
        ms, messages = self._clock.ms, _rows_in(data, stat.size, metadata is not None)
        temporary = not name.endswith(ENDING) and self._folder.name_of(name).temporary
        if metadata is None:
            key = key_of(self._folder.name_of(name).stem, None)
            return Brief(stat, key, channel_of(key), None, None, None, first, 0, messages, temporary)
        key = metadata.key or key_of(self._folder.name_of(name).stem, None)
        offset = offset_of(metadata, messages, metadata.later).value
        return Brief(
            stat,
            key,
            channel_of(key),
            metadata.title,
            ms(metadata.created_at),
            ms(metadata.updated_at),
            first,
            offset,
            messages,
            temporary,
        )

    def ref(self, session_table: SessionTable, at: int) -> Ref:
        """The ref of a session by its position."""
        return Ref(self._folder.layout, session_table.ids[at], self.name(session_table.keys[at]))

    def names_for(self, session_table: SessionTable, at: int) -> tuple[str, ...]:
        """What a person may call a session besides its key."""
        file = self.name(session_table.keys[at]) or ""
        return (
            str(self.ref(session_table, at)),
            f"{self._folder.layout}:{session_table.ids[at]}",
            file,
            file.removesuffix(".jsonl"),
        )

    def source_of(self, name: str) -> Ref | None:
        """The session that a fork's file came from, None for any other."""
        if not self._briefs:
            self.session_table(never)
        source = self._parents.get(name)
        brief = self._briefs.get(source or "")
        return Ref(self._folder.layout, brief.id, source) if brief is not None else None

    def file_of(self, key: str) -> str | None:
        """The file of the one session with this key."""
        if not self._briefs:
            self.session_table(never)
        found = [name for name, brief in self._briefs.items() if brief.id == key and not brief.temporary]
        return found[0] if found else None

    # -- one of them

    def head(self, name: str, file: OpenFile) -> tuple[FileHead, bytes]:
        """What the beginning of a file tells, previews included, and that beginning."""
        data = file.read(0, HEAD_BYTES)
        if len(data) < file.size and b"\n" not in data:
            data = file.read(0, LONGEST)
        return read_file_head(self._folder.name_of(name), data, len(data) == file.size), data

    def summary(
        self, name: str, head: FileHead, file: OpenFile, data: bytes, outline: FileOutline | None
    ) -> SessionSummary:
        """A session in a line; counts are exact where its rows are known."""
        metadata = head.metadata
        if outline is not None:
            messages = Count(outline.messages)
            offset = outline.last_compact_seq or 0
        else:
            messages = Count(_rows_in(data, file.size, metadata is not None), False)
            offset = offset_of(metadata, messages.value, head.later).value
        times = {what: self._clock.ms(getattr(metadata, what, None)) for what in ("created_at", "updated_at")}
        parent = self._parent(name)
        damage = list(metadata.damage) if metadata is not None else []
        if not file.size:
            damage.append("the file is empty")
        elif metadata is None:
            damage.append("there is no metadata line")
        damage += [f"{what} is no date" for what, ms in times.items() if metadata is not None and ms is None]
        if outline is not None and outline.rows_without_seq:
            damage.append("there are damaged lines")
        return SessionSummary(
            ref=Ref(self._folder.layout, head.key, name),
            key=self.key(name),
            parent_id=parent,
            kind=LEFTOVER if head.name.temporary else FORK if parent is not None else KIND,
            lifecycle="",
            status="active",
            title=metadata.title if metadata is not None else None,
            preview=head.preview,
            message_count=messages,
            active_count=Count(messages.value - offset, messages.exact),
            compaction_count=in_force(metadata.values, offset) if metadata is not None else 0,
            created_at=times["created_at"],
            updated_at=times["updated_at"],
            group=head.channel,
            damage=tuple(damage),
        )

    def _parent(self, name: str) -> str | None:
        source = self._briefs.get(self._parents.get(name, ""))
        return source.id if source is not None else None

    def unreadable(self, name: str, why: str) -> SessionSummary:
        """What stands for a file that cannot be read."""
        key = self._guess(name)
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

    def _guess(self, name: str) -> str:
        return key_of(self._folder.name_of(name).stem, None)

    # -- changes

    def stamp(self) -> Stamp:
        """What the folder and its files look like; of many files just the newest, and the others in turn."""
        folder = _stat(self._folder.path)
        log = _stat(self._folder.log.path) if self._folder.log is not None else None
        if len(self._briefs) <= FEW:
            return folder, log, tuple(sorted((name, _stat(self._path(name))) for name in self._everything()))
        names = list(self._briefs)
        self._turn = (self._turn + TURN) % len(names)
        # A file that is looked at in turn counts only where it differs from what is known of it.
        differ = tuple(
            name
            for name in names[self._turn : self._turn + TURN]
            if (brief := self._briefs.get(name)) and _stat(self._path(name)) != brief.stat
        )
        return folder, log, tuple(_stat(self._path(name)) for name in self._hot), differ

    def _everything(self) -> list[str]:
        """All files of the folder: a checkpoint beside a session tells of it too."""
        try:
            with os.scandir(self._folder.path) as entries:
                names = [entry.name for entry in islice(entries, FEW_FILES + 1)]
        except OSError:
            return []
        return names if len(names) <= FEW_FILES else list(self._briefs)

    def _path(self, name: str) -> str:
        return self._prefix + name


@contextmanager
def _open_folder(path: str) -> Iterator[int | None]:
    """A folder by whose number its files are opened sooner; None where the system has no such thing."""
    try:
        fd = os.open(path, os.O_RDONLY) if os.open in os.supports_dir_fd else None
    except OSError:
        fd = None
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _stat(path: str) -> Stat | None:
    try:
        return stat_of(os.stat(path))
    except OSError:
        return None


def _rows_in(data: bytes, size: int, metadata: bool) -> int:
    """How many messages a file of `size` bytes has: counted where `data` is all of it, else reckoned from its lines."""
    lines = data.count(b"\n")
    if len(data) < size:
        lines = lines * size // (data.rfind(b"\n") + 1) if lines else 1
    elif data and not data.endswith(b"\n"):
        lines += 1
    return max(0, lines - metadata)
