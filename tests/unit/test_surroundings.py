"""What an observation reads about cgroups and processes: the growth of counters, and of whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from make import make_rows

from mmwatch.host.cgroups import CgroupMount
from mmwatch.host.processes import ProcessNames
from mmwatch.host.taskstats import TaskStats
from mmwatch.session import tasks as tasks_module
from mmwatch.session.cgroups import Cgroups
from mmwatch.session.look import Look
from mmwatch.session.tasks import Tasks


def group(root: Path, path: str, limit: str = "max", hits: int = 0, refaults: int = 0) -> int:
    """A cgroup of version 2; its id."""
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "memory.current": "4096",
        "memory.max": limit,
        "memory.high": "max",
        "memory.events": f"max {hits}\n",
        "memory.events.local": f"max {hits}\nhigh 0\n",
        "memory.stat": f"anon 1024\nworkingset_refault_file {refaults}\n",
    }.items():
        (folder / name).write_text(f"{text}\n")
    return os.stat(folder).st_ino


@pytest.fixture
def hierarchy(tmp_path: Path) -> CgroupMount:
    return CgroupMount(tmp_path, 2)


def test_growth_needs_two_readings(hierarchy: CgroupMount) -> None:
    root = hierarchy.path
    app, web = group(root, "app", "8192", hits=5), group(root, "app/web")
    cgroups, rows = Cgroups(hierarchy), make_rows({"cgroup_id": web})
    names, memory = cgroups.of(rows)
    assert names == {web: "/app/web", app: "/app"}
    assert (memory[app].limit_bytes, memory[app].grown, memory[app].levels) == (8192, {}, {"anon": 1024})
    group(root, "app", "8192", hits=12, refaults=30)
    assert cgroups.of(rows)[1][app].grown == {"workingset_refault_file": 30, "max": 7, "high": 0}


def test_without_btf_the_cgroup_is_looked_up(hierarchy: CgroupMount, monkeypatch: pytest.MonkeyPatch) -> None:
    app = group(hierarchy.path, "app")
    paths = {7: "/app", 8: "/gone"}
    monkeypatch.setattr("mmwatch.session.cgroups.of_process", lambda mount, tgid: paths.get(tgid))
    rows = make_rows({"tgid": 7}, {"tgid": 8}, {"tgid": 9}, {"tgid": 7, "cgroup_id": 99})
    Cgroups(hierarchy).locate(rows)
    assert rows["cgroup_id"].tolist() == [app, 0, 0, 99]


def test_a_cgroup_that_once_reclaimed_is_followed(hierarchy: CgroupMount) -> None:
    app = group(hierarchy.path, "app")
    cgroups = Cgroups(hierarchy)
    cgroups.of(make_rows({"cgroup_id": app}))
    group(hierarchy.path, "app", refaults=9)
    names, memory = cgroups.of(make_rows())
    assert (names, memory[app].grown["workingset_refault_file"]) == ({app: "/app"}, 9)


def test_the_first_interval_has_growth_too(hierarchy: CgroupMount) -> None:
    """But not that of the time before a cgroup was followed."""
    early, late = group(hierarchy.path, "early"), group(hierarchy.path, "late")
    cgroups = Cgroups(hierarchy)
    cgroups.begin()
    for name in ("early", "late"):
        group(hierarchy.path, name, refaults=9)
    assert cgroups.of(make_rows({"cgroup_id": early}))[1][early].grown["workingset_refault_file"] == 9
    assert cgroups.of(make_rows({"cgroup_id": late}))[1][late].grown == {}


def test_at_the_end_all_that_moved(hierarchy: CgroupMount) -> None:
    quiet, busy = group(hierarchy.path, "quiet"), group(hierarchy.path, "busy")
    cgroups = Cgroups(hierarchy)
    cgroups.begin(everything=True)
    group(hierarchy.path, "busy", hits=3)
    assert cgroups.of(make_rows())[1] == {}
    names, memory = cgroups.of(make_rows(), everything=True)
    assert (names[busy], memory[busy].grown["max"], quiet in memory) == ("/busy", 3, False)


def test_a_cgroup_that_is_gone(hierarchy: CgroupMount) -> None:
    app = group(hierarchy.path, "app")
    cgroups = Cgroups(hierarchy)
    cgroups.of(make_rows({"cgroup_id": app}))
    for file in (hierarchy.path / "app").iterdir():
        file.unlink()
    (hierarchy.path / "app").rmdir()
    assert cgroups.of(make_rows())[1] == {}
    assert Cgroups(None).of(make_rows({"cgroup_id": app})) == ({}, {})


def test_processes_are_read_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """This one reads a page of itself, so it has figures."""
    monkeypatch.setattr(tasks_module, "CLOSELY_MAX", 1)
    me = os.getpid()
    taskstats = TaskStats.__new__(TaskStats)
    taskstats.available, taskstats._socket = False, None
    tasks = Tasks(ProcessNames(), taskstats, always=(me,))
    assert tasks.of(make_rows())[me].major_faults is None  # growth needs two readings
    found = tasks.of(make_rows({"tgid": 1}))
    assert (found[me].major_faults or 0) >= 0
    assert found[me].user_time_us is not None
    assert found[me].mems_allowed
    assert set(found) == {me, 1}


def test_a_look_needs_nothing() -> None:
    look = Look()
    interval = look.take()
    assert look.left_s() > 0
    assert (len(interval.rows), interval.duration_ns > 0, look.session.uptime_s > 0) == (0, True, True)
    assert interval.vmstat.keys() == look.session.since_boot.keys()
    assert interval.memory["total"] > 0
