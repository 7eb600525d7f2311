"""Whatever is done to `SessionStore`, in whatever order, leaves what a plain model says; errors leave no trace."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sessionscope.store import SessionStore
from sessionscope.store.powerloop import MAX_SPAWN_DEPTH, Counts, SubagentLifecycle

IDS = [f"s{n}" for n in range(6)]
ids = st.sampled_from(IDS)
texts = st.one_of(st.none(), st.text(alphabet="ab \n\x1b[名\N{PARTY POPPER}", max_size=8))
metas = st.one_of(
    st.none(),
    st.dictionaries(
        st.text("ab名", max_size=2),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text('x\n"', max_size=3),
            st.lists(st.integers(0, 3), max_size=2),
        ),
        max_size=2,
    ),
)
seqs = st.integers(-1, 12)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]), "content": texts},
    optional={
        "tool_calls": st.lists(st.fixed_dictionaries({"id": st.text("cd", max_size=2)}), max_size=2),
        "tool_call_id": texts,
        "name": texts,
        "round_index": st.integers(0, 3),
        "meta": metas,
    },
)


@dataclass
class Session:
    """What a session is to the model. A message is its arguments, with `seq` and `state`."""

    parent: str | None
    depth: int
    lifecycle: str
    archived: bool = False
    prompt: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    compactions: list[tuple[int, int, int]] = field(default_factory=list)
    usage: dict[int, int] = field(default_factory=dict)
    pending: dict[str, Any] | None = None
    round_index: int = 0


class Machine(RuleBasedStateMachine):
    """A store and its model, side by side."""

    @initialize()
    def begin(self) -> None:
        self.store = SessionStore.open(":memory:")
        self.model: dict[str, Session] = {}

    def teardown(self) -> None:
        self.store.close()

    def known(self, id_: str, act: Callable[[], object]) -> Session | None:
        """The session of the model if it is there; else the store has to refuse the act."""
        if id_ not in self.model:
            with pytest.raises(ValueError, match=f"unknown session: {id_}"):
                act()
            return None
        return self.model[id_]

    @rule(id_=ids, parent=st.one_of(st.none(), ids), lifecycle=st.sampled_from(SubagentLifecycle), metadata=metas)
    def create(
        self, id_: str, parent: str | None, lifecycle: SubagentLifecycle, metadata: dict[str, Any] | None
    ) -> None:
        def act() -> str:
            return self.store.create_session(
                session_id=id_, parent_session_id=parent, lifecycle=lifecycle, metadata=metadata
            )

        depth = self.model[parent].depth + 1 if parent in self.model else 0
        if parent is not None and parent not in self.model:
            with pytest.raises(ValueError, match="parent session not found"):
                act()
        elif depth > MAX_SPAWN_DEPTH:
            with pytest.raises(ValueError, match="spawn depth"):
                act()
        elif id_ in self.model:
            with pytest.raises(sqlite3.IntegrityError):
                act()
        else:
            assert act() == id_
            self.model[id_] = Session(parent, depth, lifecycle.value, metadata=metadata or {})

    @rule(id_=ids, message=messages)
    def append(self, id_: str, message: dict[str, Any]) -> None:
        def act() -> int:
            return self.store.append_message(id_, **message)

        if session := self.known(id_, act):
            seq = act()
            assert seq == len(session.messages) + 1
            session.messages.append(message | {"seq": seq, "state": "active"})

    @rule(id_=ids, batch=st.lists(messages, min_size=1, max_size=4))
    def append_many(self, id_: str, batch: list[Any]) -> None:
        def act() -> list[int]:
            return self.store.append_messages(id_, batch)

        if session := self.known(id_, act):
            for seq, message in zip(act(), batch, strict=True):
                assert seq == len(session.messages) + 1
                session.messages.append(message | {"seq": seq, "state": "active"})

    @rule(id_=ids, first=seqs, last=seqs, note=texts, meta=metas)
    def compact(self, id_: str, first: int, last: int, note: str, meta: dict[str, Any] | None) -> None:
        def act() -> tuple[int, int]:
            return self.store.record_compaction(
                id_,
                from_seq=first,
                to_seq=last,
                note_content=note,
                before_tokens=9,
                after_tokens=None,
                round_index=2,
                note_meta=meta,
            )

        if session := self.known(id_, act):
            for message in session.messages:
                if first <= message["seq"] <= last:
                    message["state"] = "compacted_out"
            seq = len(session.messages) + 1
            assert act() == (len(session.compactions) + 1, seq)
            session.compactions.append((first, last, seq))
            session.messages.append(
                {
                    "role": "system",
                    "content": note,
                    "name": "compact_note",
                    "round_index": 2,
                    "seq": seq,
                    "state": "active",
                    "meta": {
                        **(meta or {}),
                        "compacted_at_round": 2,
                        "from_seq": first,
                        "to_seq": last,
                        "original_tokens": 9,
                        "summary_tokens": None,
                    },
                }
            )

    @rule(id_=ids, cascade=st.booleans())
    def close(self, id_: str, cascade: bool) -> None:
        gone, waiting = {id_} & self.model.keys(), [id_]
        while cascade and waiting:
            parent = waiting.pop()
            below = {
                id_
                for id_, session in self.model.items()
                if session.parent == parent and session.lifecycle != "detached" and id_ not in gone
            }
            gone |= below
            waiting += below
        assert self.store.close_session(id_, cascade=cascade) == len(gone)
        for closed in gone:
            del self.model[closed]
        for session in self.model.values():
            session.parent = None if session.parent in gone else session.parent

    @rule(id_=ids, archived=st.booleans(), prompt=texts)
    def label(self, id_: str, archived: bool, prompt: str | None) -> None:
        act = self.store.archive_session if archived else self.store.reopen_session
        if session := self.known(id_, lambda: act(id_)):
            act(id_)
            self.store.update_session_prompt(id_, prompt)
            session.archived, session.prompt = archived, prompt

    @rule(id_=ids, round_index=st.integers(0, 2), tokens=st.integers(0, 9), pending=metas)
    def keep(self, id_: str, round_index: int, tokens: int, pending: dict[str, Any] | None) -> None:
        self.store.set_round_index(id_, round_index)
        self.store.set_pending(id_, pending)
        self.store.record_usage(
            id_, round_index=round_index, prompt_tokens=tokens, completion_tokens=0, total_tokens=tokens
        )
        if id_ in self.model:
            session = self.model[id_]
            session.round_index, session.pending = round_index, pending or None
            session.usage[round_index] = tokens

    @rule(id_=ids, message=messages, data=st.data())
    def take_back(self, id_: str, message: dict[str, Any], data: st.DataObject) -> None:
        """A block that fails leaves no trace, whatever was done in it."""

        def block() -> None:
            with self.store.transaction():
                if id_ in self.model:
                    self.store.append_message(id_, **message)
                    self.store.record_compaction(
                        id_,
                        from_seq=1,
                        to_seq=99,
                        note_content="",
                        before_tokens=None,
                        after_tokens=None,
                        round_index=None,
                    )
                self.store.close_session(data.draw(ids), cascade=data.draw(st.booleans()))
                self.store.create_session()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            block()

    @invariant()
    def agree(self) -> None:
        store = self.store
        assert {row.session_id for row in store.list_sessions()} == set(self.model)
        assert {row.session_id for row in store.list_roots()} == {
            id_ for id_, session in self.model.items() if session.parent is None
        }
        for id_ in IDS:
            row, state = store.get_session(id_), store.get_state(id_)
            if id_ not in self.model:
                assert (row, state, store.load_all_messages(id_), store.usage(id_)) == (None, None, [], [])
                continue
            session = self.model[id_]
            assert row is not None
            assert state is not None
            assert (
                row.parent_session_id,
                row.spawn_depth,
                row.lifecycle.value,
                row.status.value,
                row.system_prompt,
                row.metadata,
                row.kind.value == "root",
            ) == (
                session.parent,
                session.depth,
                session.lifecycle,
                "archived" if session.archived else "active",
                session.prompt,
                session.metadata,
                session.depth == 0,
            )
            assert row.updated_at >= row.created_at
            assert (state.next_seq, state.last_compact_seq, state.round_index, state.pending) == (
                len(session.messages) + 1,
                len(session.compactions),
                session.round_index,
                session.pending,
            )
            found = store.load_all_messages(id_)
            assert [
                (m.seq, m.role, m.content, m.tool_calls, m.tool_call_id, m.name, m.round_index, m.meta, m.state.value)
                for m in found
            ] == [
                (
                    m["seq"],
                    m["role"],
                    m["content"],
                    m.get("tool_calls") or None,
                    m.get("tool_call_id"),
                    m.get("name"),
                    m.get("round_index"),
                    m.get("meta") or {},
                    m["state"],
                )
                for m in session.messages
            ]
            active = [m for m in found if m.state == "active"]
            assert store.load_active_messages(id_) == active
            assert store.counts(id_) == Counts(
                len(found), len(active), len(found) - len(active), len(session.compactions)
            )
            assert [(c.compact_seq, c.from_seq, c.to_seq, c.note_seq) for c in store.list_compactions(id_)] == [
                (number, *span) for number, span in enumerate(session.compactions, 1)
            ]
            assert {u.round_index: u.total_tokens for u in store.usage(id_)} == session.usage
            children = {child for child, other in self.model.items() if other.parent == id_}
            assert {child.session_id for child in store.list_children(id_)} == children


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=25)
test_a_store_is_what_its_model_is = Machine.TestCase
