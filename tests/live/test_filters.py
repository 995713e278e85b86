"""Filters by process, children, cgroup and comm, and PIDs in a PID namespace."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from harness import ENDLESS, Gated, Json, Mmwatch, Running, rows_of, run_workload, workload

from mmwatch.kernel import syscall

SUMMED = ("reclaims", "reclaimed_pages", "scanned_pages", "asked_pages")


def stop(top: Running) -> list[Json]:
    time.sleep(0.5)
    assert top.stop() == 0
    return top.lines()


def sums(lines: list[Json], pids: list[int] | None = None) -> dict[str, int]:
    """Sums over all intervals, of all rows or of those of these processes."""
    rows = [row for line in lines for row in line["rows"] if pids is None or row["tgid"] in pids]
    return {name: sum(row[name] for row in rows) for name in SUMMED}


def tgids(lines: list[Json]) -> set[int]:
    return {row["tgid"] for line in lines for row in line["rows"]}


def test_by_pid_with_its_threads(mmwatch: Mmwatch) -> None:
    """Oracle: the rows of the same process from an unfiltered observer."""
    with Gated("stream", "-n", 2, "-m", 3, "--mib", 48) as load:
        wanted = load.pids[1]
        everything = mmwatch.top("-i", "0.2", "--by", "thread")
        top = mmwatch.top("-i", "0.2", "-p", wanted, "--by", "thread")
        load.finish()
        lines = stop(top)
        assert tgids(lines) == {wanted}
        assert len({row["tid"] for line in lines for row in line["rows"]}) == 3
        assert sums(lines) == sums(stop(everything), [wanted])
        assert sums(lines)["reclaimed_pages"] > 10_000
        assert lines[-1]["session"]["filter"] == {"pid": [wanted]}
        assert lines[-1]["accounting"]["accounted_ratio"] is None
        assert lines[-1]["accounting"]["incomparable_reason"] == "a filter is on"


def test_a_thread_stands_for_its_process(mmwatch: Mmwatch) -> None:
    """Oracle: Tgid in /proc/TID/status."""
    with Gated("stream", "-n", 1) as load:
        top = mmwatch.top("-i", "0.2", "-p", f"{load.pids[0]},{load.pids[0]}")
        load.finish()
        assert tgids(stop(top)) == {load.pids[0]}


def test_children_forked_later(mmwatch: Mmwatch) -> None:
    """Oracle: the load's own list of the tasks it forked while it was watched."""
    with Gated("short", "-n", 30) as load:
        parent = load.pids[0]
        alone = mmwatch.top("-i", "0.2", "-p", parent)
        top = mmwatch.top("-i", "0.2", "-p", parent, "--children")
        done = load.finish()
        assert tgids(stop(alone)) == {parent}
        assert tgids(stop(top)) == set(done["pids"])


def test_children_that_were_there(mmwatch: Mmwatch) -> None:
    """Oracle: the load's own list of workers. Their parent is watched and reclaims nothing itself."""
    with Gated("stream", "-n", 2, "--mib", 64) as load:
        top = mmwatch.top("-i", "0.2", "-p", load.process.pid, "--children")
        done = load.finish()
        assert tgids(stop(top)) == set(done["pids"])


def test_a_command_only(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: the workers of the command. Another load runs beside it and must not be seen."""
    with Gated(*ENDLESS, "-n", 1, "--comm", "mmw-other") as other:
        other.go()
        done = mmwatch.record(tmp_path / "only.mmw", workload("stream", "--mib", 64), "--only")
    report = mmwatch.report(tmp_path / "only.mmw")
    assert {row["tgid"] for row in report["rows"]} == set(done["pids"])
    assert sum(row["reclaimed_pages"] for row in report["rows"]) >= 2 * 64 * 256 - 32 * 256


def keys_of(descriptor: int) -> list[int]:
    """The 32-bit keys of a BPF map."""
    get_next_key, found = 4, []  # include/uapi/linux/bpf.h
    key, after = ctypes.c_uint32(), ctypes.c_uint32()
    element = syscall._Element(descriptor, 0, ctypes.addressof(after), 0)
    while syscall._syscall(syscall._NUMBER, get_next_key, ctypes.byref(element), ctypes.sizeof(element)) == 0:
        found.append(after.value)
        key.value, element.key = after.value, ctypes.addressof(key)
    return found


def test_many_children_are_forgotten_when_they_end(mmwatch: Mmwatch) -> None:
    """Oracle: the kernel's own table of watched processes, which has room for 65,536, must shrink again."""
    from mmwatch.session.observer import Observer
    from mmwatch.session.target import resolve_target

    with Gated("short", "-n", 30) as load:
        observer = Observer(resolve_target([load.pids[0]], children=True), names=False)
        try:
            load.finish()
            watched = observer.tracer._tables["watched_tgids"].descriptor
            deadline = time.monotonic() + 5
            while len(keys_of(watched)) > 3 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert len(keys_of(watched)) <= 3
        finally:
            observer.close()


def test_by_cgroup(mmwatch: Mmwatch) -> None:
    """Oracle: the rows of that cgroup's workers from an unfiltered observer. Another load is in another cgroup."""
    with Gated("stream", "--group", "below", "--mib", 96) as load, Gated("stream", "--mib", 96) as other:
        name = Path(load.about["cgroup"]).name
        everything = mmwatch.top("-i", "0.2")
        top = mmwatch.top("-i", "0.2", "-c", name)
        other.go()
        done = load.finish()
        other.finish()
        lines = stop(top)
        assert tgids(lines) == set(done["pids"])
        assert sums(lines) == sums(stop(everything), done["pids"])
        assert {row["cgroup"] for line in lines for row in line["rows"]} <= {None, f"/{name}/below"}


def test_by_comm(mmwatch: Mmwatch) -> None:
    """Oracle: the names the loads gave themselves. One is a character longer than the other."""
    with Gated("stream", "--comm", "mmw-name", "--mib", 64) as load, Gated("stream", "--comm", "mmw-name2") as other:
        top = mmwatch.top("-i", "0.2", "--comm", "mmw-name")
        other.go()
        done = load.finish()
        other.finish()
        assert tgids(stop(top)) == set(done["pids"])


def test_inside_a_pid_namespace(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: the PIDs that fork returned to the load in the same namespace, also with a filter (--only)."""
    path = tmp_path / "inner.mmw"
    inside = ("unshare", "--pid", "--fork", "--mount-proc")
    for more in ((), ("--only",)):
        done = mmwatch.record(path, workload("stream", "--mib", 64), *more, prefix=inside)
        report = mmwatch.report(path)
        assert max(done["pids"]) < 100
        for pid in done["pids"]:
            (row,) = rows_of(report, pid)
            assert row["comm"] == "mmw-stream"
            # A PID namespace has no process events, so a process that exits between two readings has no command line.
            assert "stream.py" in (row["cmdline"] or "stream.py")
        assert report["accounting"]["comparable"] is (not more)
        if more:
            assert {row["tgid"] for row in report["rows"]} == set(done["pids"])


def test_by_pid_and_by_cgroup_inside_a_pid_namespace() -> None:
    """Oracle: the PIDs that fork returned to the load in the namespace."""
    seen = run_workload("inner")
    assert max(seen["pids"]) < 100
    ((chosen, sums),) = seen["sums"].items()
    assert chosen == str(seen["pids"][1])
    assert sums["reclaimed_pages"] > 1000


def test_another_pid_namespace_has_no_number_here(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: the observer's namespace cannot see the workers outside it, but their pages still count."""
    path = tmp_path / "inner.mmw"
    with Gated(*ENDLESS, "-n", 1) as load:
        load.go()
        done = mmwatch.run(
            *("record", "-f", "-o", path, "-d", "1s"), prefix=("unshare", "--pid", "--fork", "--mount-proc")
        )
        assert done.returncode == 0, done.stderr
    report = mmwatch.report(path)
    assert rows_of(report, load.pids[0]) == []
    assert report["totals"]["reclaimed_pages"] > 1000
