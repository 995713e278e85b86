"""The full-screen display, driven by its keys in a terminal of Textual's own that is none."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from make import make_interval, make_session, random_rows
from test_display_plain import host
from textual.binding import Binding
from textual.pilot import Pilot

from mmwatch.display.screen.app import ScreenApp
from mmwatch.display.screen.feed import Services
from mmwatch.display.screen.help import key_name
from mmwatch.display.screen.keys import KEYS
from mmwatch.display.screen.layout import THEMES, Layout
from mmwatch.display.screen.state import State
from mmwatch.display.screen.widgets import Menu, Pager, screen_text
from mmwatch.display.text import cells
from mmwatch.model.columns import COLUMNS
from mmwatch.model.course import Position
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import Interval, Node, Session
from mmwatch.model.merge import merge
from mmwatch.model.records import Recent

FIXTURES = Path(__file__).parent / "fixtures"

pytestmark = pytest.mark.usefixtures("in_utc")


class MadeFeed:
    """Intervals of a test."""

    def __init__(self, *intervals: Interval, session: Session | None = None) -> None:
        self.session: Session | None = session or host()[0]
        self.problem: BaseException | None = None
        self.ended = False
        self.interval_s = 0.0
        self.waiting = list(intervals)
        self.taken = 0

    def take(self) -> Interval | None:
        if not self.waiting:
            return None
        whole = self.waiting.pop(0)
        while self.waiting:
            whole = merge(whole, self.waiting.pop(0))
        self.taken += 1
        return whole

    def set_interval_s(self, seconds: float) -> None:
        self.interval_s = seconds


class Host:
    """Fake services that record the screen's requests."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.told: list[str] = []
        self.services = Services(
            exited=lambda tgid: tgid == 77,
            watch=lambda tgid: self.asked.append(("watch", tgid)),
            recent=lambda: [Recent(1.7e9, "direct", 0, 0, 32, 99, 12_342, 0, 1_000_000)],
            record=lambda: self.asked.append("record"),
            recording=lambda: "a.mmw" if "record" in self.asked else "",
            notices=self._notices,
            save=lambda layout: self.asked.append(layout.to_json()) or "saved to here",
            export=lambda svg, text: self.asked.append((svg, text)) or "written: a.svg",
            notes=lambda: ["a note of this session"],
        )

    def _notices(self) -> list[str]:
        told, self.told = self.told, []
        return told


class MadeControls:
    """A recording of an hour that stands at its middle."""

    paused, speed = False, 1.0

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def position(self) -> Position:
        return Position(29, 60, 0.5, 1_700_000_000.0, 1_700_001_800.0, 1_700_003_600.0)

    def before(self) -> None:
        pass

    def step(self, n: int) -> None:
        self.asked.append(("step", n))

    def jump_s(self, seconds: float) -> None:
        self.asked.append(("jump", seconds))

    def seek(self, fraction: float) -> None:
        self.asked.append(("seek", round(fraction, 3)))

    def go_to_time(self, time_s: float) -> bool:
        self.asked.append(("time", time_s))
        return False

    def worst(self) -> bool:
        self.asked.append("worst")
        return True


Scenario = Callable[[ScreenApp, "Pilot[None]"], Awaitable[None]]


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Whatever the speed of the machine."""
    for _ in range(500):
        if condition():
            return
        await pilot.pause(0.02)
    raise AssertionError(f"this does not come true:\n{screen_text(pilot.app.screen)}")


async def settled(pilot: Pilot[None], wanted: str) -> str:
    """The screen once this text is drawn. If a widget gains or loses a line, the others move one frame later."""
    text = ""
    for _ in range(500):
        before, text = text, screen_text(pilot.app.screen)
        if wanted in text and text == before:
            return text
        await pilot.pause(0.02)
    raise AssertionError(f"no {wanted!r} on the screen:\n{text}")


def drive(
    scenario: Scenario,
    feed: MadeFeed | None = None,
    size: tuple[int, int] = (80, 24),
    host_: Host | None = None,
    layout: Layout | None = None,
    **more: Any,
) -> ScreenApp:
    """Run an application up to its first interval, and then the scenario."""
    feed = feed if feed is not None else MadeFeed(host()[1])

    async def main() -> ScreenApp:
        app = ScreenApp(State(feed, layout or Layout(), (host_ or Host()).services, **more))
        async with app.run_test(size=size) as pilot:
            if feed.waiting:
                await settled(pilot, "accounted")
            await scenario(app, pilot)
        return app

    return asyncio.run(main())


def pressing(*keys: str, shows: str = "", hides: str = "", **more: Any) -> ScreenApp:
    """After these keys there is such a text, or there is none."""

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press(*keys)
        await until(
            pilot, lambda: shows in screen_text(app.screen) and not (hides and hides in screen_text(app.screen))
        )

    return drive(scenario, **more)


# ---- what is seen ----


def test_what_may_change_is_told_before_a_headline_that_stays() -> None:
    long = "demo: 2 tasks read 512M in a cgroup of 32M for 60 s; Ctrl-C ends it"
    pressing("space", shows="PAUSED (Space)  demo: 2", headline=long)
    pressing("space", "space", hides="PAUSED", headline=long)


def test_the_setting_to_blame_is_told_where_it_is_to_blame() -> None:
    said = "!zone_reclaim_mode 1 (0 lets tasks use the other node)"
    pressing(shows=said)
    _, interval = host()
    full = [dataclasses.replace(node, free_pages=1) for node in interval.nodes]
    pressing(shows="~zone_reclaim_mode 1 ", hides=said, feed=MadeFeed(dataclasses.replace(interval, nodes=full)))


def test_what_opened_the_help_closes_it() -> None:
    for key in ("question_mark", "h"):
        pressing(key, shows="PATHS", size=(80, 120))
        pressing(key, key, hides="PATHS", size=(80, 120))


def test_the_detail_begins_as_its_table_is() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        app.state.feed.waiting.append(host()[1])  # type: ignore[attr-defined]
        await until(pilot, lambda: not app.state.feed.waiting)  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: "in 1.00s up to" in screen_text(app.screen))
        await pilot.press("escape", "a", "enter")
        await until(pilot, lambda: "in 2.00s up to" in screen_text(app.screen))

    drive(scenario)


def test_the_verdict() -> None:
    """Its first finding has a line; v shows it whole, and while the display is paused, what it was then."""

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        assert "! zone-reclaim-thrash: " in screen_text(app.screen)
        await pilot.press("space", "v")
        await until(pilot, lambda: "WHY" in screen_text(app.screen))
        assert "sysctl -w vm.zone_reclaim_mode=0" in "".join(line for line in await _pages(app, pilot))
        await pilot.press("v")
        await until(pilot, lambda: "by task" in screen_text(app.screen))

    drive(scenario)


async def _pages(app: ScreenApp, pilot: Pilot[None]) -> list[str]:
    """All pages of what is open."""
    pages = []
    for _ in range(8):
        pages.append(screen_text(app.screen))
        await pilot.press("pagedown")
    return pages


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_the_whole_screen(size: tuple[int, int]) -> None:
    """Oracle: the screens in fixtures/, which were checked by eye."""
    seen = []

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        seen.append(screen_text(app.screen))

    drive(scenario, size=size)
    assert seen[0] == (FIXTURES / f"screen-{size[0]}x{size[1]}.txt").read_text()


@pytest.mark.parametrize("size", [(20, 5), (40, 12), (80, 24), (200, 60)])
@pytest.mark.parametrize("by", GROUPINGS)
def test_no_size_is_too_small(size: tuple[int, int], by: str) -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        lines = screen_text(app.screen).splitlines()
        assert len(lines) == size[1]
        assert all(line.isprintable() for line in lines)

    drive(scenario, size=size, layout=Layout(by=by))


@pytest.mark.parametrize("size", [(60, 15), (40, 10), (80, 12)])
@pytest.mark.parametrize("nodes", [1, 8])
def test_a_small_screen_shows_the_worst_rows(size: tuple[int, int], nodes: int) -> None:
    _, interval = host()
    many = tuple(Node(number, 1, 2, 3, 4, 5, 6, 7) for number in range(nodes))

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        seen = screen_text(app.screen)
        assert all(text in seen for text in ("oracle_wo", "STALL%", "python3")), seen
        assert len(re.findall(r"^. *\d+ .* \d", seen, re.MULTILINE)) >= 3, seen

    drive(scenario, MadeFeed(dataclasses.replace(interval, nodes=many)), size=size)


def test_htops_keys() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        for key, wanted in (("u", "no filter by user"), ("f9", "changes no process"), ("P", "sorted by CPU%")):
            await pilot.press(key)
            await until(pilot, lambda wanted=wanted: wanted in screen_text(app.screen))  # type: ignore[misc]
        await pilot.press("M")
        await until(pilot, lambda: "sorted by RECL/s" in screen_text(app.screen))
        await pilot.press("f5")
        await until(pilot, lambda: "tree by parent" in screen_text(app.screen))
        await pilot.press("f4", "z", "enter")
        await until(pilot, lambda: "filter 'z'" in screen_text(app.screen))
        await pilot.press("f10")
        await until(pilot, lambda: app._exit)

    drive(scenario)


def test_resizing() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        for width, height in ((132, 50), (60, 15), (80, 24)):
            await pilot.resize_terminal(width, height)
            await until(pilot, lambda: len(screen_text(app.screen).splitlines()) == height)  # noqa: B023
            await until(pilot, lambda: "4194303" in screen_text(app.screen))
            assert max(map(cells, screen_text(app.screen).splitlines())) <= width

    drive(scenario)


def test_before_there_is_anything() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "compiling the BPF programs; q quits" in screen_text(app.screen))
        waited = pytest.MonkeyPatch()
        waited.setattr(app.state, "waited_s", lambda: 61.4)
        await until(pilot, lambda: "compiling the BPF programs for 61 s (up to a minute" in screen_text(app.screen))
        waited.undo()
        for key in ("enter", "down", "slash", "x", "escape", "s", "escape", "end", "tab", "n", "greater_than_sign"):
            await pilot.press(key)
        app.state.feed.session = make_session()  # type: ignore[misc]
        await until(pilot, lambda: "waiting for the end of the first interval" in screen_text(app.screen))

    feed = MadeFeed()
    feed.session = None
    drive(scenario, feed)


def test_nothing_reclaims() -> None:
    pressing(shows="nobody had to free memory", feed=MadeFeed(make_interval(), session=make_session()))


def test_terminals_without_other_characters() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        for key in ("down", "enter", "escape", "question_mark", "escape", "s", "escape"):
            await pilot.press(key)
            assert screen_text(app.screen).isascii()

    drive(scenario, ascii_only=True)


@pytest.mark.parametrize("theme", THEMES)
def test_themes(theme: str) -> None:
    pressing("down", shows="oracle", layout=Layout(theme=theme))


@pytest.mark.parametrize("theme", THEMES)
def test_without_colour_the_signs_remain(monkeypatch: pytest.MonkeyPatch, theme: str) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        await until(pilot, lambda: "!4194303 oracle" in screen_text(app.screen))
        styles = {segment.style for strip in app.screen._compositor.render_strips() for segment in strip}
        colours = {colour for style in styles if style for colour in (style.color, style.bgcolor)}
        assert {colour.name for colour in colours if colour is not None} <= {"default"}
        assert any(style and style.reverse for style in styles)

    drive(scenario, layout=Layout(theme=theme))


def test_ten_thousand_rows() -> None:
    """The last one can be reached."""
    session = make_session()
    rows = random_rows(10_000, 1, tasks=5_000)

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press("end")
        frame = app.main.frame
        assert frame is not None
        count = len(frame.order)
        await until(pilot, lambda: f"-{count} of {count}" in screen_text(app.screen))
        await pilot.press("home")
        await until(pilot, lambda: " 1-" in screen_text(app.screen))

    drive(scenario, MadeFeed(make_interval(rows), session=session))


# ---- keys ----


@pytest.mark.parametrize(
    ("keys", "shows"),
    [
        (["question_mark"], "this help"),
        (["h"], "KEYS"),
        (["f1"], "KEYS"),
        (["tab"], "by thread"),
        (["shift+tab"], "by path"),
        (["tab", "tab"], "by comm"),
        (["tab", "tab", "tab"], "RAN ON"),
        (["H"], "by thread"),
        (["H", "H"], "by task"),
        (["C"], "by comm"),
        (["C", "C"], "by task"),
        (["a"], "totals of"),
        (["o"], "only active"),
        (["I"], "reversed"),
        (["R"], "reversed"),
        (["greater_than_sign"], "sorted by WORST"),
        (["less_than_sign"], "sorted by OVER"),
        (["s"], "sort by"),
        (["f6", "down", "enter"], "sorted by WORST"),
        (["t"], "tree by parent"),
        (["t", "t"], "tree by cgroup"),
        (["c"], "columns by task"),
        (["c", "pagedown", "pagedown", "space", "escape"], "SLEEP%"),
        (["space"], "PAUSED"),
        (["Z"], "PAUSED"),
        (["T"], "theme terminal-light"),
        (["W"], "saved to here"),
        (["x"], "written: a.svg"),
        (["r"], "REC a.mmw"),
        (["plus"], "the interval is now 2 s"),
        (["minus"], "the interval is now 0.5 s"),
        (["f", "p", "y", "t", "h"], "filter 'pyth' 1 of 10"),
        (["backslash", "z", "z"], "no row contains this text"),
        (["colon"], "Search for commands"),
        (["tab", "tab", "tab", "t"], "only tasks, threads and cgroups have a tree"),
        (["left", "right", "j", "b"], "by task"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_each_key(keys: list[str], shows: str) -> None:
    pressing(*keys, shows=shows if shows != "this help" else "a note of this session", size=(100, 90))


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
@pytest.mark.parametrize("before", [[], ["enter"], ["question_mark"], ["s"]])
def test_leaving(key: str, before: list[str]) -> None:
    """From wherever one is; Ctrl-C also while something is typed."""

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press(*before, key)
        await until(pilot, lambda: not app.is_running)

    app = drive(scenario)
    assert (app.return_code, app.failure) == (0, None)


def test_ctrl_c_leaves_while_something_is_typed() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press("slash", "q")
        assert app.is_running
        await pilot.press("ctrl+c")
        await until(pilot, lambda: not app.is_running)

    drive(scenario)


def test_the_manual_has_every_key() -> None:
    manual = (Path(__file__).parents[2] / "man" / "mmwatch.8").read_text()
    text = manual.replace("\\-", "-").replace("\\(rs", "\\")
    keys = text.partition(".SH KEYS")[2].partition(".SH ")[0].split()
    replay = text.partition(".SS mmwatch replay")[2].partition(".SS")[0].split()
    for binding in KEYS:
        assert isinstance(binding, Binding)
        for key in binding.key.split(","):
            there = keys + (replay if binding.description.startswith("replay") else [])
            assert key_name(key) in [word.strip('",;') for word in there], key


def test_no_key_is_bound_twice() -> None:
    keys = [key for binding in KEYS if isinstance(binding, Binding) for key in binding.key.split(",")]
    assert len(keys) == len(set(keys))


def test_the_cursor_follows_its_task() -> None:
    _, interval = host()
    other = interval.rows.copy()
    other["stall_ns"][other["tgid"] == 812] = 10**12

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press("down", "down")
        assert app.main._cursor.key == (812, 2)
        assert app.main._cursor.at == 1
        app.state.feed.waiting.append(dataclasses.replace(interval, rows=other))  # type: ignore[attr-defined]
        await until(pilot, lambda: app.main._cursor.at == 0)
        assert app.main._cursor.key == (812, 2)
        # One that fades is not followed to the end: the cursor stays where it is.
        left = interval.rows[interval.rows["tgid"] != 812]
        app.state.feed.waiting.append(dataclasses.replace(interval, rows=left))  # type: ignore[attr-defined]
        await until(pilot, lambda: app.main._cursor.key == (4194303, 4))
        assert app.main._cursor.at == 0
        await pilot.press("escape")
        assert app.main._cursor.key is None

    drive(scenario)


def test_searching() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"direct", "enter")
        first = app.main._cursor.at
        await pilot.press("n")
        assert app.main._cursor.at == first + 1
        await pilot.press("slash", *"kswapd", "enter")
        frame = app.main.frame
        assert frame is not None
        assert frame.snapshot.rows["tgid"][frame.order[app.main._cursor.at]] == 77
        await pilot.press("slash", *"nonesuch")
        await until(pilot, lambda: "no row contains 'nonesuch'" in screen_text(app.screen))

    drive(scenario, size=(80, 30))


def test_columns_that_do_not_fit() -> None:
    everything = Layout(columns={"task": [column.key for column in COLUMNS]})

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        assert "COMMAND" not in screen_text(app.screen)
        await pilot.press(*["right"] * 60)
        await until(
            pilot, lambda: "COMMAND" in screen_text(app.screen) and "    PID     TID COMM" in screen_text(app.screen)
        )
        await pilot.press(*["left"] * 60)
        await until(pilot, lambda: "PATH" in screen_text(app.screen) and "to the left" not in screen_text(app.screen))

    drive(scenario, layout=everything)


def test_a_filter_is_left_again() -> None:
    pressing("f", "p", "y", "enter", "escape", shows="oracle", hides="filter '")


def test_the_mouse() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        table = app.main._table
        await pilot.click(table, offset=(2, 0))  # PID
        assert app.state.layout.sort == "pid"
        await pilot.click(table, offset=(2, 0))
        assert app.state.layout.reverse
        await pilot.click(table, offset=(2, 2))
        assert app.main._cursor.at == 1
        await pilot.click(table, offset=(2, 3), times=2)
        await until(pilot, lambda: isinstance(app.screen, Pager))

    drive(scenario)


def test_detail() -> None:
    """Of the task at the cursor; its single reclaims are streamed while it is seen, and no longer."""
    asked = Host()

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press("down", "enter")
        await until(pilot, lambda: "oracle_worker_1" in screen_text(app.screen))
        assert asked.asked == [("watch", 4194303)]
        await until(pilot, lambda: "12342" in screen_text(app.screen))
        assert "in 1.00s" in screen_text(app.screen)
        app.state.feed.waiting.append(host()[1])  # type: ignore[attr-defined]
        await until(pilot, lambda: app.state.feed.taken == 2)  # type: ignore[attr-defined]
        await pilot.press("a")
        await until(pilot, lambda: "in 2.00s" in screen_text(app.screen))
        await pilot.press("escape")
        await until(pilot, lambda: "by task" in screen_text(app.screen))
        assert asked.asked == [("watch", 4194303), ("watch", None)]

    drive(scenario, size=(120, 60), host_=asked)


@pytest.mark.parametrize("by", GROUPINGS)
def test_detail_of_everything_there_is(by: str) -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        frame = app.main.frame
        assert frame is not None
        for _ in frame.order[:3]:
            await pilot.press("down", "enter")
            await until(pilot, lambda: isinstance(app.screen, Pager))
            await pilot.press("end", "home", "pagedown", "escape")
            await until(pilot, lambda: app.screen is app.main)

    drive(scenario, layout=Layout(by=by))


def test_a_sum_has_no_detail() -> None:
    pressing("home", "enter", shows="this line is a sum", layout=Layout(tree="cgroup"))


def test_pausing_stops_drawing_not_counting() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press("space")
        before = await settled(pilot, "PAUSED")
        app.state.feed.waiting.append(make_interval(vmstat=host()[1].vmstat))  # type: ignore[attr-defined]
        await until(pilot, lambda: app.state.feed.taken == 2)  # type: ignore[attr-defined]
        await pilot.pause(0.05)
        assert screen_text(app.screen) == before
        await pilot.press("R", "R", "tab", "shift+tab")  # arranging goes on with what is seen
        await until(pilot, lambda: screen_text(app.screen) == before)
        await pilot.press("space", "a")
        await until(pilot, lambda: "totals of 2s" in screen_text(app.screen))

    drive(scenario)


def test_export_is_what_is_seen() -> None:
    asked = Host()
    app = pressing("x", shows="written", host_=asked)
    ((svg, text),) = asked.asked
    assert "<svg" in svg
    assert "oracle" in svg
    assert "oracle_worke+ node" in text
    assert "\x1b" not in svg + text
    assert "font-face" not in svg
    assert "url(" not in svg.replace("url(#", "")  # nothing is fetched
    assert app.failure is None


def test_the_interval() -> None:
    feed = MadeFeed(host()[1])
    app = pressing("plus", "plus", shows="the interval is now 5 s", feed=feed)
    assert (feed.interval_s, app.state.layout.interval_s) == (5.0, 5.0)


def test_notices() -> None:
    asked = Host()
    asked.told = ["the disk is full\x1b[2J"]
    pressing(shows="the disk is full", host_=asked)


def test_a_process_that_ended_is_marked_in_the_totals_and_gone_from_the_rates() -> None:
    feed = MadeFeed(host()[1])

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        feed.waiting.append(make_interval(end_s=1_700_000_002.0))
        await until(pilot, lambda: "    812 python3" in screen_text(app.screen))
        await until(pilot, lambda: "kswapd0" not in screen_text(app.screen))
        await pilot.press("a")
        await until(pilot, lambda: "x     77 kswapd0" in screen_text(app.screen))

    drive(scenario, feed, size=(80, 30))


def test_every_command_of_the_palette_runs() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        names = []
        for command in list(app.get_system_commands(app.screen)):
            names.append(command.title)
            if command.title == "quit":
                continue
            command.callback()
            await pilot.pause()
            while app.screen is not app.main:
                await pilot.press("escape")
            await pilot.press("escape")
        assert len(set(names)) == len(names) > 20

    drive(scenario)


# ---- how it ends ----


def test_a_feed_that_dies_ends_it() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        app.state.feed.problem = ValueError("no such probe")  # type: ignore[misc]
        await until(pilot, lambda: not app.is_running)

    assert str(drive(scenario).failure) == "no such probe"


def test_a_feed_that_ends_ends_it() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        app.state.feed.ended = True  # type: ignore[misc]
        await until(pilot, lambda: not app.is_running)

    assert drive(scenario).failure is None


def test_an_error_while_drawing_ends_it() -> None:
    feed = MadeFeed(host()[1])

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        feed.waiting.append(dataclasses.replace(host()[1], rows=None))  # type: ignore[arg-type]
        await until(pilot, lambda: not app.is_running)

    with pytest.raises(TypeError):  # Textual tells a test of it
        drive(scenario, feed)


# ---- replay ----


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        (["right"], [("step", 1)]),
        (["left", "left"], [("step", -1), ("step", -1)]),
        (["j"], [("jump", 60.0)]),
        (["J"], [("jump", -60.0)]),
        (["b", *"25%", "enter"], [("seek", 0.25)]),
        (["b", *"22:43:20", "enter"], [("time", 1_700_001_800.0), ("time", 1_700_088_200.0)]),
        (["b", *"noon", "enter"], []),
        (["w"], ["worst"]),
    ],
    ids=str,
)
def test_a_recording_is_steered(keys: list[str], asked: list[Any]) -> None:
    controls = MadeControls()
    names = {":": "colon", "%": "percent_sign"}
    app = pressing(*(names.get(key, key) for key in keys), shows="30 of 60", controls=controls)
    assert controls.asked == asked
    assert app.failure is None


def test_speed_and_pause_of_a_recording() -> None:
    controls = MadeControls()

    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press("right_square_bracket", "right_square_bracket")
        assert controls.speed == 5.0
        await pilot.press("left_square_bracket")
        assert controls.speed == 2.0
        await pilot.press("space")
        assert controls.paused
        await until(pilot, lambda: "22:43:20 of 22:13:20-23:13:20  paused" in screen_text(app.screen))
        app.state.feed.ended = True  # type: ignore[misc]
        await pilot.pause(0.3)
        assert app.is_running

    drive(scenario, controls=controls)


def test_menus_scroll() -> None:
    async def scenario(app: ScreenApp, pilot: Pilot[None]) -> None:
        await pilot.press("c", "end")
        assert isinstance(app.screen, Menu)
        await until(pilot, lambda: "COMMAND" in screen_text(app.screen))
        await pilot.press("home", "up", "enter")
        assert "pid" not in app.state.layout.columns["task"]

    drive(scenario)
