"""The controllers of the main screen, each with a fake screen and a real archive: stale answers, notices, the guard."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
from msgspec.structs import replace
from textual.message import Message
from textual.timer import Timer
from textual.worker import Worker

from sessionscope.store import (
    Audit,
    Close,
    Compact,
    Plan,
    Receipt,
    Restore,
    SessionTable,
    Settle,
    StoreError,
    TableEntry,
    Uncompact,
    open_archive,
)
from sessionscope.tui.browser.controllers.action_runner import ActionRunner
from sessionscope.tui.browser.controllers.compaction_actions import CompactionActions
from sessionscope.tui.browser.controllers.find import Find
from sessionscope.tui.browser.controllers.inspection import Inspection
from sessionscope.tui.browser.controllers.navigation import Navigation
from sessionscope.tui.browser.controllers.opening import Opening
from sessionscope.tui.browser.controllers.session_actions import SessionActions
from sessionscope.tui.browser.controllers.session_filter import SessionFilter
from sessionscope.tui.browser.controllers.session_reading import RETRY_S, SessionReading
from sessionscope.tui.browser.controllers.watcher import Watcher
from sessionscope.tui.browser.guard import guard, guarded
from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.notices import SILENCE_S, Notices
from sessionscope.tui.browser.panes import Panes
from sessionscope.tui.browser.screen import Browser
from sessionscope.tui.browser.wiring import Controllers
from sessionscope.tui.sessions.current_session import CurrentSession
from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.sessions.session_catalog import SessionCatalog
from sessionscope.tui.widgets.audit_pane import AuditPane
from sessionscope.tui.widgets.inspector import Inspector
from sessionscope.tui.widgets.preview_list import PreviewList
from sessionscope.tui.widgets.session_tree import SessionTree
from sessionscope.tui.widgets.timeline import TimelinePane
from sessionscope.tui.workers import action_workers, read_workers

from .harness import demo


class Clock:
    """A clock that tests set, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeHost:
    """A screen that records what the controllers ask of it, and does none of it."""

    is_active = True

    def __init__(self, clock: Clock) -> None:
        self.shown: list[str] = []
        """The texts of all notices."""
        self.notices = Notices(self._notify, clock)
        self.groups: list[str] = []
        """The groups of the workers that were started."""
        self.works: list[Callable[[], None]] = []
        self.screens: list[Any] = []
        self.events: list[str] = []
        """What the controllers said that had happened, except for titles."""

    def _notify(self, message: str, **_: object) -> None:
        self.shown.append(message)

    def post_message(self, message: Message) -> bool:
        return True

    def start_worker(self, group: str, work: Callable[[], None]) -> Worker[None]:
        self.groups.append(group)
        self.works.append(work)
        return create_autospec(Worker, instance=True, is_running=False)

    def after_seconds(self, seconds: float, then: Callable[[], None]) -> Timer:
        return create_autospec(Timer, instance=True)

    every_seconds = after_seconds

    def after_refresh(self, then: Callable[[], None]) -> None:
        pass

    def push(self, screen: Any, answered: Callable[[Any], None]) -> Awaitable[None]:
        self.screens.append(screen)
        return Mock()

    def run_outside(self, program: Callable[[Any], None]) -> None:
        pass

    def titles_changed(self) -> None:
        pass

    def session_opened(self, archive_changed: bool) -> None:
        self.events.append("session_opened")

    def session_closed(self) -> None:
        self.events.append("session_closed")

    def session_read(self, event: read_workers.SessionRead) -> None:
        self.events.append("session_read")

    def sessions_changed(self) -> None:
        self.events.append("sessions_changed")

    def action_done(self, event: action_workers.Applied) -> None:
        self.events.append("action_done")


class World:
    """One archive with its first session open, and a fake screen."""

    def __init__(self, archive: Path) -> None:
        self.clock = Clock()
        self.fake = FakeHost(self.clock)
        self.host: Host = self.fake
        self.archives = open_archive(archive)
        self.catalog = SessionCatalog(self.archives)
        self.opened_archive: OpenedArchive = self.catalog.opened_archives[0]
        self.opened_archive.replace(self.opened_archive.reader.session_table(), complete=True)
        self.panes = create_autospec(Panes, instance=True, complete=True, focused="timeline")
        self.panes.tree = Mock(spec=SessionTree, node=0, cursor=0)
        self.panes.previews = Mock(spec=PreviewList, count=1, first=None)
        self.panes.timeline = Mock(spec=TimelinePane, count=1, rows=None, failed=False)
        self.panes.compactions = Mock(spec=AuditPane)
        self.panes.inspector = Mock(spec=Inspector)
        self.opening = Opening(self.host, self.panes, self.catalog)
        self.opening.open(0)
        self.reading = SessionReading(self.host, self.panes, self.opening, self.clock)
        self.inspection = Inspection(self.host, self.panes, self.opening)
        self.navigation = Navigation(self.host, self.panes, self.catalog, self.opening, self.inspection)
        self.runner = ActionRunner(self.host, self.opening)

    @property
    def session(self) -> CurrentSession:
        assert self.opening.current is not None
        return self.opening.current


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that no test here changes."""
    return demo(tmp_path_factory.mktemp("controllers"))


@pytest.fixture
def world(sample: Path) -> Any:
    world = World(sample)
    yield world
    for archive in world.archives:
        archive.close()


# -- answers for another session


def open_another(world: World) -> int:
    """Opens the second session. Returns the epoch of the first, whose answers are stale from now on."""
    stale = world.session.epoch
    world.opening.open(1)
    assert world.session.epoch != stale
    return stale


def test_a_stale_outline_is_dropped(world: World) -> None:
    outline = world.opened_archive.reader.outline(world.session.ref)
    stale, other = open_another(world), replace(outline, next_seq=4711)
    before = world.session.outline
    world.panes.timeline.reset_mock()
    world.reading.outline_read(read_workers.Outlined(stale, other, 1.0))
    assert world.session.outline is before
    assert not world.panes.timeline.mock_calls
    world.reading.outline_read(read_workers.Outlined(world.session.epoch, other, 1.0))
    assert world.session.outline is other
    assert world.panes.timeline.mock_calls


def test_a_stale_read_of_a_session_is_dropped(world: World) -> None:
    stale, audit = open_another(world), Audit([])
    world.reading.session_read(read_workers.SessionRead(stale, 0.0, audit, None, None, "cannot be read"))
    assert world.session.audit is None
    assert world.fake.shown == []
    assert "session_read" not in world.fake.events
    world.reading.session_read(read_workers.SessionRead(world.session.epoch, 0.0, audit, None, None, "cannot be read"))
    assert world.session.audit is audit
    assert world.fake.shown == ["cannot be read"]
    assert world.fake.events[-1] == "session_read"


def test_a_stale_failure_neither_shows_nor_reads_again(world: World) -> None:
    stale = open_another(world)
    world.panes.compactions.reset_mock()
    world.reading.read_failed(read_workers.Failed("busy", again=True, epoch=stale))
    world.clock.now += RETRY_S
    world.reading.begin_if_due()
    assert world.fake.groups == []
    assert not world.panes.compactions.show.called
    world.reading.read_failed(read_workers.Failed("busy", again=True, epoch=world.session.epoch))
    world.reading.begin_if_due()
    assert world.fake.groups == []
    world.clock.now += RETRY_S
    world.reading.begin_if_due()
    assert world.fake.groups == ["session"]


def test_a_stale_hit_moves_nothing(world: World) -> None:
    find = Find(world.host, world.opening, world.navigation)
    find.begin("words")
    stale = open_another(world)
    world.panes.timeline.reset_mock()
    find.text_found(read_workers.TextFound(stale, "words", 3))
    find.text_found(read_workers.TextFound(stale, "words", None))
    assert not world.panes.timeline.mock_calls
    assert world.fake.shown == []
    find.text_found(read_workers.TextFound(world.session.epoch, "words", None))
    assert world.fake.shown == ["no more 'words'"]
    find.text_found(read_workers.TextFound(world.session.epoch, "words", 3))
    assert world.panes.timeline.show.called


def test_a_hit_of_an_earlier_text_moves_nothing(world: World) -> None:
    find = Find(world.host, world.opening, world.navigation)
    find.begin("words")
    find.begin("other words")
    find.text_found(read_workers.TextFound(world.session.epoch, "words", None))
    assert world.fake.shown == []


# -- answers for another filter or session table


def previews_matched(world: World, epoch: int, keys: set[int]) -> read_workers.PreviewsMatched:
    table = world.opened_archive.session_table
    return read_workers.PreviewsMatched(0, epoch, table, keys, dict.fromkeys(keys, "first words"))


def test_previews_that_match_an_earlier_filter_are_not_shown(world: World) -> None:
    session_filter = SessionFilter(world.host, world.panes, world.catalog, world.opening)
    session_filter.apply("first")
    session_filter.apply("first words")
    key = world.opened_archive.session_table.keys[0]
    session_filter.previews_matched(previews_matched(world, 1, {key}))
    assert world.catalog.preview_matches == {}
    # What was read is true all the same.
    assert world.opened_archive.previews[key] == "first words"
    session_filter.previews_matched(previews_matched(world, 2, {key}))
    assert world.catalog.preview_matches == {0: {key}}


def test_previews_of_an_earlier_session_table_are_not_kept(world: World) -> None:
    session_filter = SessionFilter(world.host, world.panes, world.catalog, world.opening)
    session_filter.apply("first")
    key = world.opened_archive.session_table.keys[0]
    event = previews_matched(world, 1, {key})
    world.opened_archive.forget([key])
    world.opened_archive.replace(world.opened_archive.reader.session_table(), complete=True)
    session_filter.sessions_changed()
    session_filter.previews_matched(event)
    assert key not in world.opened_archive.previews
    assert world.catalog.preview_matches == {}


def test_a_worker_that_matches_previews_only_posts_messages(world: World) -> None:
    posted: list[Message] = []
    known: dict[int, str] = {}
    query = read_workers.PreviewQuery(7, 0, world.opened_archive.session_table, world.catalog.order, known, ("e",))
    before = dict(world.opened_archive.previews)
    read_workers.match_previews(posted.append, world.archives[0], query, lambda: False)
    assert known == {}
    assert world.opened_archive.previews == before
    last = posted[-1]
    assert isinstance(last, read_workers.PreviewsMatched)
    assert last.epoch == 7
    read = {key: text for event in posted for key, text in event.read.items()}  # type: ignore[attr-defined]
    assert read.keys() == set(world.opened_archive.session_table.keys)
    assert last.matches == {key for key, text in read.items() if "e" in text.casefold()}


def test_a_session_that_was_missed_before_another_was_opened_is_not_yet_gone(world: World) -> None:
    watcher = Watcher(world.host, world.panes, world.catalog, world.opening, world.reading, world.clock)
    table = world.opened_archive.session_table
    without_first = SessionTable([TableEntry(table.keys[1], table.ids[1], None, 0, 0, 1, 0, False, None)])

    def read(session_table: SessionTable) -> None:
        before = world.opened_archive.session_table
        watcher.session_table_read(
            read_workers.SessionTableRead(0, session_table, before, before.changes(session_table), 0.0)
        )

    read(without_first)
    world.opening.open(world.opened_archive.node(0))
    read(SessionTable())
    assert "session_closed" not in world.fake.events
    read(SessionTable())
    assert world.fake.events[-1] == "session_closed"
    assert world.opening.current is None
    assert "is gone" in world.fake.shown[-1]


def test_changes_since_a_stale_session_table_are_worked_out_again(world: World) -> None:
    watcher = Watcher(world.host, world.panes, world.catalog, world.opening, world.reading, world.clock)
    table = world.opened_archive.session_table
    other = SessionTable([TableEntry(table.keys[0], "another", None, 0, 0, 1, 0, False, None)])
    world.opened_archive.load([0])
    assert world.opened_archive.summary(0) is not None
    # The worker compared with a table that is no longer the one on the screen, and saw no change.
    stale = SessionTable()
    watcher.session_table_read(read_workers.SessionTableRead(0, other, stale, stale.changes(stale), 0.0))
    assert world.opened_archive.session_table is other
    assert world.opened_archive.summary(0) is None


# -- answers for another action


def plan_of(world: World, empty: bool = False) -> Plan:
    plan = create_autospec(Plan, instance=True, empty=empty, reasons=("nothing to do",))
    plan.action = Settle(world.session.ref)
    return plan


def started(world: World) -> int:
    """Begins an action in a worker that never runs. Returns its epoch."""
    epochs: list[int] = []
    world.runner.start(world.opened_archive, epochs.append)
    world.fake.works[-1]()
    return epochs[0]


def test_a_stale_plan_is_not_shown(world: World) -> None:
    confirm = Mock()
    world.runner.handle(Settle, confirm)
    stale, epoch = started(world), started(world)
    world.runner.planned(action_workers.Planned(stale, plan_of(world)))
    world.runner.planned(action_workers.Planned(stale, plan_of(world, empty=True)))
    assert not confirm.called
    assert world.fake.shown == []
    plan = plan_of(world)
    world.runner.planned(action_workers.Planned(epoch, plan))
    assert confirm.call_args.args[:2] == (world.opened_archive, plan)


def test_a_plan_that_is_confirmed_after_another_action_began_is_not_applied(world: World) -> None:
    confirm = Mock()
    world.runner.handle(Settle, confirm)
    world.runner.planned(action_workers.Planned(started(world), plan_of(world)))
    answered = confirm.call_args.args[2]
    answered(False)
    assert len(world.fake.works) == 1
    started(world)
    answered(True)
    assert len(world.fake.works) == 2
    world.runner.planned(action_workers.Planned(started(world), plan_of(world)))
    confirm.call_args.args[2](True)
    assert len(world.fake.works) == 4


def test_a_stale_failure_is_not_shown(world: World) -> None:
    stale, epoch = started(world), started(world)
    world.runner.given_up(action_workers.GivenUp(stale, "it failed"))
    assert world.fake.shown == []
    world.runner.given_up(action_workers.GivenUp(epoch, ""))
    assert world.fake.shown == []
    world.runner.given_up(action_workers.GivenUp(epoch, "it failed"))
    assert world.fake.shown == ["it failed"]


def test_what_was_done_counts_once_and_for_its_own_archive(world: World) -> None:
    done = Mock()
    world.runner.handle(Settle, Mock(), done)
    other_archive = OpenedArchive(1, world.archives[0])
    undo = Restore("a bundle")
    epochs: list[int] = []
    world.runner.start(other_archive, epochs.append)
    world.fake.works[-1]()
    started(world)
    event = action_workers.Applied(epochs[0], plan_of(world), Receipt("Done.", 1, undo))
    world.runner.applied(event)
    world.runner.applied(event)
    assert other_archive.undos == [undo]
    assert world.opened_archive.undos == []
    done.assert_called_once_with(other_archive, event)
    assert world.fake.shown == ["Done. · u takes it back"]
    assert world.fake.events[-1] == "action_done"


def test_a_plan_to_compact_another_session_opens_no_dialog(world: World) -> None:
    CompactionActions(world.host, world.panes, world.opening, world.navigation, world.runner, None, world.clock)
    archive, ref = world.archives[0], world.session.ref
    context = archive.reader().context(ref)
    seqs = [row.seq for row in context.rows]
    plan = archive.actions.plan(Compact(ref, seqs[1], seqs[-1], "", 1))  # type: ignore[attr-defined]
    epoch = started(world)
    open_another(world)
    world.runner.planned(action_workers.Planned(epoch, plan))
    assert world.fake.screens == []
    world.opening.open(0)
    world.runner.planned(action_workers.Planned(epoch, plan))
    assert len(world.fake.screens) == 1


def test_a_read_that_began_before_a_compaction_does_not_prove_it_lost(world: World) -> None:
    actions = CompactionActions(
        world.host, world.panes, world.opening, world.navigation, world.runner, None, world.clock
    )
    compact = Compact(world.session.ref, 1, 2, "a note")
    plan = create_autospec(Plan, instance=True, empty=False)
    plan.action = compact
    undo = Uncompact(world.session.ref, 9)
    world.runner.applied_in(world.opened_archive, action_workers.Applied(0, plan, Receipt("Compacted.", 2, undo)))
    world.session.session_read(Audit([]), None, None)
    actions.check_applied(began=world.clock.now - 1)
    assert len(world.fake.shown) == 1
    assert world.opened_archive.undos == [undo]
    actions.check_applied(began=world.clock.now + 1)
    assert "wrote over your compaction of 1 to 2" in world.fake.shown[-1]
    assert world.opened_archive.undos == []
    actions.check_applied(began=world.clock.now + 2)
    assert len(world.fake.shown) == 2


def test_closed_sessions_of_one_archive_do_not_move_the_user_in_another(world: World) -> None:
    watcher = Watcher(world.host, world.panes, world.catalog, world.opening, world.reading, world.clock)
    SessionActions(world.host, world.panes, world.catalog, world.opening, watcher, world.runner)
    plan = create_autospec(Plan, instance=True, empty=False, deleted=[Mock(ref=world.session.ref)])
    plan.action = Close((world.session.ref,))
    event = action_workers.Applied(0, plan, Receipt("Closed.", 1))
    before = world.session
    world.runner.applied_in(OpenedArchive(1, world.archives[0]), event)
    assert world.opening.current is before
    assert not world.panes.tree.select.called
    world.runner.applied_in(world.opened_archive, event)
    assert world.opening.current is not before


# -- notices


def test_a_notice_is_not_repeated_while_it_is_fresh(world: World) -> None:
    notices, clock = world.fake.notices, world.clock
    notices.failed("locked")
    clock.now += SILENCE_S - 0.1
    notices.failed("locked")
    notices.failed("damaged")
    assert world.fake.shown == ["locked", "damaged"]
    clock.now += 0.1
    notices.failed("locked")
    assert world.fake.shown == ["locked", "damaged", "locked"]
    notices.say("locked")
    notices.say("locked")
    assert world.fake.shown[3:] == ["locked", "locked"]


def test_a_notice_shows_control_characters_and_markup_as_text() -> None:
    notify = Mock()
    Notices(notify).say("a \x1b[31m[red]b[/]", title="\x07c")
    assert "\x1b" not in notify.call_args.args[0]
    assert "[red]b[/]" in notify.call_args.args[0]
    assert "\x07" not in notify.call_args.kwargs["title"]
    assert notify.call_args.kwargs["markup"] is False


# -- the guard


def test_a_store_error_becomes_a_notice_and_others_do_not(world: World) -> None:
    class Screen:
        notices = world.fake.notices

        @guarded
        def fails(self) -> None:
            raise StoreError("the file is locked")

        @guarded
        def breaks(self) -> None:
            raise ValueError("a programming error")

    Screen().fails()
    assert world.fake.shown == ["the file is locked"]
    with pytest.raises(ValueError, match="programming"):
        Screen().breaks()
    with guard(world.fake.notices):
        raise StoreError("the file is damaged")
    assert world.fake.shown == ["the file is locked", "the file is damaged"]


def test_every_method_that_textual_calls_on_the_screen_is_guarded() -> None:
    called = {
        name: method
        for name, method in vars(Browser).items()
        if name.startswith(("action_", "on_")) or hasattr(method, "_textual_on")
    }
    assert len(called) > 40
    unguarded = {name for name, method in called.items() if not hasattr(method, "__wrapped__")}
    # It reads no archive, and must work whatever else does not.
    assert unguarded == {"action_quit"}


def test_no_controller_writes_the_attributes_of_another() -> None:
    folder = Path(inspect.getfile(ActionRunner)).parent
    modules = sorted(folder.glob("*.py"))
    assert len(modules) > 10
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                for part in ast.walk(target) if target is not None else ():
                    if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store):
                        part = part.value
                    elif not (isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)):
                        continue
                    owner = ast.unparse(part.value) if isinstance(part, ast.Attribute) else "self"
                    assert owner == "self" or owner.endswith(("timeline", "tree", "source")), ast.unparse(part)


def test_a_fake_host_has_what_the_protocol_asks_for() -> None:
    asked = {name for name in vars(Host) if not name.startswith("_")}
    assert asked <= set(dir(FakeHost)) | {"notices"}
    assert asked <= set(dir(Controllers)) | {"notices"}
