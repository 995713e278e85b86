"""Which shrinkers take the time, on a load whose shrinker is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Gated, Json, Mmwatch, run_workload, workload

from mmwatch.abi import SHRINKERS
from mmwatch.errors import EXIT_FINDING
from mmwatch.kernel import syscall
from mmwatch.session.observer import Observer
from mmwatch.session.target import resolve_target

FIGURES = {"calls": "shrinker_calls", "objects": "shrinker_objects", "shrinker_ns": "shrinker_ns"}
TRIES = 5


def adds_up(report: Json) -> bool:
    return all(sum(one[name] for one in report["shrinkers"]) == report["totals"][row] for name, row in FIGURES.items())


def test_shrinkers_add_up_to_the_rows(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: the rows, which count the same calls, and the load: only dentries fill its cgroup.

    Rows and shrinkers are not read at the same instant, so it is repeated if another task shrinks at an end.
    """
    path = tmp_path / "a.mmw"
    for _ in range(TRIES):
        mmwatch.record(path, workload("names"), "-i", "0.3")
        report = mmwatch.report(path)
        if adds_up(report):
            break
    assert adds_up(report), (report["shrinkers"], report["totals"])
    assert report["totals"]["shrinker_ns"] > 0
    assert report["accounting"]["table_full"] == 0
    assert report["shrinkers"][0]["name"] == "super_cache_scan"
    replayed = mmwatch.run("replay", path, "--json").stdout.splitlines()
    each = [one for line in replayed for one in json.loads(line)["shrinkers"]]
    assert sum(one["calls"] for one in each) == report["totals"]["shrinker_calls"]


def test_the_verdict_names_the_shrinker(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: as above; a recording gives the same verdict. Both last long enough for the cgroup to be full again."""
    path = tmp_path / "a.mmw"
    with Gated("names", "--names", 10_000_000) as load:
        load.go()
        recording = mmwatch.start("record", "-d", "6s", "-o", path)
        live = mmwatch.run("diagnose", "--json", "-d", "6s")
        assert recording.process.wait(60) == 0, recording.stderr
    recorded = mmwatch.run("diagnose", "--json", "--from", path)
    for done in (live, recorded):
        assert done.returncode == EXIT_FINDING, f"{done.stdout}\n{done.stderr}"
        first = next(one for one in json.loads(done.stdout)["findings"] if one["id"] == "shrinker-stall")
        assert "above all in super_cache_scan (dentries and inodes of file systems)" in first["summary"]
        (worst,) = (one for one in first["evidence"] if one["label"] == "worst")
        assert worst["observed"] > 0.5


def test_a_full_table_loses_the_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the rows. No entry is free, because none is handed to the kernel side."""
    push, entries = syscall.push, range(1, SHRINKERS)
    monkeypatch.setattr(syscall, "push", lambda queue, values: values == entries or push(queue, values))
    observer = Observer(resolve_target())
    try:
        run_workload("names")
        interval = observer.sample()
    finally:
        observer.close()
    (shared,) = interval.shrinkers
    assert shared.name == ""
    rows = interval.rows
    assert (shared.calls, shared.objects, shared.shrinker_ns) == tuple(rows[row].sum() for row in FIGURES.values())
    assert interval.loss.table_full == shared.calls > 0
