"""A replayed recording shows what was shown live, however one moves in it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make import VMSTAT, make_interval, make_rows, make_session, random_rows
from test_screen_app import settled

from mmwatch.cli.main import build_parser, main
from mmwatch.cli.tables import Table
from mmwatch.cli.times import moment
from mmwatch.cli.top import json_line
from mmwatch.diagnosis.lately import Lately
from mmwatch.display.screen.app import ScreenApp
from mmwatch.display.screen.feed import Services
from mmwatch.display.screen.layout import Layout
from mmwatch.display.screen.state import State
from mmwatch.display.screen.widgets import screen_text
from mmwatch.errors import UsageError
from mmwatch.model.course import Position
from mmwatch.model.interval import Cost, Interval, Loss, Node, Probe, Process, Session
from mmwatch.model.json import to_json
from mmwatch.model.records import RECORD_DTYPE, Recent
from mmwatch.model.rows import cgroups_of
from mmwatch.model.snapshot import take
from mmwatch.recording import Reader, Writer
from mmwatch.session import playback as playback_module
from mmwatch.session.playback import Playback

START_S = 1_700_000_000.0
HOSTILE = "\x1b[2J\u202e\u5bb6a\u0301\U0001f600\n"


def session(**fields: Any) -> Session:
    return make_session(
        start_s=START_S,
        page_size=16384,
        unknown=frozenset({"written_pages"}),
        settings={"zone_reclaim_mode": 1, "lru_gen_enabled": 7, "thp_enabled": "madvise", "swappiness": None},
        probes=(Probe("passes", "", "missing", "no fentry"),),
        **fields,
    )


def interval(number: int, tasks: int = 12) -> Interval:
    """Something in every field, other tasks in every interval, and now and then none."""
    rows = random_rows(0 if number % 7 == 3 else 8, seed=number, tasks=tasks)
    rows["written_pages"] = 0
    rows["cpu_node"] = rows["path"] % 2
    rows["cgroup_id"] = rows["tgid"] % 4
    rows["target_id"] = rows["tgid"] % 3
    rows["start_ns"] = rows["tid"] * 1000 + rows["path"] * 100 + rows["node"] + 1  # of a row, as long as it lives
    tgids = np.unique(rows["tgid"]).tolist()
    return make_interval(
        rows,
        end_s=START_S + number + 1,
        duration_ns=999_999_999,
        vmstat={**VMSTAT, "pgsteal_file": number, "pgscan_file": 2 * number},
        edge_begin_pages=number % 3,
        edge_end_pages=1,
        nodes=(Node(0, 5000, 2, 3, 4, 5, 6, 7), Node(1, free_pages=8)),
        pressure={"some_avg10": 0.25, "full_avg10": 0.0, "some_us": 17, "full_us": number},
        settings={"zone_reclaim_mode": number % 2},
        kswapd={0: "running", 1: "gave up"},
        cgroups={number: f"/a/{number}" for number in cgroups_of(rows) if number},
        processes={tgid: Process(tgid, f"task{tgid}", "a --b", 1, 10 * number, None) for tgid in tgids},
        loss=Loss({"reclaim": 3}, {}, None if number % 5 else 4, 5, 6, 7),
        cost=Cost(1000, 2000, 30, 40),
    )


def record(path: Path, intervals: list[Interval], **fields: Any) -> list[Interval]:
    with Writer(path, session(**fields)) as writer:
        for one in intervals:
            writer.write(one)
    return intervals


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.mmw"


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ten(path: Path, clock: Clock) -> Iterator[Playback]:
    """Ten intervals of a second."""
    record(path, [interval(number) for number in range(10)])
    with Reader(path) as reader:
        yield Playback(reader, clock=clock)


def numbers(played: Playback) -> list[int]:
    """The intervals that come now, by their place."""
    found = []
    while (one := played.take()) is not None:
        found.append(round(one.end_s - START_S) % 3600 - 1)
    return found


# ---- pace ----


def test_it_goes_as_it_went(ten: Playback, clock: Clock) -> None:
    assert numbers(ten) == [0]
    clock.now_s += 0.9
    assert numbers(ten) == []
    clock.now_s += 0.2
    assert numbers(ten) == [1]
    clock.now_s += 0.9  # the beat is kept
    assert numbers(ten) == [2]
    assert ten.position() == Position(
        2, 10, pytest.approx(0.3), pytest.approx(START_S, abs=0.01), START_S + 3, START_S + 10
    )


def test_speed(ten: Playback, clock: Clock) -> None:
    ten.speed = 4.0
    numbers(ten)
    clock.now_s += 1.01
    assert numbers(ten) == [1, 2, 3, 4]
    ten.speed = 0.5
    clock.now_s += 1.5
    assert numbers(ten) == []
    clock.now_s += 0.6
    assert numbers(ten) == [5]


def test_who_slept_does_not_run_after_it(ten: Playback, clock: Clock) -> None:
    numbers(ten)
    clock.now_s += 1000
    assert numbers(ten) == [1, 2]


def test_pause(ten: Playback, clock: Clock) -> None:
    numbers(ten)
    ten.paused = True
    clock.now_s += 5
    assert numbers(ten) == []
    ten.paused = False
    clock.now_s += 0.5
    assert numbers(ten) == []
    clock.now_s += 0.6
    assert numbers(ten) == [1]


def test_it_stands_still_at_its_end_and_begins_anew(ten: Playback, clock: Clock) -> None:
    ten.seek(1.0)
    assert numbers(ten) == [9]
    assert ten.ended
    assert ten.paused
    clock.now_s += 5
    assert numbers(ten) == []
    ten.paused = False
    assert numbers(ten) == [0]
    assert not ten.ended


@pytest.mark.parametrize(
    ("steps", "places"),
    [([1, 1, -1], [4, 5, 4]), ([-1], [2]), ([-100], [0]), ([100], [9]), ([100, 1], [9, None]), ([-3, 9], [0, 9])],
)
def test_steps_pause(ten: Playback, clock: Clock, steps: list[int], places: list[int | None]) -> None:
    ten.seek(0.35)
    assert numbers(ten) == [3]
    for step, place in zip(steps, places):
        ten.step(step)
        assert ten.paused
        assert numbers(ten) == ([] if place is None else [place])
        clock.now_s += 10
        assert numbers(ten) == []


def test_steps_before_anything_was_taken_add_up(ten: Playback) -> None:
    numbers(ten)
    ten.step(1)
    ten.step(1)
    assert ten.before() is not None
    assert numbers(ten) == [2]


@pytest.mark.parametrize(
    ("fraction", "place"), [(0.0, 0), (0.05, 0), (0.1, 0), (0.11, 1), (0.5, 4), (0.99, 9), (1.0, 9), (-1, 0), (2, 9)]
)
def test_seek(ten: Playback, fraction: float, place: int) -> None:
    ten.seek(fraction)
    assert numbers(ten) == [place]


def test_jumps_go_on_playing(ten: Playback, clock: Clock) -> None:
    numbers(ten)
    ten.jump_s(4)
    assert numbers(ten) == [4]
    clock.now_s += 1.1
    assert numbers(ten) == [5]
    ten.jump_s(-60)
    assert numbers(ten) == [0]
    ten.jump_s(60)
    assert numbers(ten) == [9]


def test_to_the_worst_and_from_there_to_the_next(path: Path, clock: Clock) -> None:
    made = [interval(number) for number in range(6)]
    for number, (stall_ns, duration_ns) in enumerate([(5, 10), (9, 10), (0, 10), (0, 10), (9, 100), (8, 10)]):
        rows = made[number].rows[:2].copy()  # the fourth has none
        rows["stall_ns"] = 0
        rows["stall_ns"][:1] = stall_ns
        made[number] = replace(made[number], rows=rows, duration_ns=duration_ns)
    record(path, made)
    with Reader(path) as reader:
        played = Playback(reader, clock=clock)
        seen = []
        for _ in range(5):
            assert played.worst()
            seen += numbers(played)
        assert seen == [1, 5, 0, 4, 1]
        assert played.paused
        played.step(1)
        assert numbers(played) == [2]
        assert played.worst()
        assert numbers(played) == [1]
        quiet = Playback(reader, (3, 4), clock=clock)
        assert not quiet.worst()


def test_a_part(path: Path) -> None:
    record(path, [interval(number) for number in range(10)])
    with Reader(path) as reader:
        played = Playback(reader, (3, 5))
        assert (played.position().index, played.position().count) == (0, 3)
        assert numbers(played) == [2]
        played.seek(1)
        assert numbers(played) == [4]


def test_jumps_follow_the_time_that_passed(path: Path, clock: Clock) -> None:
    """The clock is set back by two hours in the middle."""
    made = [interval(number) for number in range(10)]
    record(path, [replace(one, end_s=one.end_s - 7200 * (number >= 5)) for number, one in enumerate(made)])
    with Reader(path) as reader:
        played = Playback(reader, clock=clock)
        numbers(played)
        played.jump_s(3)
        assert numbers(played) == [3]
        played.jump_s(4)
        assert numbers(played) == [7]
        assert played.position().share == pytest.approx(0.8)
        played.jump_s(-3)
        assert numbers(played) == [4]
        played.seek(0.65)
        assert numbers(played) == [6]
        assert played.go_to_time(START_S - 7200 + 8.5)
        assert numbers(played) == [8]
        assert played.go_to_time(START_S + 1.5)
        assert numbers(played) == [1]
        assert not played.go_to_time(START_S + 3600)
        assert numbers(played) == []


# ---- the way there does not matter ----


def shown(app: ScreenApp) -> dict[str, Any]:
    """All that a screen can show."""
    history = app.state.history
    assert history is not None
    assert history.latest is not None
    parts: dict[str, Any] = {"total": history.total, "rates": list(history.rates)}
    for name, one in (("latest", history.latest), ("whole", history.since_start())):
        parts[name] = to_json(take(history.session, one)) if one else None
    for by in ("task", "thread", "cgroup"):
        fading = history.with_fading(by)
        assert fading is not None
        found = to_json(take(history.session, fading, by))
        parts[by] = sorted(map(json.dumps, found["rows"]))
    return parts


def screen_of(played: Playback) -> ScreenApp:
    return ScreenApp(State(played, Layout(), Services(), controls=played))


def test_back_and_forth_shows_the_same(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback_module, "STRIDE_MIN", 8)
    count = 90
    record(path, [interval(number) for number in range(count)])
    with Reader(path) as reader:
        forward = screen_of(Playback(reader, clock=clock))
        there = []
        for _ in range(count):
            assert forward.state.take()
            there.append(shown(forward))
            clock.now_s += 1.001
        played = Playback(reader, clock=clock)
        back = screen_of(played)
        random = np.random.default_rng(1)
        back.state.take()
        place = 0
        for index in [*range(5), 89, 88, 87, 40, 41, 0, 1, *random.integers(0, count, 25).tolist()]:
            played.step(index - place)
            assert back.state.take() == (index != place)
            place = index
            assert shown(back) == there[index], index


def test_playing_on_after_a_jump_shows_the_same(path: Path, clock: Clock) -> None:
    record(path, [interval(number) for number in range(60)])
    with Reader(path) as reader:
        straight, jumped = (screen_of(Playback(reader, clock=clock)) for _ in range(2))
        for number in range(60):
            if number == 10:
                assert isinstance(jumped.state.controls, Playback)
                jumped.state.controls.jump_s(10)
            straight.state.take()
            jumped.state.take()
            clock.now_s += 1.001
            if number in (10, 30):
                assert shown(jumped) != shown(straight)
        assert shown(jumped) == shown(straight)  # it waited at the end


def test_jumps_in_an_hour_read_little(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(path, [make_interval(make_rows({"reclaims": 1}), end_s=START_S + n + 1) for n in range(3600)])
    with Reader(path) as reader:
        read = [0]
        intervals = reader.intervals

        def counted(*span: Any, **how: Any) -> Iterator[Interval]:
            for one in intervals(*span, **how):
                read[0] += 1
                yield one

        monkeypatch.setattr(reader, "intervals", counted)
        played = Playback(reader)
        app = screen_of(played)
        app.state.take()
        played.seek(1)
        app.state.take()
        assert app.state.history is not None
        app.state.history.since_start()
        for fraction in (0.5, 0.99, 0.1, 0.7):
            read[0] = 0
            played.seek(fraction)
            app.state.take()
            # What the rates go back, and from the nearest sum kept for the account.
            assert read[0] <= playback_module.RATES_MAX + 3600 // playback_module.STRIDES_MAX + 2
            read[0] = 0
            app.state.history.since_start()
            assert read[0] <= 3600 // playback_module.STRIDES_MAX + 1


def test_what_is_kept_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback_module, "STRIDE_MIN", 1)
    record(path, [interval(number, tasks=1000) for number in range(200)])
    with Reader(path) as reader:
        played = Playback(reader)
        whole = played._whole(200)
        assert whole is not None
        assert 16 <= len(played._wholes) <= 32
        assert len(played._totals) <= 32
        monkeypatch.setattr(playback_module, "KEPT_BYTES_MAX", 4 * whole.rows.nbytes)
        played._whole(200)
        assert sum(one.rows.nbytes for one in played._wholes.values()) <= 4 * whole.rows.nbytes


# ---- single reclaims ----


def test_recent_reclaims_up_to_now(path: Path, clock: Clock) -> None:
    with Writer(path, session()) as writer:
        for number in range(4):
            writer.write(interval(number))
        start_ns = 10**15
        records = np.zeros(200, RECORD_DTYPE)
        records["time_ns"] = start_ns + np.arange(200) * 20_000_000 + 1
        records["tgid"] = 5 + np.arange(200) % 2
        records["kind"][::8] = 1
        records["path"] = 2
        writer.write_records(records)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"UPDATE session SET start_monotonic_ns = {start_ns}")
        db.commit()
    with Reader(path) as reader:
        played = Playback(reader, clock=clock)
        assert played.recent() == ()
        numbers(played)
        assert played.recent() == ()
        played.watch(5)
        first = played.recent()
        assert len(first) == 18  # 50 in a second, half of them of another, a fourth of these no reclaims
        assert isinstance(first[-1], Recent)
        assert first[-1].time_s <= START_S + 1
        played.step(3)
        numbers(played)
        later = played.recent()
        assert len(later) == 50
        assert START_S + 3.5 < later[-1].time_s <= START_S + 4
        assert list(later) == sorted(later, key=lambda one: one.time_s)
        played.step(-3)
        numbers(played)
        assert played.recent() == first
        played.watch(77)
        assert played.recent() == []


# ---- the command ----


def arguments(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(["top", *words])


@pytest.mark.parametrize("words", [[], ["--by", "thread"], ["--by", "node", "-r"], ["--limit", "2", "-s", "scanned"]])
def test_json_is_what_top_prints(path: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    written = record(path, [interval(number) for number in range(9)])
    total = None
    wanted, lately = [], Lately(session())
    for one in written:
        snapshot = take(session(), one, arguments(*words).by)
        total = total.then(snapshot.accounting) if total else snapshot.accounting
        lately.add(one)
        wanted.append(json_line(arguments(*words), snapshot, total, lately))
    assert main(["replay", str(path), "--json", *words]) == 0
    assert capsys.readouterr().out.splitlines() == wanted


def test_blocks_are_what_top_prints(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = record(path, [interval(number) for number in range(4)])
    table = Table.of(arguments("--columns", "+p99"))
    total = None
    wanted = ""
    for one in written:
        snapshot = take(session(), one)
        total = total.then(snapshot.accounting) if total else snapshot.accounting
        wanted += "\n".join(table.screen(snapshot, total, None)) + "\n\n"
    for words in (["-b"], []):  # standard output is no terminal here
        assert main(["replay", str(path), *words, "--columns", "+p99"]) == 0
        assert capsys.readouterr().out == wanted


def test_a_part_of_it_counts_from_its_begin(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(path, [interval(number) for number in range(9)])
    assert main(["replay", str(path), "--json", "--begin", "+2.5s", "--end", "+4.5s"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["session"]["end"] - START_S for line in lines] == [3, 4, 5]
    assert lines[0]["accounting_so_far"] == lines[0]["accounting"]


def test_columns_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "nothing", "--columns", "help"]) == 0
    assert "overshoot" in capsys.readouterr().out


def test_hostile_names(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = make_rows({"tgid": 7, "comm": HOSTILE.encode()[:16], "reclaims": 1, "stall_ns": 5, "cgroup_id": 3})
    one = make_interval(rows, processes={7: Process(7, HOSTILE, HOSTILE, 1)}, cgroups={3: HOSTILE})
    record(path, [one], hostname=HOSTILE, filter={"comm": HOSTILE})
    assert main(["replay", str(path), "-b", "--columns", "all"]) == 0
    assert main(["replay", str(path), "-b", "--by", "cgroup"]) == 0
    out = capsys.readouterr().out
    assert "\\x1b[2J\\u202e" in out
    assert not {"\x1b", "\u202e"} & set(out)


@pytest.mark.parametrize("kind", ["missing", "directory", "text", "empty", "truncated"])
def test_errors_are_those_of_report(path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind in ("text", "empty"):
        path.write_text("" if kind == "empty" else "hello" * 100)
    elif kind == "truncated":
        record(path, [interval(number) for number in range(9)])
        path.write_bytes(path.read_bytes()[:20_000])
    said = []
    for command in ("report", "replay"):
        status = main([command, str(path)])
        said.append((status, capsys.readouterr()))
    assert said[0] == said[1]
    assert said[1][0] != 0


def test_cut_off_recordings_are_shown_and_said(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Writer(path, session()) as writer:
        writer.write(interval(0))
        assert main(["replay", str(path), "--json"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    assert "was cut off, or is still being written" in printed.err


def test_nothing_recorded(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(path, [])
    assert main(["replay", str(path)]) == 1
    assert "has no interval to show" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--begin", "yesterday"], "not a time: 'yesterday'"),
        (["--begin", "\x1b[31m"], "not a time: '\\\\x1b[31m'"),
        (["--begin", "+0s"], "not a duration"),
        (["--begin", "+1h"], "has nothing from that time\n  it covers 2023-11-1"),
        (["--end", "2001-01-01 00:00"], "has nothing from that time"),
        (["--begin", "+5s", "--end", "+2s"], "--end +2s is not after --begin +5s"),
        (["-s", "nonsense"], "no column is named 'nonsense'"),
    ],
)
def test_what_cannot_be_meant(path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    record(path, [interval(number) for number in range(9)])
    assert main(["replay", str(path), *words]) == 64
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "x", "1e9", "", "2xx", "nan"])
def test_no_speed(text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["replay", "a.mmw", f"--speed={text}"])
    assert caught.value.code == 64


@pytest.mark.parametrize(("text", "speed"), [("2", 2.0), ("0.5", 0.5), (".5x", 0.5), ("10x", 10.0)])
def test_speeds(text: str, speed: float) -> None:
    assert build_parser().parse_args(["replay", "a.mmw", "--speed", text]).speed == speed


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("14:30", "2026-11-23 14:30:00"),
        ("14:29", "2026-11-24 14:29:00"),
        ("14:30:12", "2026-11-23 14:30:12"),
        ("14:30:11", "2026-11-24 14:30:11"),
        ("0:05", "2026-11-24 00:05:00"),
        ("2026-11-25 01:02", "2026-11-25 01:02:00"),
        ("2026-11-25T01:02:03", "2026-11-25 01:02:03"),
        ("+90s", "2026-11-23 14:31:42.500"),
        ("+2h", "2026-11-23 16:30:12.500"),
    ],
)
def test_times(text: str, wanted: str) -> None:
    start_s = datetime(2026, 11, 23, 14, 30, 12, 500_000).timestamp()
    found = moment(text, start_s)
    assert found.seconds + start_s * found.elapsed == datetime.fromisoformat(wanted).timestamp()


@pytest.mark.parametrize(
    "text",
    ["", "25:00", "12:60", "2026-13-01 10:00", "2026-11-23", "12", "+", "12:00:00:00", "0001-01-01 00:00", "+36501d"],
)
def test_no_times(text: str) -> None:
    with pytest.raises(UsageError):
        moment(text, START_S)


# ---- the screen ----


def test_the_screen(path: Path, clock: Clock) -> None:
    record(path, [interval(number) for number in range(9)])

    async def drive() -> None:
        with Reader(path) as reader:
            played = Playback(reader, clock=clock)
            app = screen_of(played)
            async with app.run_test(size=(100, 30)) as pilot:

                async def sees(wanted: str, *keys: str) -> str:
                    await pilot.press(*keys)
                    return await settled(pilot, wanted)

                await sees(" 1 of 9 ")
                clock.now_s += 1.1
                await sees(" 2 of 9 ")
                there = await sees("paused", "space")
                clock.now_s += 9
                await sees(" 4 of 9 ", "right", "right")
                assert await sees(" 2 of 9 ", "left", "left") == there
                await sees(" 9 of 9 ", "j")
                await sees(" 1 of 9 ", "J")
                await sees(" 5 of 9 ", "b", *"50%", "enter")
                await sees("  2x", "right_square_bracket", "space")
                assert app.failure is None

    asyncio.run(drive())


def test_damage_met_while_playing_ends_the_screen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(path, [interval(number) for number in range(9)])

    async def drive(played: Playback) -> None:
        app = screen_of(played)
        async with app.run_test(size=(80, 24)) as pilot:
            while app.state.history is None:
                await pilot.pause(0.02)
            await pilot.press("right")
            while app.failure is None:
                await pilot.pause(0.02)
            assert "is damaged" in str(app.failure)

    with Reader(path) as reader:
        played = Playback(reader)
        played._durations_ns[:] = 10**18  # no interval is due

        def broken(*_span: Any) -> Any:
            raise ValueError("malformed JSON")

        numbers_read = reader._load

        def load(batch: list[dict[str, Any]], *rest: Any) -> Iterator[Interval]:
            return broken() if batch[0]["interval"] == 2 else numbers_read(batch, *rest)

        monkeypatch.setattr(reader, "_load", load)
        with pytest.raises(Exception, match="is damaged"):
            asyncio.run(drive(played))


def test_detail_of_who_has_become_idle(path: Path, clock: Clock) -> None:
    """The table still names the task for as long as it shows the row."""
    busy = make_rows({"tgid": 77, "comm": b"gone", "reclaims": 5, "stall_ns": 1000, "cgroup_id": 3})
    record(
        path,
        [
            make_interval(busy, end_s=START_S + 1, processes={77: Process(77, "gone", "gone --now", 1)}),
            make_interval(end_s=START_S + 2),
        ],
    )

    async def drive() -> None:
        with Reader(path) as reader:
            played = Playback(reader, clock=clock)
            app = screen_of(played)
            async with app.run_test(size=(80, 24)) as pilot:
                while app.state.history is None:
                    await pilot.pause(0.02)
                played.step(1)
                while not played.ended:
                    await pilot.pause(0.02)
                await pilot.press("enter")
                for _ in range(500):
                    if "gone  PID 77  parent 1" in screen_text(app.screen):
                        break
                    await pilot.pause(0.02)
                assert "command  gone --now" in screen_text(app.screen)

    asyncio.run(drive())
