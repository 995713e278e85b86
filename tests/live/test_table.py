"""The row table: full, with reused rows, and attached in the middle of reclaim."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from harness import ENDLESS, Gated, Json, Mmwatch, losses, workload

from mmwatch.kernel.plan import Filter
from mmwatch.model.interval import Interval
from mmwatch.model.json import to_json
from mmwatch.model.merge import merge
from mmwatch.model.snapshot import take
from mmwatch.session.observer import Observer
from mmwatch.session.target import Target

TRIES = 3


@contextmanager
def observing(**options: int) -> Iterator[Observer]:
    observer = Observer(Target(Filter(), {}), **options)  # type: ignore[arg-type]
    try:
        yield observer
    finally:
        observer.close()


def watch(observer: Observer, load: Gated, every_s: float) -> Json:
    """Let a load run to its end, reading every ``every_s``; return everything as one report."""
    load.go()
    total: Interval | None = None
    while load.process.poll() is None:
        time.sleep(every_s)
        interval = observer.sample()
        total = merge(total, interval, ["tgid", "path"]) if total else interval
    interval = observer.sample(final=True)
    total = merge(total, interval, ["tgid", "path"]) if total else interval
    return to_json(take(observer.session, total))


def exact(accounting: Json) -> bool:
    """Whether the counts equal /proc/vmstat to the page; False if other reclaim on this machine makes that unknown."""
    same = (
        accounting["reclaimed_pages"] == accounting["vmstat_reclaimed_pages"]
        and accounting["scanned_pages"] == accounting["vmstat_scanned_pages"]
    )
    assert same or accounting["edge_pages"] or accounting["edge_scanned_pages"], accounting
    return same


@pytest.mark.parametrize("table_rows", [64, 256])
def test_a_full_table_costs_attribution_only(table_rows: int) -> None:
    """Oracle: /proc/vmstat. More threads reclaim at once than the table has rows."""
    for _ in range(TRIES):
        with Gated("threads", "-n", 1600, "--at-once", 200) as load, observing(table_rows=table_rows) as observer:
            report = watch(observer, load, 0.5)
        assert report["accounting"]["table_full"] > 0
        (lost,) = (row for row in report["rows"] if row["comm"] == "(unattributed)" and row["path"] == "memcg")
        assert lost["tgid"] is None
        assert lost["reclaimed_pages"] > 0
        if exact(report["accounting"]):
            return
    pytest.fail("this machine was never quiet")


def test_rows_are_used_again() -> None:
    """Oracle: /proc/vmstat and the size of the table. 10,000 threads reclaim and exit, a hundred at a time."""
    for _ in range(TRIES):
        with (
            Gated("threads", "-n", 10_000, "--at-once", 25, "--kib", 256, "--limit", 32) as load,
            observing(table_rows=1024) as observer,
        ):
            report = watch(observer, load, 0.03)
            in_use = observer.sample().cost.table_rows
        assert losses(report["accounting"]) == {}
        assert in_use < 512
        if exact(report["accounting"]):
            return
    pytest.fail("this machine was never quiet")


def test_attached_in_the_middle_of_reclaim() -> None:
    """Oracle: /proc/vmstat, within the pages that moved during the reading. No time before the start is reported."""
    with Gated(*ENDLESS, "-n", 4) as load:
        load.go()
        time.sleep(0.3)
        for _ in range(3):
            began = time.monotonic_ns()
            with observing() as observer:
                time.sleep(0.5)
                report = to_json(take(observer.session, observer.sample()))
            took_ns = time.monotonic_ns() - began
            accounting = report["accounting"]
            assert accounting["unmatched_begin"] == 0
            difference = accounting["reclaimed_pages"] - accounting["vmstat_reclaimed_pages"]
            # At the edges, each reclaimer may have a batch of about 64 pages that only one side has counted.
            assert abs(difference) <= accounting["edge_pages"] + 4 * 64
            assert all(0 <= row["stall_max_ns"] <= took_ns for row in report["rows"])
            assert report["totals"]["reclaims"] > 0


def test_through_perf_the_totals_are_the_same(mmwatch: Mmwatch) -> None:
    """Oracle: /proc/vmstat. Forces tracepoints through perf, which need tracefs to be mounted.

    bcc 0.18 looks for it only below debugfs, where the kernel mounts it automatically.
    """
    script = 'mount -t tracefs nodev /sys/kernel/tracing; mount -t debugfs nodev /sys/kernel/debug; exec "$@"'
    path = mmwatch.folder / "perf.mmw"
    for _ in range(TRIES):
        mmwatch.record(
            *(path, workload("both", "--file-mib", 256)),
            prefix=("unshare", "--mount", "sh", "-c", script, "sh"),
            environment={"MMWATCH_PROBES": "tracepoint"},
        )
        report = mmwatch.report(path)
        probes = {probe["probe"] for probe in report["session"]["probes"] if probe["state"] == "degraded"}
        assert probes == {"tracepoint"}
        (row,) = (row for row in report["rows"] if row["comm"] == "mmw-anon")
        assert row["reclaimed_anon_pages"] > 1000
        assert row["priority_min"] is not None
        if losses(report["accounting"]):  # what is missing is reported
            assert report["accounting"]["missed_runs"] > 0
            return
        if exact(report["accounting"]):
            return
    pytest.fail("this machine was never quiet")
