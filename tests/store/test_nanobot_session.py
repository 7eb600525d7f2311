"""nanobot's `Session`: every answer as the real 0.2.0 gives it, but for the promises that are made here."""

from __future__ import annotations

import copy
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import sessionscope.store.nanobot as package
import sessionscope.store.nanobot.dropin.session as ours
from sessionscope.store.nanobot.dropin import session_manager
from sessionscope.store.nanobot.dropin.session import FILE_MAX_MESSAGES, Session, safe_filename, safe_key
from sessionscope.store.nanobot.format.history import find_legal_message_start
from sessionscope.store.nanobot.format.message_preview import (
    message_preview,
    scrub_subagent_announce_body,
    without_runtime_context,
)

from . import conversations as talks
from .test_nanobot_history import anomalies, malformed

Rows = list[dict[str, Any]]
LONG_AGO = datetime(2020, 1, 1)


@pytest.fixture(params=["ours", "nanobot"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    """Ours and the real one, so that what is written of both is true of both."""
    return ours if request.param == "ours" else talks.installed(talks.EARLY)


# -- as upstream


@pytest.mark.parametrize("what", talks.RECORDED[talks.EARLY])
def test_answers_as_the_real_release_gave_them(what: str) -> None:
    assert talks.RECORDED[talks.EARLY][what](ours) == talks.recorded(talks.EARLY)[what]


def test_answers_as_the_installed_release_gives_them() -> None:
    real = talks.installed(talks.EARLY)
    for seed in range(talks.CASES * 3):
        assert talks.play(ours, seed) == talks.play(real, seed), seed
        assert talks.ask_helpers(ours, seed) == talks.ask_helpers(real, seed), seed
        key = str(talks.ask_helpers(ours, seed)["image_placeholder_text"])
        assert safe_key(key) == real.SessionManager.safe_key(key)


def test_a_session_is_what_its_fields_are(module: ModuleType) -> None:
    before = datetime.now()
    session = module.Session("telegram:42")
    assert (session.messages, session.metadata, session.last_consolidated) == ([], {}, 0)
    assert before <= session.created_at <= session.updated_at <= datetime.now()
    session.add_message("user", "hi", timestamp="then", _type="x", media=["/a"])
    assert list(session.messages[0].items()) == [
        ("role", "user"),
        ("content", "hi"),
        ("timestamp", "then"),
        ("_type", "x"),
        ("media", ["/a"]),
    ]
    session.add_message("assistant", "yes")
    assert before <= datetime.fromisoformat(session.messages[1]["timestamp"]) <= session.updated_at <= datetime.now()
    assert copy.deepcopy(session) == session != module.Session("telegram:42")
    history = session.get_history()
    assert history[0] == {"role": "user", "content": "hi\n[image: /a]"}
    assert module.FILE_MAX_MESSAGES == 2000


def test_what_is_cleared(module: ModuleType) -> None:
    rows = turn(1)
    session = module.Session("k", rows, LONG_AGO, LONG_AGO, {"title": "t", "_last_summary": {"text": "s"}}, 1)
    session.retain_recent_legal_suffix(0)
    assert (session.messages, session.last_consolidated, session.metadata) == ([], 0, {"title": "t"})
    assert session.created_at == LONG_AGO < session.updated_at
    assert len(rows) == 3


def test_a_cap_that_is_not_reached_changes_nothing(module: ModuleType) -> None:
    session = module.Session("k", turn(1), LONG_AGO, LONG_AGO, {}, 2)
    same = copy.deepcopy(session)
    for limit in (3, 9, 0, -1):
        session.enforce_file_cap(pytest.fail, limit)
    session.retain_recent_legal_suffix(3)
    assert session == same


# -- the promises


def turn(calls: int) -> Rows:
    """A question and so many calls with their results."""
    rows: Rows = [{"role": "user", "content": "q"}]
    for at in range(calls):
        rows += [
            {"role": "assistant", "content": "", "tool_calls": [{"id": f"c{at}"}]},
            {"role": "tool", "content": f"r{at}", "tool_call_id": f"c{at}"},
        ]
    return rows


def test_of_a_turn_longer_than_its_room_the_newest_stays() -> None:
    """Upstream keeps the first five rows of it, and deletes the sixteen that came last."""
    rows = turn(10)
    session = Session("k", [*turn(1), *rows], updated_at=LONG_AGO, last_consolidated=3)
    session.retain_recent_legal_suffix(5)
    assert session.messages == [rows[0], *rows[-4:]]
    assert session.last_consolidated == 0
    assert session.updated_at > LONG_AGO
    assert [one["role"] for one in session.get_history()] == ["user", "assistant", "tool", "assistant", "tool"]
    session.retain_recent_legal_suffix(4)
    assert session.messages == [rows[0], *rows[-2:]], "a result whose call has no room goes as well"
    session.retain_recent_legal_suffix(1)
    assert session.messages == [rows[0]]


@pytest.mark.parametrize("known", range(22))
def test_an_offset_stays_right_where_rows_go_from_the_middle(known: int) -> None:
    session, given = Session("k", turn(10), last_consolidated=known), []
    rows = session.messages
    waiting = rows[known:]
    session.enforce_file_cap(given.extend, 5)
    remaining = session.messages[session.last_consolidated :]
    assert remaining == [row for row in session.messages if row in waiting]
    assert given == [row for row in waiting if row not in remaining]


calls = st.lists(st.sampled_from("abc"), max_size=2)
good = st.one_of(
    st.just({"role": "user", "content": "q"}),
    st.builds(lambda ids: {"role": "assistant", "content": "x", "tool_calls": [{"id": id_} for id_ in ids]}, calls),
    st.builds(lambda id_: {"role": "tool", "content": "r", "tool_call_id": id_}, st.sampled_from("abc")),
)
good_rows, bad_rows = (
    # Numbered, so that equal rows are told apart; a list stands for all that is no object.
    st.lists(some, max_size=14).map(
        lambda rows: [row | {"n": at} if isinstance(row, dict) else [at] for at, row in enumerate(rows)]
    )
    for some in (good, good | malformed | st.just([]))
)


def number(row: Any) -> int:
    return row["n"] if isinstance(row, dict) else row[0]


offsets = st.sampled_from([True, 1.5, "2", None, [1], -1, 99, {}]) | st.integers(0, 14)


@given(st.lists(good | malformed | anomalies, max_size=14), offsets, anomalies, st.integers(-1, 15))
def test_nothing_malformed_raises(rows: list[Any], offset: Any, metadata: Any, limit: int) -> None:
    for method in ("get_history", "retain_recent_legal_suffix", "enforce_file_cap", "clear"):
        session = Session("k", list(rows), metadata=copy.copy(metadata), last_consolidated=offset)
        assert session.last_consolidated is offset, "a field is as it was given"
        arguments = {"get_history": [limit], "enforce_file_cap": [None, limit], "clear": []}.get(method, [limit])
        getattr(session, method)(*arguments)
        session.get_history(max_tokens=9, include_timestamps=True)


@given(st.lists(st.just({"role": "user", "content": "q"}), min_size=1, max_size=9), offsets)
def test_no_offset_hides_what_it_cannot_have_counted(rows: Rows, offset: Any) -> None:
    waiting = len(rows) - (offset if type(offset) is int and 0 <= offset <= len(rows) else 0)
    assert len(Session("k", rows, last_consolidated=offset).get_history()) == waiting


@given(good_rows, st.integers(1, 15))
def test_what_is_retained(rows: Rows, limit: int) -> None:
    session = Session("k", list(rows))
    session.retain_recent_legal_suffix(limit)
    kept = session.messages
    if len(rows) <= limit:
        assert kept == rows
        return
    assert len(kept) <= limit
    assert kept == [row for row in rows if row in kept], "in the order in which they came"
    assert find_legal_message_start(kept) == 0
    users = [row["n"] for row in rows if row["role"] == "user"]
    within = [at for at in users if at >= len(rows) - limit]
    if within:
        assert kept == rows[within[0] :][find_legal_message_start(rows[within[0] :]) :], "as upstream has it"
    elif users:
        assert kept[0] == rows[users[-1]], "the question that began the turn"
        assert kept[1:] == rows[len(rows) - len(kept) + 1 :], "and the newest"
    if rows[-1]["role"] != "tool" and (limit > 1 or not users):
        assert kept[-1] == rows[-1]


@given(bad_rows, offsets, st.integers(1, 14))
def test_each_row_is_kept_or_known_or_given_away(rows: list[Any], offset: Any, limit: int) -> None:
    session, given = Session("k", list(rows), last_consolidated=offset), []
    known = offset if type(offset) is int and 0 <= offset <= len(rows) else 0
    session.enforce_file_cap(given.append, limit)
    if len(rows) <= limit:
        assert (session.messages, session.last_consolidated, given) == (rows, offset, [])
        return
    assert type(session.last_consolidated) is int
    remaining = session.messages[session.last_consolidated :]
    assert len(given) <= 1
    assert all(part == sorted(part, key=number) for part in (session.messages, *given))
    assert sorted([*remaining, *(given[0] if given else [])], key=number) == rows[known:]


@given(bad_rows, offsets, st.integers(1, 14), st.sampled_from([ValueError, KeyboardInterrupt]))
def test_a_callback_that_raises_changes_nothing(
    rows: list[Any], offset: Any, limit: int, error: type[BaseException]
) -> None:
    session = Session("k", list(rows), LONG_AGO, LONG_AGO, {"title": "t"}, offset)
    before, messages = copy.deepcopy(session), session.messages

    def refuse(lost: list[Any]) -> None:
        assert lost
        raise error

    try:
        session.enforce_file_cap(refuse, limit)
    except error:
        assert session == before
        assert session.messages is messages
    else:
        assume(False)


def test_a_callback_finds_the_session_without_what_it_is_given(module: ModuleType) -> None:
    session = module.Session("k", [*turn(2), *turn(1)])
    seen: list[Any] = []

    def archive(lost: Rows) -> None:
        seen.extend([len(lost), len(session.messages)])
        session.add_message("assistant", "archived")

    assert session.enforce_file_cap(archive, 4) is None
    assert seen == [5, 3]
    assert session.messages[-1]["content"] == "archived"


# -- the helpers


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("telegram:42", "telegram_42"),
        ('<>:"/\\|?*', "_" * 9),
        (" \t\u3000a\n", "a"),
        ("..", ".."),
        ("", ""),
        ("a\0b", "a\0b"),
    ],
)
def test_a_name_that_a_file_may_have(name: str, safe: str) -> None:
    assert safe_filename(name) == safe_key(name) == safe


REPORT = "[Subagent 'a' completed]\r\n\r\nTask: find İt\n\nResult:\n  İ found it  \n\nSummarize this naturally for Ann."


def test_a_report_is_cut_where_its_marks_are() -> None:
    """Upstream looks for them in the lowered text, in which a dotted capital takes one place more."""
    assert scrub_subagent_announce_body(REPORT) == "[Subagent 'a' completed]\n\nİ found it"
    assert scrub_subagent_announce_body("İ" * 50 + "\nRESULT:x\nsummarize THIS naturally") == "x"


def test_letters_that_only_look_like_a_mark_are_none() -> None:
    assert scrub_subagent_announce_body("a\nreſult: b") == "a\nreſult: b"
    assert scrub_subagent_announce_body("a\nresult: summarıze this naturally") == "summarıze this naturally"


def with_context(content: Any, **marker: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, "_runtime_context": {"version": 1} | marker}


BLOCK = {"type": "text", "text": "ctx"}


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": "q\n\nctx"}, "q\n\nctx"),
        ({}, None),
        (with_context("q\n\nctx", suffix="ctx"), "q"),
        (with_context("ctx", suffix="ctx"), ""),
        (with_context("q ctx", suffix="ctx"), "q ctx"),
        (with_context("q\n\nctx", suffix=""), "q\n\nctx"),
        (with_context("q\n\nctx", suffix=5), "q\n\nctx"),
        (with_context("q\n\nctx", suffix="ctx", version=2), "q\n\nctx"),
        (with_context("q\n\nctx") | {"_runtime_context": "ctx"}, "q\n\nctx"),
        (with_context([{"type": "text", "text": "q"}, BLOCK], blocks=[BLOCK]), [{"type": "text", "text": "q"}]),
        (with_context([BLOCK, {"type": "image_url"}], blocks=[BLOCK]), [BLOCK, {"type": "image_url"}]),
        (with_context([{"type": "text", "text": "q\n\nctx"}], suffix="ctx"), [{"type": "text", "text": "q"}]),
        (with_context([BLOCK], blocks=[]), [BLOCK]),
        (with_context([{"type": "input", "text": "ctx"}], suffix="ctx"), [{"type": "input", "text": "ctx"}]),
        (with_context([None], suffix="ctx"), [None]),
        (with_context([], suffix="ctx", blocks=[]), []),
        (with_context({"a": 1}, suffix="ctx"), {"a": 1}),
    ],
)
def test_a_content_without_its_runtime_context(message: dict[str, Any], content: Any) -> None:
    before = copy.deepcopy(message)
    assert without_runtime_context(message) == content
    assert message == before


def test_previews_of_later_rows_as_the_real_release_made_them() -> None:
    assert talks.RECORDED[talks.LATE]["previews"](ours) == talks.recorded(talks.LATE)["previews"]


def test_previews_of_later_rows_as_the_installed_release_makes_them() -> None:
    real = talks.installed(talks.LATE)
    for seed in range(talks.CASES * 3):
        assert talks.previews(ours, seed) == talks.previews(real, seed), seed


def test_what_stands_for_a_message_in_a_list() -> None:
    assert message_preview({"content": REPORT, "injected_event": "subagent_result"}) == (
        "[Subagent 'a' completed] İ found it"
    )
    assert message_preview({"content": REPORT}).startswith("[Subagent 'a' completed] Task: find")
    assert message_preview(with_context("q\n\nctx", suffix="ctx")) == "q"


@given(malformed, anomalies, anomalies)
def test_no_message_breaks_its_preview(message: dict[str, Any], content: Any, marker: Any) -> None:
    for one in (
        message,
        message | {"content": content, "injected_event": "subagent_result"},
        message | {"content": content, "_runtime_context": {"version": 1, "suffix": marker, "blocks": marker}},
    ):
        assert len(message_preview(one)) <= 120


def test_every_public_name_is_there() -> None:
    public = {name: getattr(package, name) for name in package.__all__}
    assert public.keys() == {*ours.__all__, *session_manager.__all__}
    assert all(public[name] is getattr(ours, name) for name in ours.__all__)
    assert all(public[name] is getattr(session_manager, name) for name in session_manager.__all__)
    assert package.FILE_MAX_MESSAGES == FILE_MAX_MESSAGES
    with pytest.raises(AttributeError):
        _ = package.nothing_of_the_kind
