"""What feeds the screen, on an observer of a test; and the files the screen asks for."""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make import make_interval, make_rows, make_session

from mmwatch.cli import layouts, screen
from mmwatch.display.screen.layout import Layout
from mmwatch.errors import MmwatchError, UnavailableError
from mmwatch.kernel.plan import Filter
from mmwatch.model.interval import Interval, Loss
from mmwatch.recording import Reader, Writer
from mmwatch.session import live
from mmwatch.session.live import LiveFeed
from mmwatch.session.target import Target

RECORD = np.dtype(
    [
        *((name, "u8") for name in ("time_ns", "duration_ns", "asked_pages", "scanned_pages", "reclaimed_pages")),
        *((name, "u4") for name in ("kind", "path", "order", "priority", "tgid")),
        ("node", "i4"),
    ]
)


class MadeTracer:
    """A tracer that streams one record of each of two processes per drain, if the test wants that."""

    def __init__(self) -> None:
        self.control = {"detail": 1}

    def drain(self) -> Any:
        records = np.zeros(2 if self.control["detail"] else 0, RECORD)
        records["tgid"] = [5, 7][: len(records)]
        records["reclaimed_pages"] = 32
        return records

    def bpf_ns(self) -> int | None:
        return 1234


class MadeObserver:
    """One page more with each interval."""

    made: MadeObserver
    problem: Exception | None = None

    def __init__(self, target: Target, **options: Any) -> None:
        if self.problem is not None:
            raise self.problem
        type(self).made = self
        self.session = make_session(interval_s=options["interval_s"])
        self.tracer = MadeTracer()
        self.samples = 0
        self.closed = False
        self.breaks_at = 0

    def sample(self) -> Interval:
        self.samples += 1
        if self.samples == self.breaks_at:
            raise MmwatchError("it broke")
        rows = make_rows({"tgid": 5, "reclaims": 1, "reclaimed_file_pages": self.samples})
        loss = Loss(lost={"reclaim": 3}, suppressed={"reclaim": 4}, missed_runs=0)
        return make_interval(rows, loss=loss, vmstat={"pgsteal_file": self.samples, "pgsteal_anon": 0})

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., LiveFeed]]:
    """Starts feeds; all have ended in the end."""
    monkeypatch.setattr(live, "Observer", MadeObserver)
    monkeypatch.setattr(live, "FIRST_INTERVAL_S", 0.01)
    monkeypatch.setattr("mmwatch.host.protection.protect", lambda: ["not protected"])
    monkeypatch.setattr(MadeObserver, "problem", None)
    monkeypatch.chdir(tmp_path)
    started: list[LiveFeed] = []

    def start(interval_s: float = 0.01, **options: Any) -> LiveFeed:
        feed = LiveFeed(Target(Filter(), {}), interval_s, **options)
        feed.start()
        started.append(feed)
        return feed

    yield start
    for feed in started:
        feed.end()
        feed.join(20)
        assert not feed.is_alive()


def until(condition: Callable[[], Any]) -> None:
    """Whatever the speed of the machine."""
    for _ in range(4000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("this does not come true")


def pages(interval: Interval | None) -> int:
    return 0 if interval is None else int(interval.rows["reclaimed_file_pages"].sum())


def test_what_was_not_taken_comes_merged(feeds: Callable[..., LiveFeed]) -> None:
    """Oracle: the observer's own sum; the screen takes nothing for a while, then all."""
    feed = feeds(count=20)
    until(lambda: feed.ended)
    taken = feed.take()
    assert taken is not None
    assert pages(taken) == sum(range(1, 22)) == taken.vmstat["pgsteal_file"]
    assert taken.duration_ns == 21 * 1_000_000_000
    assert feed.take() is None
    assert (feed.problem, MadeObserver.made.closed) == (None, True)


def test_records_of_the_detail_are_no_loss_of_the_figures(feeds: Callable[..., LiveFeed]) -> None:
    feed = feeds(count=1)
    until(lambda: feed.ended)
    taken = feed.take()
    assert taken is not None
    assert (taken.loss.lost, taken.loss.suppressed) == ({}, {})


def test_single_reclaims_are_streamed_only_while_they_are_watched(feeds: Callable[..., LiveFeed]) -> None:
    feed = feeds()
    until(lambda: feed.session)
    tracer = MadeObserver.made.tracer
    until(lambda: tracer.control["detail"] == 0)
    assert feed.recent() == ()
    feed.watch(5)
    until(lambda: len(feed.recent()) == live.RECENT_MAX)
    assert tracer.control["detail"] == 1
    feed.watch(None)
    until(lambda: tracer.control["detail"] == 0)
    assert feed.recent() == ()


def test_another_interval_begins_at_once(feeds: Callable[..., LiveFeed]) -> None:
    feed = feeds(3600.0)
    until(lambda: feed.session and MadeObserver.made.samples == 1)
    feed.set_interval_s(0.01)
    until(lambda: MadeObserver.made.samples > 5)


def test_it_ends_when_the_time_is_over(feeds: Callable[..., LiveFeed]) -> None:
    """And the last interval reaches up to there."""
    seen = []
    feed = feeds(3600.0, duration_s=0.05, attached=lambda: seen.append("attached"), seen=lambda *_: seen.append("seen"))
    until(lambda: feed.ended)
    assert seen[0] == "attached"
    assert seen.count("seen") == MadeObserver.made.samples >= 1


def test_an_error_at_the_start_is_kept(feeds: Callable[..., LiveFeed], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MadeObserver, "problem", UnavailableError("no bcc"))
    feed = feeds()
    until(lambda: feed.ended)
    assert str(feed.problem) == "no bcc"
    assert feed.session is None


def test_an_error_while_reading_is_kept_and_all_is_detached(feeds: Callable[..., LiveFeed]) -> None:
    feed = feeds()
    until(lambda: feed.session)
    MadeObserver.made.breaks_at = MadeObserver.made.samples + 5
    until(lambda: feed.ended)
    assert isinstance(feed.problem, MmwatchError)
    assert MadeObserver.made.closed
    assert pages(feed.take()) > 0


def test_a_recording_from_here_to_there(feeds: Callable[..., LiveFeed], tmp_path: Path) -> None:
    """Oracle: the intervals the observer gave in between."""
    feed = feeds()
    until(lambda: feed.session)
    feed.record()
    until(lambda: feed.recording)
    first = MadeObserver.made.samples
    until(lambda: MadeObserver.made.samples > first + 3)
    feed.record()
    told: list[str] = []
    until(lambda: told.extend(feed.notices()) or len(told) == 2)
    assert (feed.recording, told[0].startswith("recording to mmwatch-")) == ("", True)
    (path,) = tmp_path.glob("*.mmw")
    assert str(path.name) in told[1]
    with Reader(path) as reader:
        found = [pages(interval) for interval in reader.intervals()]
    assert len(found) >= 4
    assert found == list(range(found[0], found[0] + len(found)))
    assert f"{len(found)} intervals" in told[1]


def test_a_recording_is_finished_when_the_screen_is_left(feeds: Callable[..., LiveFeed], tmp_path: Path) -> None:
    feed = feeds()
    until(lambda: feed.session)
    feed.record()
    until(lambda: feed.recording)
    feed.end()
    until(lambda: feed.ended)
    (path,) = tmp_path.glob("*.mmw")
    assert path.name in feed.notices()[-1]
    with Reader(path) as reader:
        assert list(reader.intervals())
        assert not reader.cut_off


def test_a_full_disk_is_told_and_nothing_else_stops(
    feeds: Callable[..., LiveFeed], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Writer, interval: Interval) -> None:
        raise MmwatchError("no space left on the device")

    monkeypatch.setattr(Writer, "write", full)
    feed = feeds()
    until(lambda: feed.session)
    feed.record()
    told: list[str] = []
    until(lambda: told.extend(feed.notices()) or any("no space left" in one for one in told))
    count = MadeObserver.made.samples
    until(lambda: MadeObserver.made.samples > count + 3)
    assert (feed.recording, feed.problem) == ("", None)


def test_where_nothing_can_be_recorded(feeds: Callable[..., LiveFeed], tmp_path: Path) -> None:
    """The current directory has been removed."""
    folder = tmp_path / "gone"
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()
    feed = feeds()
    until(lambda: feed.session)
    feed.record()
    told: list[str] = []
    until(lambda: told.extend(feed.notices()) or told)
    assert told[0].startswith("cannot record: ")
    os.chdir(tmp_path)


def test_many_keys_at_once(feeds: Callable[..., LiveFeed]) -> None:
    """Two threads that ask for everything."""
    feed = feeds()
    until(lambda: feed.session)

    def ask() -> None:
        for number in range(200):
            feed.watch(number % 3 or None)
            feed.set_interval_s(0.01)
            feed.take()
            feed.recent()
            feed.notices()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert feed.problem is None


# ---- files ----


def arguments(**given: Any) -> argparse.Namespace:
    names = {"by": "task", "sort": None, "reverse": False, "columns": None, **given}
    return argparse.Namespace(**names, given=frozenset(given))


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "mmwatch" / "layout.json"


def test_a_layout_is_read_at_the_next_start_and_the_command_line_wins(config: Path) -> None:
    assert layouts.arranged(arguments()) == (Layout(), [])
    saved = Layout(by="node", sort="pid", reverse=True, interval_s=5.0, theme="light", cumulative=True)
    assert str(config) in layouts.save_layout(saved)
    assert layouts.arranged(arguments()) == (saved, [])
    layout, problems = layouts.arranged(arguments(by="task", sort="WORST", interval="1", columns="pid,comm"))
    assert problems == []
    assert (layout.by, layout.sort, layout.reverse, layout.interval_s) == ("task", "longest", False, None)
    assert layout.columns == {"task": ["pid", "comm"]}
    assert (layout.theme, layout.cumulative) == ("light", True)
    added = layouts.arranged(arguments(columns="+p99"))[0]
    assert added.columns["node"][-1] == "p99"


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"by": "user"}', '{"x\\u001b[2J": 1}', "\x00\xff"])
def test_a_broken_layout_is_told_and_ignored(config: Path, broken: str) -> None:
    config.parent.mkdir(parents=True)
    config.write_text(broken)
    layout, (problem,) = layouts.arranged(arguments())
    assert layout == Layout()
    assert "is ignored" in problem
    assert problem.isprintable()


def test_a_layout_that_cannot_be_saved(config: Path) -> None:
    config.parent.parent.write_text("a file")
    assert "cannot save the layout" in layouts.save_layout(Layout())


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory", "long", "deep"])
def test_what_is_no_layout_file_is_not_read(config: Path, kind: str) -> None:
    config.parent.mkdir(parents=True)
    if kind == "symlink":
        (config.parent / "other").write_text('{"secret": 1}')
        config.symlink_to("other")
    elif kind == "fifo":
        os.mkfifo(config)
    elif kind == "directory":
        config.mkdir()
    else:
        config.write_text("[" * 60_000 if kind == "deep" else " " * 70_000 + "{}")
    layout, (problem,) = layouts.arranged(arguments())
    assert layout == Layout()
    assert "is ignored" in problem
    assert "secret" not in problem


def test_a_layout_is_not_written_through_a_link(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts.secrets, "token_hex", lambda length: "guessed")
    config.parent.mkdir(parents=True)
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (config.parent / ".layout.json.guessed").symlink_to(precious)
    assert "cannot save the layout" in layouts.save_layout(Layout())
    assert precious.read_text() == "precious"
    config.symlink_to(precious)
    (config.parent / ".layout.json.guessed").unlink()
    assert "saved to" in layouts.save_layout(Layout())
    assert precious.read_text() == "precious"
    assert not config.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("given", ["config/mmwatch", "config", "."])
def test_a_layout_is_not_written_where_another_user_has_the_say(config: Path, tmp_path: Path, given: str) -> None:
    config.parent.mkdir(parents=True)
    os.chown(tmp_path / given, 65534, 65534)
    assert "another user may change" in layouts.save_layout(Layout())
    assert not config.exists()
    os.chown(tmp_path / given, 0, 0)
    (tmp_path / given).chmod(0o777)
    assert "another user may change" in layouts.save_layout(Layout())
    assert list(config.parent.iterdir()) == []


def test_a_relative_place_is_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG specification wants it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "here")
    monkeypatch.setenv("HOME", "/home/jo")
    assert layouts.layout_file() == Path("/home/jo/.config/mmwatch/layout.json")


def test_a_layout_is_json(config: Path) -> None:
    layouts.save_layout(Layout(tree="parent"))
    assert json.loads(config.read_text())["tree"] == "parent"
    assert list(config.parent.iterdir()) == [config]


def test_exports_stand_beside_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: "mmwatch-now")
    assert screen.export("<svg/>", "text") == "wrote mmwatch-now.svg and mmwatch-now.txt"
    assert screen.export("<svg/>", "other") == "wrote mmwatch-now-1.svg and mmwatch-now-1.txt"
    assert (tmp_path / "mmwatch-now.txt").read_text() == "text"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_an_export_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    before = os.getcwd()
    os.chdir(folder)
    folder.rmdir()
    try:
        assert screen.export("<svg/>", "text").startswith("cannot write mmwatch-")
    finally:
        os.chdir(before)
