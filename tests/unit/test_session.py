"""What a session is made of, without a kernel: the beat, and the recorder on an observer of the test's own."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make import make_interval, make_rows, make_session

from mmwatch.errors import MmwatchError, UsageError
from mmwatch.model.interval import Interval, Loss
from mmwatch.model.records import RECORD_DTYPE
from mmwatch.recording import Reader, Writer
from mmwatch.session import observer as observer_module
from mmwatch.session.beat import Beat
from mmwatch.session.observer import Observer, intervals
from mmwatch.session.recorder import Recorder
from mmwatch.session.target import resolve_target, thread_group, with_descendants

# ---- the beat ----


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def readings(beat: Beat, clock: Clock, late_s: float = 0.0) -> list[float]:
    """The times of all readings until the end, each late by so much, after the start."""
    times = []
    while True:
        clock.now_s += beat.left_s() + late_s
        assert beat.due()
        times.append(round(clock.now_s - 100.0, 3))
        if beat.over():
            return times
        beat.advance()


def test_the_beat_does_not_drift() -> None:
    clock = Clock()
    assert readings(Beat(1.0, 5.0, clock=clock), clock, late_s=0.1) == [1.1, 2.1, 3.1, 4.1, 5.1]


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (3.0, [1.0, 2.0, 3.0]),
        (3.1, [1.0, 2.0, 3.1]),  # the last interval takes in what is too short to be one
        (3.5, [1.0, 2.0, 3.0, 3.5]),
        (0.5, [0.5]),
        (0.1, [0.1]),
    ],
)
def test_the_last_reading_is_at_the_end(duration_s: float, expected: list[float]) -> None:
    clock = Clock()
    assert readings(Beat(1.0, duration_s, clock=clock), clock) == expected


def test_a_reading_that_comes_late_is_not_made_up_for() -> None:
    clock = Clock()
    beat = Beat(1.0, clock=clock)
    clock.now_s += 3.5
    beat.advance()
    assert beat.due()  # at once, but only one
    beat.advance()
    assert beat.left_s() == pytest.approx(1.0)


def test_the_first_interval_may_be_short() -> None:
    clock = Clock()
    assert readings(Beat(1.0, 2.2, 0.2, clock=clock), clock) == [0.2, 1.2, 2.2]
    assert Beat(0.1, first_s=0.2, clock=clock).left_s() == pytest.approx(0.1)


def test_another_interval_begins_with_a_whole_one() -> None:
    clock = Clock()
    beat = Beat(10.0, clock=clock)
    clock.now_s += 4.0
    beat.change(10.0)
    assert beat.left_s() == pytest.approx(6.0)
    beat.change(1.0)
    assert beat.left_s() == pytest.approx(1.0)


# ---- observer and recorder ----


class MadeTracer:
    """A record with each drain, up to the quota."""

    def __init__(self, detail: frozenset[str]) -> None:
        self.options = type("Options", (), {"detail": detail})
        self.quota: list[int] = []

    def set_quota(self, records: int) -> None:
        self.quota.append(records)

    def drain(self) -> Any:
        return np.ones(1, RECORD_DTYPE)


class MadeObserver:
    """One page more with each interval."""

    early_records = 0

    def __init__(self, *detail: str) -> None:
        self.session = make_session()
        self.tracer = MadeTracer(frozenset(detail))
        self.finals: list[bool] = []

    def sample(self, final: bool = False) -> Interval:
        self.finals.append(final)
        rows = make_rows({"reclaimed_file_pages": len(self.finals)})
        return make_interval(rows, vmstat={"pgsteal_file": len(self.finals), "pgsteal_anon": 0})


def as_observer(made: MadeObserver) -> Observer:
    return made  # type: ignore[return-value]


def test_intervals_end_with_the_count_or_the_time() -> None:
    assert len(list(intervals(as_observer(MadeObserver()), Beat(0.001), count=3))) == 3
    assert len(list(intervals(as_observer(MadeObserver()), Beat(0.001), count=3, quick=True))) == 4
    assert 1 <= len(list(intervals(as_observer(MadeObserver()), Beat(0.01, 0.02)))) <= 2


@pytest.mark.parametrize("detail", [(), ("reclaim",)])
def test_a_recorder_keeps_what_it_says(tmp_path: Path, detail: tuple[str, ...]) -> None:
    """Oracle: the file. Why it ended is what the caller says."""
    observer, kept = MadeObserver(*detail), []
    path = tmp_path / "a.mmw"
    with Writer(path, observer.session) as writer:
        recorder = Recorder(as_observer(observer), writer, interval_s=0.5, rate_limit_per_s=100)
        reason = recorder.run(
            Beat(0.001), lambda: "enough" if len(kept) == 3 else "", lambda seconds: None, lambda: kept.append(1)
        )
        recorder.keep(final=True)
    assert reason == "enough"
    assert observer.finals == [False, False, False, True]
    assert set(observer.tracer.quota) == {50}
    assert recorder.total is not None
    assert recorder.total.reclaimed_pages == recorder.total.vmstat_reclaimed_pages == 1 + 2 + 3 + 4
    with Reader(path) as reader:
        assert reader.interval_count == 4
        assert sum(reader.record_counts().values()) == recorder.records
        assert bool(recorder.records) == bool(detail)


class Streamed(MadeObserver):
    """Reclaims that end while rows are read: ``arrived`` says how many records each drain gives, ``counted`` how many
    each reading counts."""

    def __init__(self, early: int, arrived: list[int], counted: list[int]) -> None:
        super().__init__("reclaim", "batch")
        self.early_records, self.arrived, self.counted = early, arrived, counted
        self.time_ns = 0
        self.tracer.drain = self.drain  # type: ignore[method-assign]

    def drain(self) -> Any:
        records = np.zeros(2 * (self.arrived.pop(0) if self.arrived else 0), RECORD_DTYPE)
        records["kind"] = np.arange(len(records)) % 2 == 0  # a batch, and the reclaim it belongs to
        records["time_ns"] = np.arange(len(records)) + self.time_ns
        self.time_ns += len(records)
        return records

    def sample(self, final: bool = False) -> Interval:
        return make_interval(make_rows({"reclaims": self.counted.pop(0)}))


@pytest.mark.parametrize(
    ("early", "arrived", "counted", "first"),
    [
        (0, [3, 2], [3, 2], 0),
        (4, [3, 4], [1, 2], 8),  # what came before the start comes in two drains
        (0, [3, 5], [2, 3], 0),  # three of the last five ended after their rows were read
        (2, [2, 0, 0, 4], [0, 2], 4),  # two are late, and two came after the end
        (0, [2, 1], [2, 2], 0),  # one never comes
    ],
)
def test_single_records_are_those_that_the_rows_count(
    tmp_path: Path, early: int, arrived: list[int], counted: list[int], first: int
) -> None:
    total = min(sum(counted), sum(arrived) - early)
    path = tmp_path / "a.mmw"
    observer = Streamed(early, arrived, counted)
    with Writer(path, observer.session) as writer:
        recorder = Recorder(as_observer(observer), writer, interval_s=0.5, rate_limit_per_s=100)
        recorder.keep()
        recorder.keep(final=True)
    with Reader(path) as reader:
        assert reader.record_counts()["reclaim"] == total
        (records,) = reader.records()
        assert records["time_ns"].tolist() == list(range(first, first + 2 * total))


def test_reclaims_dropped_after_the_last_rows_are_not_counted_as_lost(tmp_path: Path) -> None:
    """The losses are read right after the rows: what was dropped in between is in neither the rows nor the records."""

    class Late(MadeObserver):
        def sample(self, final: bool = False) -> Interval:
            loss = Loss(lost={"reclaim": 1}, suppressed={"reclaim": 2}, missed_runs=0)
            return make_interval(make_rows({"reclaims": 2}), loss=loss)

    observer = Late("reclaim")
    observer.tracer.drain = lambda: np.zeros(1, RECORD_DTYPE)  # type: ignore[method-assign]
    with Writer(tmp_path / "a.mmw", observer.session) as writer:
        Recorder(as_observer(observer), writer, interval_s=0.5, rate_limit_per_s=100).keep(final=True)
    with Reader(tmp_path / "a.mmw") as reader:
        (interval,) = reader.intervals()
        kept = reader.record_counts()["reclaim"]
    assert kept + interval.loss.lost["reclaim"] + interval.loss.suppressed["reclaim"] == 2


class Moving:
    """Counters and rows that move with each look; ``steps`` has the pages that each look takes in."""

    def __init__(self, steps: list[int]) -> None:
        self.steps, self.pages, self.looks, self.taken = list(steps), 0, 0, -1
        self.unfolded_pages = 100

    def read(self) -> dict[str, int]:
        return {"pgsteal_file": self.pages, "pgscan_file": 2 * self.pages}

    def begin(self) -> None:
        pass

    def look(self) -> int:
        self.pages += self.steps.pop(0)
        self.looks += 1
        return self.looks

    def take(self, look: int) -> Any:
        self.taken = look
        return type("Reading", (), {"pending_pages": 7})


@pytest.mark.parametrize(
    ("steps", "taken", "before", "edge"),
    [
        ([0], 1, 0, (0, 7)),  # it stands still
        ([90, 40, 0], 3, 130, (0, 7)),
        ([90, 40, 60, 70, 50, 45, 80, 99], 2, 90, (140, 187)),  # it never does: the pair with the fewest pages
    ],
)
def test_the_tightest_of_several_readings_is_taken(
    monkeypatch: pytest.MonkeyPatch, steps: list[int], taken: int, before: int, edge: tuple[int, int]
) -> None:
    monkeypatch.setattr(observer_module, "TRIES_S", 1e9)
    moving = Moving(steps)
    observer = Observer.__new__(Observer)
    observer.tracer = observer._vmstat = moving  # type: ignore[assignment]
    vmstat, _, found = observer._read_counters(folded=True)
    assert (moving.taken, vmstat["pgsteal_file"], tuple(found)) == (taken, before, edge)
    assert len(moving.steps) == 0


def test_what_the_kernel_has_not_folded_widens_the_bound() -> None:
    moving = Moving([0])
    observer = Observer.__new__(Observer)
    observer.tracer = observer._vmstat = moving  # type: ignore[assignment]
    assert tuple(observer._read_counters(folded=False)[2]) == (100, 107)


def test_a_recorder_ends_when_the_time_is_over(tmp_path: Path) -> None:
    observer = MadeObserver()
    with Writer(tmp_path / "a.mmw", observer.session) as writer:
        recorder = Recorder(as_observer(observer), writer, 0.01, 1.0)
        assert recorder.run(Beat(0.01, 0.03), str, lambda seconds: None, lambda: None) == "the duration is over"


# ---- the target ----


def test_a_thread_stands_for_its_process() -> None:
    ready, done = threading.Event(), threading.Event()
    found: list[int] = []

    def wait() -> None:
        found.append(threading.get_native_id())
        ready.set()
        done.wait(30)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        assert ready.wait(30)
        target = resolve_target([found[0]])
    finally:
        done.set()
        thread.join()
    assert target.wanted.tgids == (os.getpid(),)
    assert target.described == {"pid": [os.getpid()]}
    assert target.notes == (f"{found[0]} is a thread of process {os.getpid()}; observing the whole process",)


def test_what_cannot_be_observed() -> None:
    with pytest.raises(MmwatchError, match="no process has PID 4194305"):
        thread_group(4194305)
    with pytest.raises(UsageError, match="no task can be named"):
        resolve_target(comm="a name of more than 15 bytes")
    assert with_descendants([os.getppid()])[0] == os.getppid()
    assert os.getpid() in with_descendants([os.getppid()])
