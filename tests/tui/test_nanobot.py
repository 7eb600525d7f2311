"""nanobot's sessions in the browser: every sample in every pane, channels, damage in its place, saves as they come."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from sessionscope.store import State, View, open_archive
from sessionscope.tui.text.describe import MODES

from ..store.workspaces import DAMAGED, KEY, SAMPLES, damaged, long_ago, talk, workspace, write
from .harness import LARGE, MEDIUM, SMALL, Hands, browsing, opened, running
from .test_live import SOON_S
from .test_samples import squeezed

FOLDERS = [SAMPLES / name for name in ("v0.2.0", "v0.3.5", "loop-v0.2.0")]


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    """A workspace with sessions and a log of summaries."""
    return workspace(tmp_path / "ws")


def copied(path: Path, folder: Path) -> Path:
    """A copy of a folder of samples, from a time when no save can be under way any more."""
    shutil.copytree(path, folder)
    for file in folder.iterdir():
        long_ago(file)
    return folder


async def open_session(hands: Hands, key: str) -> None:
    opened_archive = hands.browser.catalog.opened_archives[0]
    hands.controllers.opening.open_and_focus(opened_archive.node(opened_archive.session_table.ids.index(key)))
    await hands.settle()
    assert hands.session == key


@pytest.mark.parametrize("path", [*FOLDERS, *DAMAGED[::3]], ids=lambda path: path.name)
async def test_every_sample_in_every_pane(path: Path, tmp_path: Path) -> None:
    folder = copied(path, tmp_path / "sessions")
    async with browsing(folder, size=LARGE) as hands:
        (opened_archive,) = hands.browser.catalog.opened_archives
        assert hands.previews.count == len(opened_archive.session_table)
        for at in range(len(opened_archive.session_table)):
            hands.controllers.opening.open_and_focus(opened_archive.node(at))
            await hands.settle()
            current_session = hands.browser.current_session
            assert current_session is not None
            for key, view in enumerate(View, 1):
                await hands.press(str(key))
                assert hands.view is view
                rows = opened_archive.reader.timeline(
                    current_session.ref, view, opened_archive.reader.outline(current_session.ref)
                )
                assert hands.timeline.count == rows.length.value
                assert hands.seqs == [row.seq for row in rows.window(0, rows.length.value)]
            await hands.press("1")
            for index in range(hands.timeline.count):
                hands.timeline.cursor = index
                row = hands.timeline.current
                assert row is not None
                for mode in MODES if row.damage else [MODES[index % len(MODES)]]:
                    hands.controllers.inspection.mode, hands.controllers.inspection.subject = mode, "message"
                    hands.controllers.inspection.show()
                    shown = squeezed(hands.inspector.plain)
                    assert ("asstored" in shown) == (mode == "raw") or row.damage
                    assert row.seq is not None or f"line{row.line}" in shown
            hands.controllers.inspection.mode = MODES[0]
            hands.controllers.inspection.subject = "session"
            hands.controllers.inspection.show()
            assert squeezed(current_session.ref.file or "") in squeezed(hands.inspector.plain)


@pytest.mark.parametrize("path", [*FOLDERS, *DAMAGED[1::8]], ids=lambda path: path.name)
async def test_by_keys_on_a_small_screen(path: Path, tmp_path: Path) -> None:
    folder = copied(path, tmp_path / "sessions")
    async with browsing(folder, size=SMALL) as hands:
        await hands.press("E", "enter", "2", "3", "4", "1", "m", "a", "enter", "i", "p", "enter", "o", "O", "[", "G")
        assert hands.browser.current_session is not None
        await hands.press("escape", "1")
        assert hands.focus == "timeline"
        assert any(line.strip() for line in hands.pane("timeline"))


async def test_the_tree_is_by_channel(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    for at, key in enumerate(("telegram:1", "slack:C:1", "telegram:2", "heartbeat")):
        write(
            folder, talk(2), f"{at}.jsonl", key, updated_at=f"2026-05-16T1{at}:00:00", metadata={"title": key.upper()}
        )
    async with browsing(folder, size=LARGE) as hands:

        def lines() -> list[str]:
            return [" ".join(line.split()[:2]) for line in hands.pane("sessions") if line.strip()]

        assert lines() == ["HEARTBEAT 2", "▾ telegram", "TELEGRAM:2 2", "TELEGRAM:1 2", "▾ slack", "SLACK:C:1 2"]
        await hands.press("s", "g", "j", "h")
        assert lines() == ["HEARTBEAT 2", "▸ telegram", "▾ slack", "SLACK:C:1 2"]
        # What somebody folded stays so when sessions change, and a new channel is open.
        write(folder, talk(3), "5.jsonl", "cli:direct", updated_at="2026-05-17T00:00:00", metadata={"title": "NEW"})
        await hands.until(lambda: "▾ cli" in lines(), "the new channel", SOON_S)
        assert lines()[:4] == ["▾ cli", "NEW 3", "HEARTBEAT 2", "▸ telegram"]
        await hands.press("enter")
        assert "TELEGRAM:2 2" in lines()
        await hands.press("enter")
        assert "TELEGRAM:2 2" not in lines()
        # Opening a session from elsewhere unfolds what hides it.
        await open_session(hands, "telegram:1")
        assert "TELEGRAM:1 2" in lines()
        await hands.press("f", *"slack", "enter")
        assert hands.session == "slack:C:1"
        assert lines() == ["▾ slack", "SLACK:C:1 2"]


async def test_the_first_session_that_shows_is_the_newest(ws: Path) -> None:
    async with browsing(ws, size=SMALL) as hands:
        assert hands.session == "loop:consolidated"
        assert "loop" in hands.text()


async def test_two_folders_side_by_side(ws: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", talk(2)).parent
    async with browsing(ws, other, size=LARGE) as hands:
        shown = "\n".join(hands.pane("sessions"))
        assert "ws/sessions" in shown
        assert "▾ telegram" in shown
        await hands.press("s", "g", "h")
        assert "▾ loop" not in "\n".join(hands.pane("sessions")), "an archive folds with its channels"
        await hands.press("l")
        assert "▾ loop" in "\n".join(hands.pane("sessions"))


# -- consolidation


async def test_consolidated_rows_and_their_summary(ws: Path) -> None:
    async with browsing(ws, size=LARGE) as hands:
        await open_session(hands, "loop:consolidated")
        assert [row.state for at in range(12) if (row := hands.timeline.row(at))] == [State.COMPACTED] * 6 + [
            State.ACTIVE
        ] * 6
        await hands.press("3")
        assert hands.seqs == [1, 2, 3, 4, 5, 6]
        await hands.press("o")
        assert hands.focus == "audit"
        assert "summary of the old turns" in hands.inspector.plain
        assert "1-6 → summary" in "\n".join(hands.pane("audit"))
        await hands.press("escape", "1", "G", "[")
        assert hands.seq == 6
        await hands.press("a", "enter")
        assert hands.seqs == [1, 2, 3, 4, 5, 6]


async def test_the_log_of_summaries_in_the_audit(ws: Path) -> None:
    async with browsing(ws, size=LARGE) as hands:
        await open_session(hands, "loop:plain")
        await hands.press("a")
        pane = "\n".join(hands.pane("audit"))
        assert "▤ 1 memory/history.jsonl" in pane
        assert "of which session is not said" in pane
        assert "- summary of the old turns" in hands.inspector.plain
        assert "not said" in hands.inspector.plain


async def test_limits_of_the_context(tmp_path: Path) -> None:
    folder = write(tmp_path / "sessions", talk(300)).parent
    async with browsing(folder, size=LARGE) as hands:
        await hands.press("enter", "4")
        assert hands.timeline.count == 120
        assert any("at most 120" in note for note in hands.notes)
        await hands.press("L", "1", "0", "enter")
        assert hands.timeline.count == 10
        assert "(≤10)" in hands.text()
        await hands.press("L", *"0 30", "enter")
        assert 0 < hands.timeline.count < 10
        await hands.press("L", "x", "enter")
        assert any("limits are" in note for note in hands.notes)
        await hands.press("L", "enter")
        assert hands.timeline.count == 120


async def test_keys_exist_where_an_archive_offers_what_they_do(demo_db: Path, ws: Path) -> None:
    async with browsing(demo_db, ws, size=LARGE) as hands:
        for opened_archive, there, missing in ((0, "A", "L"), (1, "L", "A")):
            hands.controllers.opening.open_and_focus(hands.browser.catalog.opened_archives[opened_archive].node(0))
            await hands.settle()
            keys = {active.binding.key for active in hands.browser.active_bindings.values()}
            assert there in keys
            assert missing not in keys
            await hands.press(missing)
            assert hands.notes == []
            assert not hands.browser.panes.prompt.display


async def test_a_file_that_nanobot_gives_up_says_so(tmp_path: Path) -> None:
    folder = damaged("03_invalid_utf8_byte", tmp_path / "sessions")
    async with browsing(folder, size=LARGE) as hands:
        await hands.press("enter", "4")
        assert "nanobot loads nothing of this file" in "\n".join(hands.pane("timeline"))


# -- damage


async def test_damage_stands_in_its_place(tmp_path: Path) -> None:
    folder = damaged("01_truncated_last_line", tmp_path / "sessions")
    async with browsing(folder, size=LARGE) as hands:
        await hands.press("enter", "G")
        assert hands.seq is None
        line = hands.pane("timeline")[hands.cursor_line()]
        assert "L9 ‼" in line
        assert "the object breaks off" in line
        shown = hands.inspector.plain
        assert "line 9" in shown
        assert "only its first fields were saved" in shown
        await hands.press("m", "m")
        assert "as stored" in hands.inspector.plain
        assert '"role": "assistant"' in hands.inspector.plain


# -- saves


async def saved(hands: Hands, count: int) -> None:
    await hands.until(lambda: hands.timeline.count == count, f"{count} rows", SOON_S)
    await hands.settle()


async def test_an_agents_saves_show_and_the_place_is_kept(tmp_path: Path) -> None:
    folder = write(tmp_path / "sessions", talk(100)).parent
    async with browsing(folder, size=MEDIUM) as hands:
        await hands.press("enter", ":", "5", "0", "enter")
        await hands.settle()
        line = hands.cursor_line()
        write(folder, talk(104))
        await saved(hands, 104)
        assert (hands.seq, hands.cursor_line()) == (50, line)
        # A title comes, which moves every byte behind it; consolidation changes what is active.
        write(folder, talk(104), metadata={"title": "A much longer first line"}, last_consolidated=60)
        await hands.until(lambda: "A much longer first line" in hands.text(), "the title", SOON_S)
        await hands.settle()
        assert (hands.seq, hands.cursor_line()) == (50, line)
        row = hands.timeline.current
        assert row is not None
        assert row.state == State.COMPACTED
        await hands.until(lambda: hands.audit.count == 1, "the fold in the audit", SOON_S)
        # Shrunk to its end, as AutoCompact does: the same numbers are other messages.
        write(folder, talk(80, 24))
        await saved(hands, 80)
        assert (hands.seq, hands.cursor_line()) == (50, line)
        assert "message 73" in "\n".join(hands.pane("timeline"))
        (folder / "telegram_42.jsonl").open("ab").write(json.dumps(talk(1, 999)[0]).encode() + b"\n")
        await saved(hands, 81)
        await hands.press("G")
        write(folder, talk(90, 24))
        await saved(hands, 90)
        assert hands.seq == 90, "whoever stands at the end follows"


async def test_a_message_that_is_read_stays_where_it_was_scrolled_to(tmp_path: Path) -> None:
    tall = [{"role": "user", "content": "\n".join(f"line {at}" for at in range(200))}]
    folder = write(tmp_path / "sessions", [*talk(4), *tall, *talk(30)]).parent
    async with browsing(folder, size=MEDIUM) as hands:
        await hands.press("enter", ":", "5", "enter", "enter", *["j"] * 9)
        top = 9
        await hands.until(lambda: hands.inspector.scroll_offset.y == top, "the inspector to scroll")
        write(folder, [*talk(4), *tall, *talk(40)], updated_at="2026-05-16T11:00:00", metadata={"title": "later"})
        await saved(hands, 45)
        assert hands.inspector.scroll_offset.y == top


async def test_a_cursor_on_damage_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "sessions", talk(40))
    data = path.read_bytes().split(b"\n")
    data.insert(10, b'{"role": "user", "content": "torn')
    path.write_bytes(b"\n".join(data))
    async with browsing(path.parent, size=MEDIUM) as hands:
        await hands.press("enter", "g", *["j"] * 9)
        assert hands.seq is None
        with path.open("ab") as file:
            file.write(b"".join(json.dumps(row).encode() + b"\n" for row in talk(3)))
        await saved(hands, 44)
        assert (hands.seq, hands.timeline.cursor) == (None, 9)


async def test_a_session_that_goes_and_one_that_comes(tmp_path: Path) -> None:
    folder = write(tmp_path / "sessions", talk(4)).parent
    async with browsing(folder, size=MEDIUM) as hands:
        write(folder, talk(2), "cli_1.jsonl", "cli:1", metadata={"title": "The new one"})
        await hands.until(lambda: "The new one" in hands.text(), "the new session", SOON_S)
        (folder / "telegram_42.jsonl").unlink()
        await hands.until(lambda: "this session is gone" in hands.text(), "word that it is gone", SOON_S)
        gone = f"session {KEY} is gone: another process closed it or removed its file"
        await hands.until(lambda: gone in hands.notes, "the notice that it is gone", SOON_S)


async def test_a_session_that_is_away_for_a_moment(tmp_path: Path) -> None:
    """Its writer saves it by removing it first: nobody loses the place they read at."""
    folder = write(tmp_path / "sessions", talk(40)).parent
    async with browsing(folder, size=MEDIUM) as hands:
        await hands.press("enter", "g", *["j"] * 4)
        for turn in range(3):
            data = (folder / "telegram_42.jsonl").read_bytes()
            (folder / "telegram_42.jsonl").unlink()
            await hands.until(
                lambda: not hands.browser.catalog.opened_archives[0].session_table.ids, "it to be missed", SOON_S
            )
            (folder / "telegram_42.jsonl").write_bytes(data + json.dumps(talk(1)[0]).encode() + b"\n")
            await saved(hands, 41 + turn)
            assert (hands.session, hands.seq) == (KEY, 5)
        assert not hands.notes


async def test_a_long_session_opens_at_its_end_and_is_then_counted(tmp_path: Path) -> None:
    folder = write(tmp_path / "sessions", talk(40_000)).parent
    archives = opened(folder)
    async with running(archives, MEDIUM) as hands:
        await hands.until(
            lambda: hasattr(hands.app, "browser") and hands.browser.current_session is not None, "the session"
        )
        assert hands.browser.current_session is not None
        if hands.browser.current_session.outline is None:
            assert 0 < hands.timeline.count < 40_000
            assert not hands.timeline.rows.length.exact  # type: ignore[union-attr]
        assert "message 39999" in hands.timeline.row(hands.timeline.count - 1).head  # type: ignore[union-attr]
        await hands.settle()
        assert hands.timeline.count == 40_000
        assert hands.seq == 40_000
        await hands.press("enter", ":", *"20000", "enter")
        assert hands.seq == 20_000
        write(folder, talk(40_010))
        await saved(hands, 40_010)
        assert hands.seq == 20_000


async def test_looking_leaves_no_trace(ws: Path) -> None:
    def state() -> list[tuple[str, int, bytes]]:
        files = [path for path in sorted(ws.rglob("*")) if path.is_file()]
        return [(str(path), os.stat(path).st_mtime_ns, path.read_bytes()) for path in files]

    before = state()
    async with browsing(ws, size=MEDIUM) as hands:
        await hands.press("enter", "4", "a", "i", "f", "x", "escape")
    assert state() == before
    assert len(open_archive(ws)) == 1


async def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[31m\u202e[bold]"
    folder = tmp_path / "sessions"
    write(
        folder,
        [{"role": evil, "content": evil, "name": evil, "_command": True, "tool_calls": [{"id": evil}]}],
        f"a{evil}.jsonl",
        f"{evil}:1",
        metadata={"title": evil, "goal_state": {"status": evil}, evil: evil},
    )
    (folder / "b.jsonl").write_bytes(f'{{"role": "user", "x": 1, "content": "{evil}'.encode())
    async with browsing(folder, size=LARGE) as hands:
        for node in list(hands.previews._shown):
            hands.controllers.opening.open_and_focus(node)
            await hands.settle()
            for keys in ("m", "m", "m", "i", "a", "4", "1"):
                await hands.press(keys)
                assert not {"\x1b", "\x07", "\u202e"} & set(hands.text())
                assert "[bold]" in hands.text()
