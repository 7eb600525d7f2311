"""A manager against a model of it: whatever is done in whatever order, the file holds just the rows that it should."""

from __future__ import annotations

import json
import shutil
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sessionscope.store.nanobot import SessionChanged, SessionManager

KEY, OTHER = "telegram:42", "cli:direct"
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["\ud83d", "\u2028", "é", "x" * 3_000])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]), "content": VALUES},
    optional={"media": VALUES, "latency_ms": VALUES},
)


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The metadata and the rows of a file, each on a line of its own."""
    data = path.read_bytes()
    assert data.endswith(b"\n")
    head, *rows = [json.loads(line) for line in data.split(b"\n")[:-1]]
    assert head["_type"] == "metadata"
    assert not any("_type" in row for row in rows)
    return head, rows


def text(value: Any) -> str:
    """What tells values apart: 1 is not True, and 0.0 is not -0.0."""
    return json.dumps(value)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each container in a value with each of its keys."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, deeper in list(inner) for place in ((value, key), *places(deeper))]


class Machine(RuleBasedStateMachine):
    """`stored` is what the file should hold, `known` what our session was read from or saved as last.

    A session is read by one manager, while a second one writes to the same file in between.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.manager, self.second = SessionManager(self.folder), SessionManager(self.folder)
        self.path = self.manager._get_session_path(KEY)
        self.session = self.manager.get_or_create(KEY)
        self.stored: list[Any] = []
        self.known: list[Any] = []
        self.retitled = False

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(rows=st.lists(ROWS, max_size=4))
    def begin(self, rows: list[Any]) -> None:
        self.session.messages.extend(rows)
        self.manager.save(self.session)
        self.settle(rows)

    def settle(self, rows: list[Any]) -> None:
        """Our session and the file are the same again."""
        self.stored, self.known, self.retitled = deepcopy(rows), deepcopy(rows), False

    def merged(self) -> list[Any] | None:
        """What a save should make of our session and the file, None where it should refuse."""
        own, known, stored = self.session.messages, self.known, self.stored
        if text(stored) == text(known):
            return deepcopy(own)
        if text(own) == text(known) and not self.retitled:
            return deepcopy(stored)
        if text([own[: len(known)], stored[: len(known)]]) == text([known, known]):
            return deepcopy(stored + own[len(known) :])
        return deepcopy(own) if text(own) == text(stored) else None

    @rule(fsync=st.booleans())
    def save(self, fsync: bool) -> None:
        expected = self.merged()
        if expected is None:
            with pytest.raises(SessionChanged):
                self.manager.save(self.session, fsync=fsync)
            self.load()
            return
        self.manager.save(self.session, fsync=fsync)
        assert text(self.session.messages) == text(expected)
        head = read(self.path)[0]
        assert text(head["metadata"]) == text(self.session.metadata)
        assert head["updated_at"] == self.session.updated_at.isoformat()
        self.settle(expected)

    @rule(rows=st.lists(ROWS, min_size=1, max_size=3), fsync=st.booleans())
    def append(self, rows: list[Any], fsync: bool) -> None:
        """Changes of earlier rows wait where nothing else has happened to the file, and else are saved too."""
        own = self.session.messages
        if len(own) == len(self.known) and text(self.stored) == text(self.known):
            self.manager.append(self.session, rows, fsync=fsync)
            assert text(own) == text([*own[: len(self.known)], *rows])
            now = text(read(self.path)[1])
            assert now in (text(self.known + rows), text(own))
            self.settle(json.loads(now))
            return
        before = text(own)
        own += rows
        expected = self.merged()
        del own[len(own) - len(rows) :]
        if expected is None:
            with pytest.raises(SessionChanged):
                self.manager.append(self.session, rows, fsync=fsync)
            assert text(own) == before
            self.load()
            return
        self.manager.append(self.session, rows, fsync=fsync)
        assert text(own) == text(expected)
        self.settle(expected)

    @rule()
    def load(self) -> None:
        self.manager.invalidate(KEY)
        self.session = self.manager.get_or_create(KEY)
        assert text(self.session.messages) == text(self.stored)
        self.settle(self.stored)

    @rule(row=ROWS)
    def add(self, row: dict[str, Any]) -> None:
        self.session.messages.append(row)

    @precondition(lambda self: self.session.messages)
    @rule(data=st.data(), value=VALUES)
    def change(self, data: st.DataObject, value: Any) -> None:
        container, key = data.draw(st.sampled_from(places(self.session.messages)))
        if container is self.session.messages:
            container[key]["content"] = value
        else:
            container[key] = value

    @precondition(lambda self: self.session.messages)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        del self.session.messages[data.draw(st.integers(0, len(self.session.messages) - 1))]

    @rule()
    def clear(self) -> None:
        self.session.clear()
        self.retitled = True

    @rule(limit=st.integers(1, 4))
    def retain(self, limit: int) -> None:
        self.session.retain_recent_legal_suffix(limit)
        self.retitled = True

    @rule(value=VALUES)
    def title(self, value: Any) -> None:
        self.session.metadata["title"] = value
        self.retitled = True

    @rule(rows=st.lists(ROWS, min_size=1, max_size=3))
    def other_adds(self, rows: list[Any]) -> None:
        self.second.invalidate(KEY)
        self.second.append(self.second.get_or_create(KEY), rows)
        self.stored = self.stored + deepcopy(rows)

    @precondition(lambda self: self.stored)
    @rule(value=VALUES)
    def other_changes(self, value: Any) -> None:
        self.second.invalidate(KEY)
        session = self.second.get_or_create(KEY)
        session.messages[0]["content"] = value
        self.second.save(session)
        self.stored = [{**self.stored[0], "content": deepcopy(value)}, *self.stored[1:]]

    @rule(by_other=st.booleans())
    def delete(self, by_other: bool) -> None:
        assert (self.second if by_other else self.manager).delete_session(KEY)
        assert not self.path.exists()
        with pytest.raises(SessionChanged):
            self.manager.save(self.session)
        assert self.manager.flush_all() == (OTHER in self.manager._cache)
        self.stored = []
        self.load()
        self.manager.save(self.session)

    @rule()
    def other_session(self) -> None:
        session = self.manager.get_or_create(OTHER)
        session.add_message("user", "beside")
        self.manager.save(session)

    @invariant()
    def the_file_is_as_it_should_be(self) -> None:
        if not self.path.exists():
            assert self.stored == []
            return
        head, rows = read(self.path)
        assert text(rows) == text(self.stored)
        assert (head["key"], "pending_from" in head) == (KEY, False)
        assert not list(self.path.parent.glob("*.tmp"))
        assert not (self.folder / "sessions.sessionscope" / "quarantine").exists()
        assert text(SessionManager(self.folder).get_or_create(KEY).messages) == text(self.stored)


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=20)
test_the_file_holds_what_the_model_does = Machine.TestCase
