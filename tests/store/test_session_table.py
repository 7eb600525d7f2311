"""The flat arrays of a session table against dicts of sessions."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from sessionscope.store import Order, Place, SessionTable
from sessionscope.store.model.session_table import Changes, TableEntry

IDS = [*"abcdef"]


def entry(key: int, id_: str, parent: str | None = None, **more: object) -> TableEntry:
    values: dict[str, object] = {
        "created_at": key,
        "updated_at": key,
        "size": 0,
        "compactions": 0,
        "subagent": False,
        "title": None,
    }
    return TableEntry(key=key, id=id_, parent_id=parent, **(values | more))


@st.composite
def entries(draw: st.DrawFn) -> list[TableEntry]:
    ids = draw(st.lists(st.sampled_from(IDS), unique=True))
    keys = sorted(draw(st.lists(st.integers(-50, 50), min_size=len(ids), max_size=len(ids), unique=True)))
    return [
        entry(
            key,
            id_,
            draw(st.sampled_from([*IDS, "gone", None])),
            created_at=draw(st.integers(0, 3)),
            updated_at=draw(st.integers(0, 3)),
            size=draw(st.integers(0, 3)),
            compactions=draw(st.integers(0, 2)),
            subagent=draw(st.booleans()),
            title=draw(st.none() | st.sampled_from(["", "Straße", "OTHER title"])),
        )
        for key, id_ in zip(keys, ids, strict=True)
    ]


def model_places(found: list[TableEntry]) -> tuple[dict[str, str | None], dict[str, Place]]:
    """The parent each session stands under, and why: by walking up from each one."""
    by_id = {session.id: session for session in found}
    parents = {session.id: session.parent_id if session.parent_id in by_id else None for session in found}
    places = {}
    for session in found:
        # A session is on a circle if going up from it comes back to it.
        circle, at = [session.id], parents[session.id]
        while at is not None and at not in circle:
            circle.append(at)
            at = parents[at]
        if at == session.id:
            circle = circle[circle.index(at) :]
            if min(circle, key=lambda id_: by_id[id_].key) == session.id:
                places[session.id] = Place.CYCLE
    cut = {id_: None if id_ in places else parent for id_, parent in parents.items()}
    for session in found:
        if session.id not in places:
            if cut[session.id] is not None:
                places[session.id] = Place.CHILD
            elif session.parent_id is not None:
                places[session.id] = Place.ORPHAN
            else:
                places[session.id] = Place.SURVIVOR if session.subagent else Place.ROOT
    return cut, places


@given(entries())
def test_the_tree_is_a_tree_and_says_where_each_session_stands(found: list[TableEntry]) -> None:
    session_table = SessionTable(found)
    parents, places = model_places(found)
    assert [session_table.place_in_tree(at) for at in range(len(session_table))] == [
        places[session.id] for session in found
    ]
    assert [session_table.ids[parent] if parent >= 0 else None for parent in session_table.parents] == list(
        parents.values()
    )
    for at, session in enumerate(found):
        line, up = [], parents[session.id]
        while up is not None:
            line.append(up)
            up = parents[up]
        assert [session_table.ids[above] for above in session_table.ancestors(at)] == line[::-1]
        assert session_table.depth(at) == len(line)
        below = [id_ for id_, parent in parents.items() if parent == session.id]
        assert session_table.child_count(at) == len(below)
        assert {session_table.ids[child] for child in session_table.children(at)} == set(below)
        assert session_table.find(session.key) == at
    assert {session_table.ids[root] for root in session_table.roots()} == {
        id_ for id_, parent in parents.items() if parent is None
    }
    # Every session is reached exactly once from the roots.
    reached, open_ = [], session_table.roots()
    while open_:
        at = open_.pop()
        reached.append(at)
        open_ += session_table.children(at)
    assert sorted(reached) == list(range(len(found)))
    assert session_table.find(99) is None


@given(entries(), st.sampled_from(Order))
def test_orders_put_the_latest_or_largest_first(found: list[TableEntry], order: Order) -> None:
    session_table = SessionTable(found)
    field = {Order.ACTIVITY: "updated_at", Order.CREATED: "created_at", Order.SIZE: "size"}[order]
    expected = sorted(session_table.roots(), key=lambda at: (-getattr(found[at], field), -found[at].key))
    assert session_table.roots(order) == expected


@given(entries(), st.lists(st.sampled_from(["a", "B", "strasse", "TITLE", "her t", "zz"]), max_size=2), st.booleans())
def test_the_filter_matches_id_and_title_at_once(found: list[TableEntry], words: list[str], also: bool) -> None:
    session_table = SessionTable(found)
    extra = {0} if also and found else set()
    expected = [
        at
        for at, session in enumerate(found)
        if at in extra or all(word.casefold() in f"{session.id}\n{session.title or ''}".casefold() for word in words)
    ]
    assert session_table.matching(words, extra) == expected


def test_words_may_be_in_id_and_title_each() -> None:
    session_table = SessionTable([entry(1, "sess_1", title="Fix the CI"), entry(2, "sess_2", title="Docs")])
    assert session_table.matching(["SESS", "ci"]) == [0]
    assert session_table.matching([]) == [0, 1]
    assert session_table.matching(["nothing"], {1}) == [1]


@given(entries(), entries())
def test_changes_name_what_differs(before: list[TableEntry], after: list[TableEntry]) -> None:
    changes = SessionTable(before).changes(SessionTable(after))
    old = {session.key: session for session in before}
    expected = Changes(set(), set(), set(), set(old) - {session.key for session in after})
    for session in after:
        was = old.get(session.key)
        if was is None or was.id != session.id:
            expected.added.add(session.key)
        elif was.compactions != session.compactions or session.size < was.size:
            expected.edited.add(session.key)
        elif session.size > was.size:
            expected.appended.add(session.key)
        elif was.updated_at != session.updated_at or (was.title or None) != (session.title or None):
            expected.edited.add(session.key)
    assert changes == expected
    assert bool(changes) is any((expected.appended, expected.edited, expected.added, expected.gone))


def _chain(length: int, close: bool) -> Iterable[TableEntry]:
    for key in range(length):
        yield entry(key, str(key), str(key - 1) if key else str(length - 1) if close else None, subagent=key > 0)


def test_depth_is_no_limit() -> None:
    session_table = SessionTable(_chain(50_000, close=False))
    assert session_table.depth(49_999) == 49_999
    assert session_table.ancestors(49_999)[:2] == [0, 1]
    closed = SessionTable(_chain(50_000, close=True))
    assert (closed.place_in_tree(0), closed.place_in_tree(1), closed.roots()) == (Place.CYCLE, Place.CHILD, [0])


def test_a_circle_is_cut_at_its_smallest_key_wherever_it_is_entered() -> None:
    session_table = SessionTable([entry(1, "a", "d"), entry(2, "b", "d"), entry(3, "c", "b"), entry(4, "d", "c")])
    assert [session_table.place_in_tree(at) for at in range(4)] == [Place.CHILD, Place.CYCLE, Place.CHILD, Place.CHILD]
    assert session_table.roots() == [1]


def test_children_of_an_id_that_is_there_twice_stand_under_the_first() -> None:
    session_table = SessionTable([entry(1, "a"), entry(2, "a"), entry(3, "b", "a")])
    assert list(session_table.parents) == [-1, -1, 0]


def test_a_session_may_be_its_own_parent() -> None:
    session_table = SessionTable([entry(5, "me", "me"), entry(6, "child", "me")])
    assert (session_table.place_in_tree(0), session_table.depth(1), session_table.roots()) == (Place.CYCLE, 1, [0])
