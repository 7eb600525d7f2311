"""What `SessionStore` has beyond upstream: pages, parts, previews, counts, batches and transactions; and its costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionscope.store import SessionStore, open_archive
from sessionscope.store.powerloop import Counts, SubagentLifecycle


@pytest.fixture
def store() -> Iterator[SessionStore]:
    with SessionStore.open(":memory:") as expanded:
        yield expanded


def steps(store: SessionStore, work: Callable[[], object]) -> int:
    """How many instructions of SQLite's machine it takes."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    work()  # Statements are compiled outside of what is counted.
    store._conn.set_progress_handler(step, 1)
    try:
        work()
    finally:
        store._conn.set_progress_handler(None, 1)
    assert count
    return count


def statements(store: SessionStore, work: Callable[[], object]) -> list[str]:
    """What SQLite is asked, by the first word."""
    said: list[str] = []
    store._conn.set_trace_callback(said.append)
    try:
        work()
    finally:
        store._conn.set_trace_callback(None)
    return [statement.split()[0] for statement in said]


def test_pages_of_sessions(store: SessionStore) -> None:
    roots = [store.create_session() for _ in range(7)]
    children = [store.create_session(parent_session_id=id_) for id_ in roots[:3]]
    for listing, expected in ((store.list_sessions, [*roots, *children][::-1]), (store.list_roots, roots[::-1])):
        for limit in (1, 2, 3, 7, 10, 11):
            found, pages, after = [], 0, None
            while (pages == 0 or after is not None) and pages < 20:
                page = listing(after=after, limit=limit)
                assert 0 < len(page) <= limit
                found += [row.session_id for row in page]
                pages, after = pages + 1, page.next
            assert found == expected
            assert pages == -(-len(expected) // limit)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        store.list_roots(limit=0)


def test_a_page_goes_on_where_it_was_although_its_last_session_is_closed(store: SessionStore) -> None:
    ids = [store.create_session() for _ in range(6)]
    page = store.list_sessions(limit=2)
    for row in page:
        store.close_session(row.session_id)
    store.create_session()
    assert [row.session_id for row in store.list_sessions(after=page.next, limit=9)] == ids[3::-1]


def test_an_empty_listing(store: SessionStore) -> None:
    assert (store.list_sessions(), store.list_roots().next, store.list_children("x")) == ([], None, [])


@given(
    st.integers(0, 9),
    st.one_of(st.none(), st.integers(-2, 12)),
    st.one_of(st.none(), st.integers(-2, 12)),
    st.one_of(st.none(), st.integers(0, 12)),
    st.booleans(),
)
def test_a_part_of_the_messages(
    count: int, first: int | None, last: int | None, limit: int | None, newest: bool
) -> None:
    with SessionStore.open(":memory:") as store:
        id_ = store.create_session()
        seqs = store.append_messages(id_, [{"role": "user", "content": str(n)} for n in range(count)])
        inside = [seq for seq in seqs if (first is None or seq >= first) and (last is None or seq <= last)]
        limited = inside if limit is None else inside[:limit]
        if newest and limit is not None:
            limited = inside[max(0, len(inside) - limit) :]
        found = store.messages(id_, from_seq=first, to_seq=last, limit=limit, newest=newest)
        assert [row.seq for row in found] == limited
        assert [row.content for row in found] == [str(seq - 1) for seq in limited]
        with pytest.raises(ValueError, match="at least 0"):
            store.messages(id_, limit=-1)


def walk(store: SessionStore, id_: str) -> list[tuple[str, int]]:
    return [(found.session_id, found.depth) for found in store.list_descendants(id_)]


def test_siblings_stand_in_the_order_of_their_making(store: SessionStore) -> None:
    """By time, and by row where the clock did not move on."""
    root = store.create_session(session_id="root")
    for id_, parent in (("a", root), ("b", root), ("aa", "a"), ("ba", "b"), ("c", root), ("ab", "a")):
        store.create_session(session_id=id_, parent_session_id=parent)
    store._conn.execute("UPDATE sessions SET created_at = 5")
    assert walk(store, root) == [("a", 1), ("aa", 2), ("ab", 2), ("b", 1), ("ba", 2), ("c", 1)]
    store._conn.execute("UPDATE sessions SET created_at = 4 WHERE session_id IN ('c', 'ab')")
    assert walk(store, root) == [("c", 1), ("a", 1), ("ab", 2), ("aa", 2), ("b", 1), ("ba", 2)]
    assert [row.session_id for row in store.list_children(root)] == ["c", "a", "b"]
    assert store.list_descendants("nobody") == []


def test_previews_are_those_of_the_browser(tmp_path: Path) -> None:
    path = tmp_path / "talk.db"
    with SessionStore.open(path) as store:
        for texts in ((), ("  \n", "what is\n  new?"), ("x" * 500,), ("日本語 \N{PARTY POPPER}",), (None, "")):
            id_ = store.create_session()
            store.append_messages(id_, [{"role": "assistant", "content": "well"}] * bool(texts))
            store.append_messages(id_, [{"role": "user", "content": text} for text in texts])
        found = [store.preview(row.session_id) for row in store.list_sessions()]
    assert found == ["well", "日本語 \N{PARTY POPPER}", f"{'x' * 119}…", "what is new?", ""]
    (archive,) = open_archive(path)
    assert [session.preview for session in archive.reader().newest(9)] == found


def test_counts(store: SessionStore) -> None:
    id_ = store.create_session()
    assert store.counts(id_) == store.counts("nobody") == Counts(0, 0, 0, 0)
    store.append_messages(id_, [{"role": "user"}] * 5)
    store.record_compaction(id_, from_seq=1, to_seq=3, note_content="", before_tokens=1, after_tokens=1, round_index=0)
    store._conn.execute("UPDATE messages SET state = 'odd' WHERE seq = 4")
    assert store.counts(id_) == Counts(messages=6, active=2, compacted_out=3, compactions=1)


def test_a_batch_is_what_its_messages_are_one_by_one(tmp_path: Path) -> None:
    batch = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [{"id": "c"}], "round_index": 0},
        {"role": "tool", "content": "b", "tool_call_id": "c", "name": "grep", "meta": {"x": "名"}},
    ]
    with SessionStore.open(":memory:") as store:
        one, other = store.create_session(), store.create_session()
        assert store.append_messages(one, iter(batch)) == [1, 2, 3]
        assert [store.append_message(other, **message) for message in batch] == [1, 2, 3]
        columns = "seq, role, name, content, tool_calls_json, tool_call_id, round_index, state, meta_json"
        first, second = (
            [tuple(row) for row in store._conn.execute(f"SELECT {columns} FROM messages WHERE session_id = ?", (id_,))]
            for id_ in (one, other)
        )
        assert first == second
        assert store.append_messages(one, []) == []
        for bad in ({"role": "user", "text": "x"}, {"content": "x"}, {"role": "user", "meta": {"x": object()}}):
            with pytest.raises(TypeError):
                store.append_messages(one, [batch[0], bad])
        assert store.append_messages(one, batch[:1]) == [4]


def test_a_transaction_is_all_or_nothing(store: SessionStore) -> None:
    id_ = store.create_session()
    with store.transaction():
        child = store.create_session(parent_session_id=id_, lifecycle=SubagentLifecycle.LINKED)
        store.append_message(child, role="user")
        store.archive_session(id_)
        with pytest.raises(ValueError, match="unknown session"):
            store.append_message("nobody", role="user")
    assert store.counts(child).messages == 1

    def fail(act: Callable[[], object]) -> None:
        with store.transaction():
            store.append_message(child, role="user")
            act()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(lambda: store.close_session(id_))
    assert store.counts(child).messages == 1
    with store.transaction():
        with pytest.raises(ZeroDivisionError):
            fail(lambda: store.archive_session(child))
        assert store.append_message(child, role="user") == 2
    assert store.counts(child).messages == 2


# -- costs


def grown(store: SessionStore, size: int) -> str:
    """A session of so many messages, one child for each hundred, in a tree of as many sessions again."""
    id_ = store.create_session(session_id=f"size-{size}")
    store.append_messages(id_, [{"role": "user", "content": f"message {n}"} for n in range(size)])
    with store.transaction():
        for _ in range(size // 100):
            store.create_session(parent_session_id=id_)
    return id_


@pytest.mark.parametrize(
    "ask",
    [
        lambda store, id_: store.messages(id_, limit=50, newest=True),
        lambda store, id_: store.messages(id_, from_seq=70, to_seq=90),
        lambda store, id_: store.get_message(id_, 60),
        lambda store, id_: store.list_sessions(limit=3),
        lambda store, id_: store.list_roots(limit=1),
        lambda store, id_: store.preview(id_),
        lambda store, id_: store.get_session(id_),
        lambda store, id_: store.append_message(id_, role="user"),
        lambda store, id_: store.record_compaction(
            id_, from_seq=5, to_seq=9, note_content="", before_tokens=1, after_tokens=1, round_index=0
        ),
    ],
    ids=["newest", "range", "one", "sessions", "roots", "preview", "session", "append", "compact"],
)
def test_what_does_not_grow_with_the_archive(ask: Callable[[SessionStore, str], object]) -> None:
    costs = []
    for size in (200, 5_000):
        with SessionStore.open(":memory:") as store:
            id_ = grown(store, size)
            costs.append(steps(store, partial(ask, store, id_)))
    assert costs[1] <= costs[0] * 1.1 + 20


def test_every_write_is_one_transaction_and_every_read_one_statement(store: SessionStore) -> None:
    id_ = store.create_session()
    store.append_messages(id_, [{"role": "user", "content": "x"}] * 3)
    note = {"note_content": "", "before_tokens": 1, "after_tokens": 1, "round_index": 0}
    writes = (
        lambda: store.append_message(id_, role="user"),
        lambda: store.append_messages(id_, [{"role": "user"}] * 3),
        lambda: store.record_compaction(id_, from_seq=1, to_seq=2, **note),
        lambda: store.create_session(),
        lambda: store.create_session(parent_session_id=id_),
        lambda: store.archive_session(id_),
        lambda: store.reopen_session(id_),
        lambda: store.update_session_prompt(id_, ""),
        lambda: store.set_pending(id_, {}),
        lambda: store.set_round_index(id_, 1),
        lambda: store.record_usage(id_, round_index=0, prompt_tokens=1, completion_tokens=1, total_tokens=2),
        lambda: store.close_session(id_, cascade=False),
        lambda: store.close_session(id_),
    )
    for write in writes:
        first, *between, last = statements(store, write)
        assert (first, last) == ("BEGIN", "COMMIT")
        assert not {"BEGIN", "COMMIT", "SAVEPOINT"}.intersection(between)
        assert not store._conn.in_transaction
    reads = (
        store.get_session,
        store.list_children,
        store.list_descendants,
        store.preview,
        store.counts,
        store.load_active_messages,
        store.load_all_messages,
        store.messages,
        store.list_compactions,
        store.get_state,
        store.usage,
    )
    for read in reads:
        assert len(statements(store, partial(read, id_))) == 1


def test_no_answer_sorts_or_scans_what_it_need_not(tmp_path: Path) -> None:
    """By SQLite's own plan, with whatever a statement of ours asks."""
    path = tmp_path / "plans.db"
    asked: list[str] = []
    with SessionStore.open(path) as store:
        id_ = grown(store, 300)
        store._conn.set_trace_callback(asked.append)
        store.messages(id_, limit=5, newest=True)
        store.load_active_messages(id_)
        store.load_all_messages(id_)
        store.counts(id_)
        store.list_roots(limit=2)
        store.list_compactions(id_)
        store.append_message(id_, role="user")
        store.close_session(id_)
        store._conn.set_trace_callback(None)
        plans = [
            store._conn.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            for statement in asked
            if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT")
        ]
    assert len(plans) > 15
    details = [detail for plan in plans for *_, detail in plan]
    assert not [
        detail
        for detail in details
        if detail.startswith("SCAN")
        and "CONSTANT" not in detail
        and not detail.startswith(("SCAN closing_sessions", "SCAN below"))
    ], details
    assert not [detail for detail in details if "ORDER BY" in detail]
