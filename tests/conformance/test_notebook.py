"""The proof that a format is a plug-in: every verb takes the notebook, and none knows of it. See also tests/tui."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sessionscope.store import Damaged, Format, Message, Ref, UnknownSession, register
from sessionscope.tui.__main__ import main

from .notebook import ENDING, NotebookArchive, NotebookReader
from .samples import NOTEBOOK, everything_below, sample

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return sample(NOTEBOOK, tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        return (main([str(word) for word in argv]), *capsys.readouterr())

    return run


def test_it_is_short() -> None:
    """A third format needed 189 lines before there was a base for it."""
    assert len((Path(__file__).parent / "notebook.py").read_text().splitlines()) < 120


def test_ls(notebook: Path, run: Run) -> None:
    status, out, _ = run("ls", notebook)
    assert status == 0
    assert "Plan the week" in out
    assert "draft" in out
    found = json.loads(run("ls", notebook, "--json")[1])["sessions"]
    assert [(one["id"], one["kind"], one["depth"], one["message_count"]) for one in found] == [
        ("plan", "root", 0, 8),
        ("review", "draft", 1, 1),
        ("empty", "root", 0, 0),
    ]


@pytest.mark.parametrize(("view", "many"), [("all", 8), ("active", 5), ("compacted", 2), ("context", 5)])
def test_show(notebook: Path, run: Run, view: str, many: int) -> None:
    status, out, _ = run("show", notebook, "plan", "--view", view, "--json")
    assert (status, len(json.loads(out)["messages"])) == (0, many)
    status, out, _ = run("show", notebook, "plan", "--view", view)
    assert status == 0
    assert "\x1b" not in out
    assert ("That the parser comes first." in out) == (view in ("all", "compacted"))


def test_compactions_and_doctor(notebook: Path, run: Run) -> None:
    status, out, _ = run("compactions", notebook, "plan")
    assert (status, "no compactions" in out) == (0, True)
    status, out, _ = run("doctor", notebook, "--json")
    (finding,) = json.loads(out)["findings"]
    assert (status, finding["code"], finding["session_id"]) == (1, "damaged-message", "plan")
    assert run("doctor", notebook, "review")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("compact", "{}", "plan", "--note", "x"),
        ("uncompact", "{}", "plan", 1),
        ("repair", "{}"),
        ("settle", "{}", "plan"),
        ("close", "{}", "plan"),
        ("archive", "{}", "plan"),
        ("reopen", "{}", "plan"),
        ("trash", "list", "{}"),
        ("trash", "empty", "{}", "--older-than", 0),
    ],
    ids=lambda words: str(words[0]),
)
def test_verbs_that_write_say_that_it_is_read_only(notebook: Path, run: Run, words: tuple[object, ...]) -> None:
    before = everything_below(notebook.parent)
    status, out, err = run(*(str(word).replace("{}", str(notebook)) for word in words))
    assert (status, out) == (2, "")
    assert err == f"sessionscope: {notebook}: notebook sessions are read-only.\n"
    assert everything_below(notebook.parent) == before


def test_a_session_that_goes_meanwhile_does_not_end_the_doctor(
    notebook: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = NotebookReader.all_messages

    def all_messages(reader: NotebookReader, ref: Ref) -> Sequence[Message]:
        if ref.id == "empty":
            raise UnknownSession("session 'empty' no longer exists.")
        return real(reader, ref)

    sessions = NotebookArchive(notebook).reader().all_sessions()
    monkeypatch.setattr(NotebookReader, "all_sessions", lambda _: sessions)
    monkeypatch.setattr(NotebookReader, "all_messages", all_messages)
    status, out, _ = run("doctor", notebook)
    assert (status, "damaged-message" in out) == (1, True)
    status, _, err = run("doctor", notebook, "empty")
    assert (status, "no longer exists" in err) == (2, True)


def test_an_archive_without_a_layout_is_none(notebook: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    register(Format("voids", lambda path, head: path, lambda path, layout, zone: []))
    status, _, err = run("ls", notebook)
    assert (status, "holds no sessions of a known format (voids, notebooks" in err) == (2, True)


def test_a_salvage_takes_no_folder(notebook: Path, run: Run) -> None:
    status, _, err = run("repair", notebook, "--salvage", notebook / "new.db")
    assert (status, "is a folder" in err) == (2, True)


def test_growth_counts_what_was_sent_before_it_was_compacted(notebook: Path) -> None:
    reader, ref = NotebookArchive(notebook).reader(), Ref("", "plan", f"plan{ENDING}")
    grown = reader.growth(ref, reader.audit(ref, reader.outline(ref)))
    assert len(grown) == 3
    assert 0 < grown[0] < grown[1] < grown[2]


def test_a_child_leads_to_its_parent(notebook: Path) -> None:
    reader = NotebookArchive(notebook).reader()
    link = reader.spawner(reader.resolve("review"))
    assert link is not None
    assert (link.ref.id, link.row, link.seq) == ("plan", None, None)
    assert reader.spawner(reader.resolve("plan")) is None


def test_the_newest_come_first(notebook: Path) -> None:
    (notebook / f"later{ENDING}").write_text(json.dumps({"messages": [{"role": "user", "content": "x", "at": 99_000}]}))
    (notebook / f"void{ENDING}").write_text("{}")
    reader = NotebookArchive(notebook).reader()
    assert [one.ref.id for one in reader.newest(9)] == ["later", "plan", "void", "empty"]


def test_ids_of_calls_that_are_used_again(notebook: Path) -> None:
    call = {"role": "assistant", "content": None, "calls": [["c", "ls", {"path": "a.py"}]]}
    result = {"role": "tool", "content": "", "answers": "c"}
    nameless = {"role": "assistant", "content": None, "calls": [[None, "cat", {}]]}
    messages = [{"role": "user", "content": "x"}, call, result, {"role": "user", "content": "y"}, call, result, call]
    (notebook / f"again{ENDING}").write_text(json.dumps({"messages": [*messages, nameless]}))
    reader = NotebookArchive(notebook).reader()
    ref = reader.resolve("again")
    links = [reader.follow(ref, message.row) for message in reader.all_messages(ref)]
    assert [link.seq if link is not None else None for link in links] == [None, 3, 2, None, 6, 5, None, None]
    assert reader.session(ref).unanswered == ((7, "ls"), (8, "cat"))
    assert reader.find(ref, '"path": "A.PY"', 1, True) == 2


def test_a_rewrite_is_no_growth(notebook: Path) -> None:
    reader = NotebookArchive(notebook).reader()
    ref = reader.resolve("review")
    before, path = reader.outline(ref), notebook / f"review{ENDING}"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"messages": [*value["messages"], value["messages"][0]]}))
    assert reader.grown(ref, before) == reader.outline(ref) != before
    path.write_text(json.dumps(value | {"messages": [value["messages"][0] | {"out": True}]}))
    assert reader.grown(ref, before) is None


def test_a_damaged_session_does_not_hide_the_next(notebook: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = NotebookReader.all_messages

    def all_messages(reader: NotebookReader, ref: Ref) -> Sequence[Message]:
        if ref.id == "empty":
            raise Damaged("its disk is torn")
        return real(reader, ref)

    sessions = NotebookArchive(notebook).reader().all_sessions()
    monkeypatch.setattr(NotebookReader, "all_sessions", lambda _: sessions)
    monkeypatch.setattr(NotebookReader, "all_messages", all_messages)
    codes = [one["code"] for one in json.loads(run("doctor", notebook, "--json")[1])["findings"]]
    assert codes == ["unreadable", "damaged-message"]
