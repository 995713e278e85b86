"""A recording returns what was written, to every kind of reader, and only its owner can read it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import MISSING, astuple, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make import make_interval, make_rows, make_session, random_rows

import mmwatch
from mmwatch import abi
from mmwatch.abi import RECORD_KINDS
from mmwatch.errors import MmwatchError, UsageError
from mmwatch.model.course import course
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import (
    CgroupMemory,
    Cost,
    Inside,
    Interval,
    Loss,
    Node,
    NodePlace,
    Probe,
    Process,
    Session,
    Shrinker,
)
from mmwatch.model.json import to_json
from mmwatch.model.measures import MEASURES, PATHS
from mmwatch.model.merge import lighten, merge
from mmwatch.model.records import RECORD_DTYPE
from mmwatch.model.rows import ROW_DTYPE, cgroups_of
from mmwatch.model.snapshot import take
from mmwatch.recording import Moment, Reader, Writer, fold, series
from mmwatch.recording import reader as reader_module
from mmwatch.recording.pack import dense, sparse
from mmwatch.recording.schema import APPLICATION_ID
from mmwatch.units import decode

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = b"\x1b[2J\r\n\"'\xff<b>"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.mmw"


def full_session(**other: Any) -> Session:
    """Something in every field."""
    return make_session(
        version="0.1",
        page_size=16384,
        interval_s=0.5,
        filter={"pid": [1, 2], "children": True},
        unknown=frozenset({"written_pages", "throttled"}),
        incomparable="a filter is on",
        gfp_flags={"GFP_KERNEL": 0xCC0, "__GFP_IO": 0x40},
        settings={"zone_reclaim_mode": 1, "thp_enabled": "madvise", "swappiness": None},
        probes=(Probe("direct", "tracepoint:vmscan", "attached"), Probe("pass", "", "missing", "no fentry")),
        topology={0: NodePlace("0-1", {0: 10, 1: 40}), 1: NodePlace("", {0: 40, 1: 10})},
        since_boot={"pgsteal_file": (1 << 64) - 1},
        uptime_s=12.5,
        **other,
    )


def full_interval(number: int, session: Session | None = None, count: int = 20) -> Interval:
    """Something in every field."""
    rows = random_rows(count, seed=number)
    rows["stall_ns"][0] = -5
    rows["asked_pages"] *= rows["path"] != PATHS.index("kswapd")
    for name in session.unknown if session else ():
        rows[name] = 0
    tgids = np.unique(rows["tgid"]).tolist()
    return make_interval(
        rows,
        end_s=1_700_000_000.0 + number,
        duration_ns=999_999_999,
        vmstat={"pgsteal_file": 100 + number, "pgscan_file": 0, "pgsteal_anon": -1},
        edge_begin_pages=32,
        edge_end_pages=7,
        edge_begin_scanned_pages=64,
        edge_end_scanned_pages=9,
        nodes=(Node(*range(len(fields(Node)))), Node(1, free_pages=8)),
        pressure={"some_avg10": 0.25, "some_us": 17},
        settings={"zone_reclaim_mode": number % 2},
        memory={"swap_free": number},
        kernel_log=("sh (7): drop_caches: 3",),
        kswapd={0: "running", 1: "gave up"},
        inside=(Inside(7, 8, "task7", "direct", 1, 10**9), Inside(0, 0, "", "memcg", None, 0)),
        shrinkers=(Shrinker("scan [a]", number, 2, 3), Shrinker("", 4, 5, 6)),
        cgroups={id: f"/a/{id}" for id in cgroups_of(rows) if id},
        processes={
            tgid: Process(tgid, f"task{tgid}", "a --b", 1, 10 * number, None, 3, 4, 5, None, 6, "0-1", "bind:0")
            for tgid in tgids
        },
        cgroup_memory=dict(
            zip(
                [id for id in np.unique(rows["cgroup_id"]).tolist() if id],
                (
                    CgroupMemory(1 << 30, None, number, 8, {"max": number}, {"anon": 9}),
                    CgroupMemory(None, 0, 1 << 60, None),
                ),
            )
        ),
        loss=Loss({"reclaim": 3}, {"batch": number}, None if number % 2 else 4, 5, 6, 7, 8),
        cost=Cost(1000, 2000, 30, 40),
    )


def record(path: Path, session: Session, intervals: list[Interval]) -> None:
    with Writer(path, session) as writer:
        for interval in intervals:
            writer.write(interval)


def assert_equal(read: Interval, written: Interval) -> None:
    for field in fields(Interval):
        theirs, ours = getattr(read, field.name), getattr(written, field.name)
        if field.name == "rows":
            np.testing.assert_array_equal(theirs, ours)
        else:
            assert theirs == ours, field.name


def make_records(count: int, kind: int = 0) -> np.ndarray[Any, Any]:
    """As the kernel side gives them: other order and names than ours, and padding."""
    dtype = np.dtype([*reversed(RECORD_DTYPE.descr), ("later", "u8")], align=True)
    records = np.zeros(count, dtype)
    random = np.random.default_rng(count)
    for name in RECORD_DTYPE.names or ():
        if name != "comm":
            records[name] = random.integers(0, 100, count)
    records["kind"] = kind
    records["path"] %= len(PATHS)
    records["comm"] = b"worker/0"
    return records


def test_session_comes_back(path: Path) -> None:
    session = full_session()
    record(path, session, [])
    with Reader(path) as reader:
        assert reader.session == session
    for field in fields(Session):  # this test is for every field there is
        assert getattr(session, field.name) != (field.default if field.default is not MISSING else None), field.name


def test_intervals_come_back(path: Path) -> None:
    session = full_session()
    written = [full_interval(number, session) for number in range(1, 8)] + [make_interval(end_s=1_700_000_008.0)]
    record(path, session, written)
    with Reader(path) as reader:
        read = list(reader.intervals())
        assert reader.ended_cleanly
        assert reader.cut_off == ""
    assert len(read) == len(written)
    for theirs, ours in zip(read, written):
        assert_equal(theirs, ours)
    for value in (written[0], written[0].loss, written[0].cost):
        assert [field.name for field in fields(value) if not np.size(getattr(value, field.name))] == []


@pytest.mark.parametrize(("batch_rows", "batch_intervals"), [(1, 512), (50, 512), (8192, 3)])
def test_batches_do_not_show(
    path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int, batch_intervals: int
) -> None:
    monkeypatch.setattr(reader_module, "BATCH_ROWS", batch_rows)
    monkeypatch.setattr(reader_module, "BATCH_INTERVALS", batch_intervals)
    written = [full_interval(number, count=3 * number) for number in range(1, 10)]
    record(path, make_session(), written)
    with Reader(path) as reader:
        for theirs, ours in zip(reader.intervals(), written):
            assert_equal(theirs, ours)


def test_a_stretch_of_time(path: Path) -> None:
    record(path, make_session(), [full_interval(number) for number in range(1, 10)])
    with Reader(path) as reader:
        start = reader.session.start_s

        def ends(begin_s: float | None, end_s: float | None) -> list[float]:
            times = (None if s is None else Moment(start + s) for s in (begin_s, end_s))
            span = reader.timeline().span(*times)
            return [interval.end_s - start for interval in reader.intervals(span)] if span else []

        assert ends(None, 2.5) == [1, 2, 3]
        assert ends(7.5, None) == [8, 9]
        assert ends(3.5, 4.5) == [4, 5]
        assert ends(100, None) == []
        assert fold(reader, "task", (4, 5)).duration_ns == 2 * 999_999_999


@pytest.mark.parametrize("step_s", [-7200.0, 7200.0])
def test_a_clock_that_was_set(path: Path, step_s: float) -> None:
    """Elapsed time goes on as if nothing had happened; a Unix time means whatever the clock showed."""
    made = [full_interval(number) for number in range(1, 10)]
    record(
        path,
        make_session(),
        [replace(one, end_s=one.end_s + (step_s if at >= 4 else 0)) for at, one in enumerate(made)],
    )
    with Reader(path) as reader:
        timeline, start = reader.timeline(), reader.session.start_s
    assert timeline.span(Moment(3.5, elapsed=True)) == (4, 9)
    assert timeline.span(None, Moment(6.5, elapsed=True)) == (1, 7)
    assert timeline.span(Moment(5.5, elapsed=True), Moment(6.5, elapsed=True)) == (6, 7)
    assert timeline.index(Moment(start + 2.5)) == 2
    assert timeline.index(Moment(start + step_s + 6.5)) == 6
    assert timeline.index(Moment(start + step_s / 2)) is None


def test_large_numbers_and_unknown_values(path: Path) -> None:
    rows = make_rows({"cgroup_id": 2**64 - 1, "node": -1, "stall_max_ns": 2**53, "stall_ns": -(2**53)}, {})
    rows["stall_histogram"][1, [0, 127]] = 2**40, 1
    record(path, make_session(), [make_interval(rows, cgroups={2**64 - 1: "/x"})])
    with Reader(path) as reader:
        (interval,) = reader.intervals()
    np.testing.assert_array_equal(interval.rows, rows)
    assert interval.cgroups == {2**64 - 1: "/x"}
    assert sqlite3.connect(path).execute("SELECT node, asked_pages FROM rows").fetchall()[0] == (None, None)


def test_a_measure_without_a_probe_is_null(path: Path) -> None:
    session = make_session(unknown=frozenset({"throttled", "written_pages"}))
    record(path, session, [make_interval(random_rows(3, 1))])
    query = "SELECT throttled, written_pages, reclaims IS NULL FROM rows"
    assert sqlite3.connect(path).execute(query).fetchone() == (None, None, 0)
    with Reader(path) as reader:
        assert reader.session.unknown == session.unknown
        assert not next(reader.intervals()).rows["throttled"].any()


def test_sparse_histograms() -> None:
    counts = np.array([[0, 0, 0], [5, 0, 2**60], [0, 1, 0]], np.uint64)
    texts = sparse(counts)
    assert [json.loads(text) for text in texts] == [{}, {"0": 5, "2": 2**60}, {"1": 1}]
    np.testing.assert_array_equal(dense(texts, 3), counts)
    for wrong in ('{"3":1}', '{"-1":1}', '{"1":}', "[]", "", '{"1":2,"2"}', '{"a":1}'):
        with pytest.raises(ValueError):  # noqa: PT011
            dense([wrong], 3)


# ---- single records ----


def test_records_come_back_whatever_their_layout(path: Path) -> None:
    parts = [make_records(5), make_records(7, kind=1), make_records(3, kind=2)]
    with Writer(path, make_session()) as writer:
        writer.write_records(parts[0])
        writer.write(make_interval(), parts[1])
        writer.write_records(parts[2])
    assert writer.close().records == {"reclaim": 5, "batch": 7, "pass": 3}
    with Reader(path) as reader:
        assert reader.record_counts() == {"reclaim": 5, "batch": 7, "pass": 3}
        for chunk in (1, 4, 1000):
            read = np.concatenate(list(reader.records(chunk=chunk)))
            assert read.dtype == RECORD_DTYPE
            for name in RECORD_DTYPE.names or ():
                np.testing.assert_array_equal(read[name], np.concatenate([part[name] for part in parts]), name)
        for kind, part in zip(RECORD_KINDS, parts):
            assert sum(map(len, reader.records(kind, chunk=2))) == len(part)


def test_records_are_copied_while_they_wait(path: Path) -> None:
    ring = make_records(5)
    kept = ring.copy()
    with Writer(path, make_session()) as writer:
        writer.write_records(ring)
        ring["scanned_pages"] = 0
    with Reader(path) as reader:
        np.testing.assert_array_equal(next(reader.records())["scanned_pages"], kept["scanned_pages"])


def test_many_records_do_not_wait_for_an_interval(path: Path) -> None:
    with Writer(path, make_session()) as writer:
        writer.write_records(make_records(100_000))
        with Reader(path) as reader:
            assert reader.record_counts()["reclaim"] == 100_000


def test_records_have_a_place_in_time(path: Path) -> None:
    record(path, make_session(start_s=time.time() - 10), [])
    with Reader(path) as reader:
        assert abs(time.monotonic_ns() - 10e9 - (reader.start_monotonic_ns or 0)) < 5e9


def test_records_have_the_members_of_the_struct() -> None:
    assert sorted(RECORD_DTYPE.names or ()) == sorted(member.name for member in abi.RECORD)


# ---- names ----


def test_hostile_names_are_made_harmless(path: Path) -> None:
    rows = make_rows({"comm": HOSTILE})
    records = make_records(1)
    records["comm"] = HOSTILE
    process = Process(100, decode(HOSTILE), decode(HOSTILE), 1)
    raw = Process(101, HOSTILE.decode(errors="surrogateescape"), "\x1b]0;x\x07", 1)
    interval = make_interval(rows, cgroups={0: "", 7: "/a\n\x1b"}, processes={100: process, 101: raw})
    with Writer(path, make_session(hostname="a\x1bb")) as writer:
        writer.write(interval, records)
    for (text,) in dump(path):
        assert text.isprintable(), text
    assert HOSTILE not in path.read_bytes()
    assert sqlite3.connect(path).execute("SELECT comm FROM rows").fetchone() == (decode(HOSTILE),)
    with Reader(path) as reader:
        (read,) = reader.intervals()
        assert read.processes[100] == process
        assert decode(HOSTILE).encode().startswith(bytes(read.rows["comm"][0]))
        assert all(chunk["comm"][0].isascii() for chunk in reader.records())


def dump(path: Path) -> Iterator[tuple[str]]:
    """Every text in the file but the schema's."""
    database = sqlite3.connect(path)
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for _, column, kind, *_ in database.execute(f'PRAGMA table_info("{table}")').fetchall():
            if kind.startswith("TEXT"):
                yield from database.execute(f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL')


def test_names_in_a_file_of_anybody_are_cleaned_too(path: Path) -> None:
    record(path, full_session(), [full_interval(1)])
    with sqlite3.connect(path) as database:
        for change in (
            "rows SET comm",
            "processes SET comm",
            "processes SET cmdline",
            "cgroups SET path",
            "session SET kernel",
            "session SET hostname",
            "probes SET probe",
        ):
            database.execute(f"UPDATE {change} = ?", ("\x1b[2Jx",))
        database.execute("""UPDATE intervals SET kswapd = '{"0": "\\u001b"}'""")
    with Reader(path) as reader:
        assert "\x1b" not in repr(reader.session)
        for interval in (next(reader.intervals()), fold(reader, "task")):
            assert b"\x1b" not in interval.rows["comm"].tobytes()
            for part in (interval.cgroups, interval.processes, interval.kswapd):
                assert "\\x1b" in repr(part)
                assert "\\\\x1b" in repr(part)
                assert "\x1b" not in "".join(map(str, part.values()))


def test_a_name_is_kept_once_and_a_new_one_too(path: Path) -> None:
    def at(comm: str, **more: Any) -> Interval:
        return make_interval(processes={5: Process(5, comm, **more)})

    shell = [at("sh", system_time_us=1), at("sh", system_time_us=2), at("cat", cmdline="cat x"), make_interval()]
    record(path, make_session(), [*shell, at("cat", system_time_us=4)])
    names = sqlite3.connect(path).execute("SELECT comm, cmdline FROM processes").fetchall()
    assert names == [("sh", ""), ("cat", "cat x"), ("cat", "")]
    with Reader(path) as reader:
        assert [interval.processes.get(5) for interval in reader.intervals()][:3] == [i.processes[5] for i in shell[:3]]
        assert reader.process_totals({5, 6}) == {5: Process(5, "cat", "cat x", None, 7, None)}


def test_what_is_remembered_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmwatch.recording.writer._REMEMBERED", 10)
    written = [
        make_interval(
            make_rows({"cgroup_id": 1 + number}),
            processes={tgid: Process(tgid, "x") for tgid in range(number * 5, number * 5 + 5)},
            cgroups={1 + number: f"/{number}"},
        )
        for number in [*range(30), 0, 1]
    ]
    with Writer(path, make_session()) as writer:
        for interval in written:
            writer.write(interval)
        assert len(writer._known_processes) <= 10
        assert len(writer._known_cgroups) <= 11
    with Reader(path) as reader:
        for theirs, ours in zip(reader.intervals(), written):
            assert_equal(theirs, ours)


# ---- folding ----


@pytest.mark.parametrize("by", GROUPINGS)
def test_fold_is_what_merging_one_by_one_gives(path: Path, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmwatch.recording.folding.WAITING_ROWS", 50)
    written = [full_interval(number) for number in range(1, 12)]
    record(path, make_session(), written)
    whole = written[0]
    for interval in written[1:]:
        whole = merge(whole, interval)
    with Reader(path) as reader:
        folded = fold(reader, by)
    shown = [to_json(take(make_session(), interval, by)) for interval in (folded, whole)]
    keys = [*GROUPINGS[by], "tgid", "path", "node", "cgroup", "reclaims"]
    for view in shown:
        view["rows"].sort(key=lambda row: [str(row.get(key)) for key in keys])
        for row in view["rows"]:
            row.pop("gfp_flags")  # of the latest: start_ns is the same for all intervals of a thread, so any
        for memory in view["cgroups"]:
            memory.pop("grown")  # not summed up over a recording
    assert shown[0] == shown[1]


def test_a_series_of_many_intervals_is_shorter_and_sums_the_same(path: Path) -> None:
    written = [full_interval(number, count=3) for number in range(1, 12)]
    record(path, make_session(), written)
    with Reader(path) as reader:
        whole, few = series(reader), series(reader, most=4)
    assert [interval.end_s for interval in whole] == [interval.end_s for interval in written]
    assert [interval.duration_ns for interval in few] == [3 * 999_999_999] * 3 + [2 * 999_999_999]
    for name in ("reclaims", "stall_ns", "scanned_file_pages"):
        sums = [sum(int(interval.rows[name].sum()) for interval in series) for series in (written, whole, few)]
        assert sums[0] == sums[1] == sums[2]
    assert sum(interval.vmstat["pgsteal_file"] for interval in few) == sum(i.vmstat["pgsteal_file"] for i in written)


def test_an_interval_of_many_threads_is_lightened() -> None:
    rows = random_rows(500, seed=3, tasks=20)
    interval = make_interval(rows)
    light = lighten(interval, 100)
    assert 100 <= len(light.rows) <= 300  # processes, and one row for each path and node of the rest
    assert int(light.rows["stall_ns"].sum()) == int(rows["stall_ns"].sum())
    assert lighten(interval, 500) is interval


def test_fold_of_nothing(path: Path) -> None:
    record(path, make_session(), [])
    with Reader(path) as reader:
        assert to_json(take(reader.session, fold(reader, "task")))["rows"] == []
        with pytest.raises(KeyError):
            fold(reader, "colour")


def test_fold_of_too_many_keeps_totals(path: Path) -> None:
    intervals = []
    for number in range(40):
        rows = random_rows(100, seed=number)
        rows["tgid"] = rows["tid"] = np.arange(100) + 1000 * number
        intervals.append(make_interval(rows))
    record(path, make_session(), intervals)
    everything = np.concatenate([interval.rows for interval in intervals])
    with Reader(path) as reader:
        folded = fold(reader, "thread", groups_max=300).rows
    assert len(folded) <= 600
    for measure in MEASURES:
        if measure.fold.value in ("sum", "histogram"):
            np.testing.assert_array_equal(folded[measure.name].sum(axis=0), everything[measure.name].sum(axis=0))
    assert folded["stall_max_ns"].max() == everything["stall_max_ns"].max()
    most = everything[everything["stall_ns"].argmax()]
    assert most["tgid"] in folded["tgid"]
    assert set(folded["comm"][folded["tgid"] == 0]) == {b""}


# ---- the file ----


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_a_recording_is_for_its_owner_alone(path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        writer = Writer(path, make_session())
        writer.write(full_interval(1))
        found = {name.name: stat.S_IMODE(name.stat().st_mode) for name in path.parent.iterdir()}
        writer.close()
    finally:
        os.umask(before)
    assert set(found) == {"a.mmw", "a.mmw-wal", "a.mmw-shm"}
    assert set(found.values()) == {0o600}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_never_anybody_elses_for_an_instant(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    connect = sqlite3.connect

    def look(*arguments: Any, **more: Any) -> sqlite3.Connection:
        seen.append(stat.S_IMODE(path.stat().st_mode))
        return connect(*arguments, **more)

    monkeypatch.setattr(sqlite3, "connect", look)
    before = os.umask(0)
    try:
        Writer(path, make_session()).close()
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_the_orderly_end_leaves_one_plain_file(path: Path) -> None:
    writer = Writer(path, make_session())
    writer.write(full_interval(1))
    assert writer.size_bytes > path.stat().st_size
    summary = writer.close()
    assert [name.name for name in path.parent.iterdir()] == ["a.mmw"]
    assert (summary.intervals, summary.rows, summary.bytes) == (1, 20, path.stat().st_size)
    assert writer.close() is summary
    header = path.read_bytes()[:100]
    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID
    assert header[18:20] == b"\1\1"  # no write-ahead log: any client opens it, wherever it lies
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_is_overwritten_only_when_told_to(path: Path) -> None:
    record(path, make_session(), [full_interval(1)])
    before = path.read_bytes()
    with pytest.raises(MmwatchError, match="exists"):
        Writer(path, make_session())
    assert path.read_bytes() == before
    Writer(path, make_session(hostname="other"), force=True).close()
    with Reader(path) as reader:
        assert reader.session.hostname == "other"
        assert list(reader.intervals()) == []
    Writer(path.with_name("new.mmw"), make_session(), force=True).close()


def test_force_leaves_alone_what_is_no_plain_file(path: Path) -> None:
    path.symlink_to("/dev/null")
    for other in (path, path.parent):
        with pytest.raises(UsageError):
            Writer(other, make_session(), force=True)
    assert path.is_symlink()


WRITE = """
import os, signal, sys
sys.path[:0] = [{root!r}, {unit!r}]
from pathlib import Path
from make import make_session
from test_recording import full_interval, make_records
from mmwatch.recording import Writer

writer = Writer(Path({path!r}), make_session())
for number in range(1, {intervals} + 1):
    writer.write(full_interval(number), make_records(10))
writer.write_records(make_records(10))
{end}
"""


def run_writer(path: Path, intervals: int, end: str) -> subprocess.Popen[str]:
    program = WRITE.format(
        root=str(ROOT), unit=str(Path(__file__).parent), path=str(path), intervals=intervals, end=end
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def test_sigkill_loses_at_most_the_interval_under_way(path: Path) -> None:
    with run_writer(path, 20, "os.kill(os.getpid(), signal.SIGKILL)") as child:
        assert child.wait() == -signal.SIGKILL
    with Reader(path) as reader:
        assert not reader.ended_cleanly
        assert "20 complete intervals" in reader.cut_off
        read = list(reader.intervals())
        assert reader.record_counts()["reclaim"] == 200
    assert len(read) == 20
    for number, interval in enumerate(read, 1):
        assert_equal(interval, full_interval(number))


def test_sigkill_in_the_middle_of_a_transaction(path: Path) -> None:
    end = "writer._db.execute('BEGIN'); writer._db.execute('DELETE FROM rows'); os.kill(os.getpid(), signal.SIGKILL)"
    with run_writer(path, 3, end) as child:
        child.wait()
    with Reader(path) as reader:
        assert sum(len(interval.rows) for interval in reader.intervals()) == 60


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


SPILL = """
for change in ("PRAGMA journal_mode = DELETE", "PRAGMA cache_size = 1", "BEGIN", "DELETE FROM rows",
               "DELETE FROM nodes", "CREATE TABLE t AS SELECT zeroblob(100000)"):
    writer._db.execute(change)
"""


@pytest.mark.parametrize("end", ["", SPILL], ids=["wal", "journal"])
def test_what_was_cut_off_is_read_where_nothing_may_be_written(
    open_folder: Path, tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On read-only media or as another user: copied to where SQLite can complete it, and the files stay as they are.

    The journal is that of file systems that cannot do WAL, with a transaction part of which was in the file already.
    """
    folder = open_folder / "a"
    folder.mkdir(mode=0o755)
    path = folder / "a.mmw"
    with run_writer(path, 5, end + "os.kill(os.getpid(), signal.SIGKILL)") as child:
        child.wait()
    path.with_name("a.mmw-shm").unlink(missing_ok=True)
    before = {name.name: name.read_bytes() for name in folder.iterdir()}
    assert set(before) == {"a.mmw", "a.mmw-journal" if end else "a.mmw-wal"}
    copies = open_folder / "copies"
    copies.mkdir()
    copies.chmod(0o777)
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    for name in folder.iterdir():
        name.chmod(0o444)
    folder.chmod(0o555)
    try:
        assert rows_read_by_nobody(path) == 100
    finally:
        folder.chmod(0o755)
    assert {name.name: name.read_bytes() for name in folder.iterdir()} == before
    assert list(copies.iterdir()) == []


def rows_read_by_nobody(path: Path) -> int:
    """The number of rows (at most 254) that a child process without root's privileges reads."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            with Reader(path) as reader:
                status = sum(len(interval.rows) for interval in reader.intervals())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_reading_an_ended_recording_leaves_no_trace(path: Path) -> None:
    record(path, make_session(), [full_interval(1)])
    path.chmod(0o400)
    with Reader(path) as reader:
        assert list(reader.intervals())
        assert [name.name for name in path.parent.iterdir()] == ["a.mmw"]


def test_reading_while_it_is_written(path: Path) -> None:
    end = "print('written', flush=True); sys.stdin.readline(); writer.write(full_interval(4)); writer.close()"
    with run_writer(path, 3, end) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == "written\n"
        with pytest.raises(MmwatchError, match="by another process"):
            Writer(path, make_session(), force=True)
        with Reader(path) as reader:
            found = reader.intervals()
            assert_equal(next(found), full_interval(1))
            assert not reader.ended_cleanly
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.wait() == 0
            assert len(list(found)) == 2, "what comes in later is not waited for"
            assert len(list(reader.intervals())) == 4
            assert reader.ended_cleanly
    with Reader(path) as reader:
        assert len(list(reader.intervals())) == 4


def test_an_old_log_beside_a_new_recording(path: Path) -> None:
    with run_writer(path, 5, "os.kill(os.getpid(), signal.SIGKILL)") as child:
        child.wait()
    path.unlink()
    record(path, make_session(), [full_interval(1)])
    with Reader(path) as reader:
        assert len(list(reader.intervals())) == 1


def test_without_wal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without shared memory mappings: SQLite then says which mode it stays in."""

    class NoWal(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            return super().execute("PRAGMA journal_mode" if "= WAL" in sql else sql, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, factory=NoWal, **more))
    with Writer(path, make_session()) as writer:
        writer.write(full_interval(1))
        assert not path.with_name("a.mmw-wal").exists()
        with Reader(path) as reader:
            assert len(list(reader.intervals())) == 1
        writer.write(full_interval(2))
    assert [name.name for name in path.parent.iterdir()] == ["a.mmw"]
    with Reader(path) as reader:
        assert len(list(reader.intervals())) == 2


# ---- schemas of other releases ----


def test_a_file_that_lacks_a_measure_reads_as_unknown(path: Path) -> None:
    record(path, full_session(), [full_interval(1, full_session())])
    remake(path, lambda sql: re.sub(r'  "(shrinker_ns|stall_histogram)".*\n', "", sql))
    remake(path, lambda sql: re.sub(r'  "cost_rss_bytes".*\n', "", sql))
    with Reader(path) as reader:
        assert reader.session.unknown == full_session().unknown | {"shrinker_ns", "stall_histogram"}
        (interval,) = reader.intervals()
        assert not interval.rows["shrinker_ns"].any()
        assert interval.rows["shrinker_calls"].any()
        assert interval.cost == replace(full_interval(1).cost, rss_bytes=0)
        assert next(iter(to_json(take(reader.session, interval))["rows"]))["shrinker_ns"] is None


def remake(path: Path, change: Any) -> None:
    """Tables as another release made them, with their rows."""
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA legacy_alter_table = ON")  # views stay as they are
        for name, sql in database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall():
            if change(sql) == sql:
                continue
            database.execute(f'ALTER TABLE "{name}" RENAME TO old')
            database.execute(change(sql))
            names = ", ".join(f'"{row[1]}"' for row in database.execute(f'PRAGMA table_info("{name}")'))
            database.execute(f'INSERT INTO "{name}" ({names}) SELECT {names} FROM old')
            database.execute("DROP TABLE old")


def test_what_a_later_release_adds_is_passed_over(path: Path) -> None:
    record(path, make_session(), [full_interval(1)])
    with sqlite3.connect(path) as database:
        for table in ("session", "intervals", "rows", "nodes", "processes", "process_times", "records"):
            database.execute(f"ALTER TABLE {table} ADD COLUMN later INTEGER DEFAULT 7")
        database.execute("UPDATE paths SET name = 'teleport' WHERE name = 'memcg'")
    with Reader(path) as reader:
        (interval,) = reader.intervals()
        written = full_interval(1)
        written.rows["path"][written.rows["path"] == PATHS.index("memcg")] = PATHS.index("other")
        assert_equal(interval, written)


def test_the_course_in_few_stretches(path: Path) -> None:
    """Of unequal intervals, one without rows; what is in no interval is in no stretch."""
    rows = [make_rows({"reclaimed_file_pages": 10 * n, "reclaimed_anon_pages": 1, "stall_ns": n}) for n in range(4)]
    with Writer(path, make_session()) as writer:
        for number, some in enumerate([*rows, make_rows()]):
            writer.write(make_interval(some, end_s=1_700_000_001.0 + number, duration_ns=10**9))
    with Reader(path) as reader:
        one, two, three = course(reader.stretches(), 3)
        assert [len(course(reader.stretches(), parts)) for parts in (1, 2, 4, 5, 60)] == [1, 2, 3, 5, 5]
    assert (one.begin_s, one.duration_s, one.reclaimed_pages, one.stall_ns) == (1_700_000_000.0, 2.0, 12, 1)
    assert (two.begin_s, two.reclaimed_pages, two.stall_ns) == (1_700_000_002.0, 52, 5)
    assert (three.begin_s, three.duration_s, three.reclaimed_pages, three.stall_ns) == (1_700_000_004.0, 1.0, 0, 0)


def test_the_course_of_what_no_probe_tells(path: Path) -> None:
    with Writer(path, make_session(unknown=frozenset({"reclaimed_file_pages", "reclaimed_anon_pages"}))) as writer:
        writer.write(make_interval(make_rows({"stall_ns": 5})))
    with Reader(path) as reader:
        assert [(some.reclaimed_pages, some.stall_ns) for some in course(reader.stretches())] == [(None, 5)]


def test_rows_are_of_the_model() -> None:
    """The layout of rows is not written down a second time."""
    from mmwatch.recording.schema import BY_NAME

    names = [column.name for column in BY_NAME["rows"].columns]
    assert set(names) - {"interval", "row"} == set(ROW_DTYPE.names or ())
    assert mmwatch.__version__


def test_intervals_by_number(path: Path) -> None:
    session = full_session()
    written = [full_interval(number, session) for number in range(1, 8)]
    record(path, session, written)
    with Reader(path) as reader:
        timeline = reader.timeline()
        assert timeline.numbers.tolist() == list(range(1, 8))
        assert timeline.ends_s.tolist() == [one.end_s for one in written]
        assert set(timeline.durations_ns.tolist()) == {999_999_999}
        assert reader.timeline((3, 4)).numbers.tolist() == [3, 4]
        assert len(reader.timeline((8, 9)).elapsed_s) == 0
        for one, ours in zip(reader.intervals((3, 4)), written[2:]):
            assert_equal(one, ours)
        assert list(reader.intervals((5, 4))) == []
        (bare,) = reader.intervals((7, 7), names=False, only=("path", "reclaims", "stall_histogram"))
        for name in ROW_DTYPE.names or ():
            filled = written[6].rows[name] if name in ("path", "reclaims", "stall_histogram") else 0 * bare.rows["tid"]
            if name != "comm":
                assert bare.rows[name].sum() == filled.sum(), name
        (empty,) = reader.intervals((7, 7), only=())
        assert len(empty.rows) == len(bare.rows)


def test_latest_reclaims_of_a_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = np.zeros(1000, RECORD_DTYPE)
    records["time_ns"] = np.arange(1000) * 10
    records["time_ns"][500:502] = records["time_ns"][501:499:-1]  # CPUs overtake one another
    records["tgid"] = np.arange(1000) % 10
    records["kind"] = np.arange(1000) % 3 == 0
    with Writer(path, make_session()) as writer:
        writer.write_records(records)

    def wanted(tgid: int, time_ns: int, count: int) -> list[int]:
        mine = records[(records["tgid"] == tgid) & (records["kind"] == 0) & (records["time_ns"] <= time_ns)]
        return mine["time_ns"][-count:].tolist() if count else []

    with Reader(path) as reader:
        for back in (200_000, 400):
            monkeypatch.setattr(reader_module, "LOOKED_BACK", back)
            for time_ns in (-1, 0, 15, 4999, 5000, 5005, 9_999_999):
                for tgid in (0, 3, 7, 77):
                    found = reader.latest_reclaims(tgid, time_ns, 5)
                    assert found["time_ns"].tolist() == wanted(tgid, time_ns, 5), (back, time_ns, tgid)


def test_the_views_answer_the_usual_questions(path: Path) -> None:
    rows = make_rows(
        {"tgid": 1, "comm": b"a", "cgroup_id": 7, "node": 0, "stall_ns": 10**9, "reclaims": 2, "cpu_ns": 10**8},
        {
            "tgid": 1,
            "comm": b"a",
            "cgroup_id": 7,
            "node": 1,
            "stall_ns": 10**9,
            "reclaims": 1,
            "stall_max_ns": 5 * 10**8,
        },
        {"tgid": 2, "comm": b"b", "cgroup_id": 8, "node": 1, "stall_ns": 3 * 10**9, "reclaimed_file_pages": 9},
    )
    vmstat = {"pgsteal_file": 9, "oom_kill": 1}
    made = make_interval(rows, end_s=100.0, duration_ns=10**9, cgroups={7: "/x", 8: "/y"}, vmstat=vmstat)
    record(path, make_session(), [made, replace(made, end_s=101.0)])
    with contextlib.closing(sqlite3.connect(path)) as database:

        def ask(query: str) -> list[tuple[Any, ...]]:
            return database.execute(query).fetchall()

        assert ask("SELECT comm, cgroup, path, sum(stall_s) FROM by_task WHERE begin_s >= 100 GROUP BY tgid") == [
            ("a", "/x", "memcg", 2.0),
            ("b", "/y", "memcg", 3.0),
        ]
        assert ask("SELECT cgroup, reclaims, cpu_s, longest_s FROM by_cgroup WHERE interval = 1 ORDER BY cgroup") == [
            ("/x", 3, 0.1, 0.5),
            ("/y", 0, 0.0, 0.0),
        ]
        assert ask("SELECT node, reclaimed_pages FROM by_node WHERE interval = 2") == [(0, 0), (1, 9)]
        assert ask("SELECT pgsteal_file, oom_kill, pswpin FROM vmstat WHERE interval = 1") == [(9, 1, None)]
        assert ask("SELECT begin_s, end_s FROM intervals") == [(99.0, 100.0), (100.0, 101.0)]
        assert [name for _, name, _ in ask("SELECT * FROM throttle_reasons")] == list(abi.THROTTLE_REASONS)


ADDED_BY_3 = {
    "session": ("topology", "since_boot", "uptime_s"),
    "intervals": ("memory", "kernel_log", "inside", "shrinkers"),
    "nodes": tuple(field.name for field in fields(Node))[8:],
    "cgroup_memory": ("grown", "levels"),
    "process_times": tuple(field.name for field in fields(Process))[6:],
}


def _without(sql: str, table: str, columns: tuple[str, ...]) -> str:
    """The statement without these columns, if it makes this table. The comma before the last one goes, too."""
    if not sql.startswith(f'CREATE TABLE "{table}"'):
        return sql
    for column in columns:
        sql = re.sub(rf'  "{column}" .*\n', "", sql)
    return re.sub(r",( -- [^\n]*\n\))", r"\1", sql)


def test_a_recording_of_schema_2(path: Path) -> None:
    """It lacks all that version 3 added."""
    made = [full_interval(number) for number in (1, 2)]
    record(path, full_session(), made)
    for table, columns in ADDED_BY_3.items():
        remake(path, lambda sql, table=table, columns=columns: _without(sql, table, columns))
    with sqlite3.connect(path) as database:
        for (view,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall():
            database.execute(f"DROP VIEW {view}")
        database.execute("PRAGMA user_version = 2")
    with Reader(path) as reader:
        assert reader.session == replace(full_session(), topology={}, since_boot={}, uptime_s=0.0)
        for theirs, ours in zip(reader.intervals(), made):
            assert (theirs.memory, theirs.shrinkers) == ({}, ())
            assert theirs.nodes == tuple(Node(*astuple(node)[:8]) for node in ours.nodes)
            assert theirs.cgroup_memory == {
                number: CgroupMemory(*astuple(memory)[:4]) for number, memory in ours.cgroup_memory.items()
            }
            assert theirs.processes == {
                tgid: Process(*astuple(process)[:6]) for tgid, process in ours.processes.items()
            }


def test_a_recording_of_schema_1(path: Path) -> None:
    """It lacks all that later versions added."""
    session = full_session()
    made = [full_interval(number, session) for number in (1, 2)]
    record(path, session, made)
    for column in (
        "begin_s",
        "edge_begin_scanned_pages",
        "edge_end_scanned_pages",
        "under_way",
        "cpu_ns",
        "target_id",
        "inside",
    ):
        remake(path, lambda sql, column=column: re.sub(rf'  "{column}".*\n', "", sql))
    with sqlite3.connect(path) as database:
        for kind, name in database.execute("SELECT type, name FROM sqlite_master WHERE type = 'view'").fetchall():
            database.execute(f"DROP {kind} {name}")
        for table in ("cgroup_memory", "throttle_reasons"):
            database.execute(f"DROP TABLE {table}")
        database.execute("PRAGMA user_version = 1")
    with Reader(path) as reader:
        assert reader.session.unknown == session.unknown | {"cpu_ns", "target_id"}
        for theirs, ours in zip(reader.intervals(), made):
            assert_equal(
                theirs,
                replace(
                    ours,
                    rows=without(ours.rows, "cpu_ns", "target_id"),
                    edge_begin_scanned_pages=None,
                    edge_end_scanned_pages=None,
                    loss=replace(ours.loss, under_way=0),
                    cgroup_memory={},
                    inside=(),
                ),
            )
        whole = to_json(take(reader.session, fold(reader, "task")))
    assert whole["accounting"]["edge_scanned_pages"] is None
    assert whole["totals"]["cpu_ns"] is None
    assert whole["cgroups"] == []


def without(rows: Any, *names: str) -> Any:
    found = rows.copy()
    for name in names:
        found[name] = 0
    return found
