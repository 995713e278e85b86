"""Runs inside a guest: runs the job's scenarios one after another, each observed by mmwatch.

``guest.py JOB`` reads the job that the runner wrote, and writes to the job's folder: ``facts-LRU-CGROUP.json``, then
``LRU-SCENARIO.json`` for each case, and ``done.json`` at the very end. If one is missing, it failed; ``guest.log`` says
why.

The tests' oracle is /proc/vmstat. It is read here, not by mmwatch, at two moments when nobody reclaims.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

VM = Path("/proc/sys/vm")
LRU_GEN = Path("/sys/kernel/mm/lru_gen/enabled")
CGROUPS = Path("/sys/fs/cgroup")  # version 2
DISK = Path("/run/lab-disk")
SWAP = "/dev/vdb"
QUIET_S = 1.0
"""Longer than the short sleep (a tenth of a second) that kswapd takes before it really sleeps."""
QUIET_WITHIN_S = 60.0
SINGLE = """SELECT kinds.name, sum(scanned_pages), sum(reclaimed_pages) FROM records JOIN kinds USING (kind)
JOIN paths USING (path) WHERE paths.name = 'node' GROUP BY kind"""
RECLAIM = ("pgscan", "pgsteal", "pageoutrun", "allocstall", "zone_reclaim", "pgrefill", "slabs_scanned")


def vmstat() -> dict[str, int]:
    """All of /proc/vmstat, with per-CPU remainders folded in."""
    with contextlib.suppress(OSError):  # EINVAL if a statistic is briefly negative
        Path("/proc/sys/vm/stat_refresh").read_bytes()
    return {name: int(value) for name, value in map(str.split, Path("/proc/vmstat").read_text().splitlines())}


def wait_until_quiet() -> bool:
    """Wait until nobody has reclaimed for a second; False if that never happens."""
    end = time.monotonic() + QUIET_WITHIN_S
    last, since = {}, time.monotonic()
    while time.monotonic() < end:
        now = {name: value for name, value in vmstat().items() if name.startswith(RECLAIM)}
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since >= QUIET_S:
            return True
        time.sleep(0.1)
    return False


def free_pages() -> dict[str, int]:
    found = {}
    for node in sorted(Path("/sys/devices/system/node").glob("node[0-9]*")):
        words = (node / "meminfo").read_text().split()
        found[node.name] = int(words[words.index("MemFree:") + 1]) // 4
    return found


@contextlib.contextmanager
def written(values: Mapping[Path, str]) -> Iterator[None]:
    """Write to files below /proc and /sys, and restore them at the end."""
    before = {path: path.read_text().strip() for path in values}
    try:
        for path, value in values.items():
            path.write_text(value)
        yield
    finally:
        for path, value in before.items():
            path.write_text(value)


@contextlib.contextmanager
def forced(mode: Mapping[str, str]) -> Iterator[None]:
    """Make observers that start now use this mode."""
    os.environ.update(MMWATCH_PROBES=mode["probes"], MMWATCH_PASSES=mode["passes"])
    try:
        yield
    finally:
        del os.environ["MMWATCH_PROBES"], os.environ["MMWATCH_PASSES"]


def limit_memory_by(version: int) -> None:
    """Give the memory controller to this version's hierarchy; the guest boots with version 2.

    The controller can move only after the last page charged to a removed cgroup has been freed.
    """
    if version == 2:
        return
    (CGROUPS / "cgroup.subtree_control").write_text("-memory")
    (VM / "drop_caches").write_text("3")
    # Not below version 2's mount point, where mkdir would make a cgroup.
    point = Path("/run/cgroup-memory")
    point.mkdir(exist_ok=True)
    for _ in range(100):
        done = _run(["mount", "-t", "cgroup", "-o", "memory", "memory", str(point)], 60)
        if done.returncode == 0:
            return
        time.sleep(0.2)
    raise OSError(f"no version 1 hierarchy for memory: {done.stderr}")


def run_case(observers: Mapping[str, Any], scenario: Mapping[str, Any], workloads: Path) -> dict[str, dict[str, Any]]:
    """Run a scenario under observers that are already attached; the result of each."""
    from mmwatch.model.json import to_json
    from mmwatch.model.snapshot import take

    os.sync()
    (VM / "drop_caches").write_text("3")
    result: dict[str, Any] = {}
    with written({VM / name: value for name, value in scenario["sysctls"]}):
        result["quiet_before"] = wait_until_quiet()
        for observer in observers.values():
            observer.sample(final=True)
        result["free_before"] = free_pages()
        before = vmstat()
        began = time.monotonic()
        if scenario["swap"]:
            subprocess.run(["swapon", SWAP], check=True, timeout=60)
        done = _run(_command(scenario, workloads), scenario["timeout_s"])
        result["seconds"] = round(time.monotonic() - began, 3)
        result["free_after"] = free_pages()
        result["quiet_after"] = wait_until_quiet()
        after = vmstat()
        intervals = {mode: observer.sample(final=True) for mode, observer in observers.items()}
        if scenario["swap"]:
            subprocess.run(["swapoff", SWAP], check=True, timeout=120)
    result["status"] = done.returncode
    result["stderr"] = done.stderr
    result["workload"] = json.loads(done.stdout) if done.returncode == 0 else None
    result["vmstat"] = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    result["counters"] = sorted(after)
    return {
        mode: {
            **result,
            "report": to_json(take(observers[mode].session, interval, "thread")),
            "targets": targets(interval.rows),
        }
        for mode, interval in intervals.items()
    }


def targets(rows: Any) -> dict[str, list[int]]:
    """The targets of each path. By ID, because a cgroup that is gone when the rows are read has no name any more."""
    from mmwatch.abi import PATHS

    found = sorted({(int(row["path"]), int(row["target_id"])) for row in rows})
    return {PATHS[path]: [number for other, number in found if other == path] for path, _ in found}


def record_case(scenario: Mapping[str, Any], workloads: Path, detail: str, shared: Path) -> dict[str, Any]:
    """The same with a user's commands: ``record`` around the workload, then ``report --json``, then SQL.

    :param shared: a folder on a file system without shared memory (9p), where it also records for a second.
    """
    mmwatch = [sys.executable, "-m", "mmwatch"]
    file = DISK / "record.mmw"
    (VM / "drop_caches").write_text("3")
    with written({VM / name: value for name, value in scenario["sysctls"]}):
        # Sleep at the end, so that the recording includes the last of kswapd's work.
        workload = ["sh", "-c", '"$@" && sleep 2', "sh", *_command(scenario, workloads)]
        # Few readings, since one thread of the emulator runs all CPUs of the guest.
        options = ["-i", "5", "--detail", detail, "-f", "-o", str(file)]
        record = _run([*mmwatch, "record", *options, "--", *workload], scenario["timeout_s"])
    report = _run([*mmwatch, "report", "--by", "thread", "--json", str(file)], 120)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        single = connection.execute(SINGLE).fetchall()
    elsewhere = shared / "shared.mmw"
    short = _run([*mmwatch, "record", "-f", "-d", "1", "-i", "0.3", "-o", str(elsewhere)], 120)
    return {
        "shared": {
            "file_system": _run(["df", "--output=fstype", str(shared)], 10).stdout.split()[-1],
            "status": short.returncode,
            "stderr": short.stderr,
            "report_status": _run([*mmwatch, "report", str(elsewhere)], 120).returncode,
            "left": sorted(name.name for name in shared.glob("shared.mmw*")),
        },
        "single": {name: {"scanned_pages": scanned, "reclaimed_pages": freed} for name, scanned, freed in single},
        "record_status": record.returncode,
        "record_stderr": record.stderr,
        "report_status": report.returncode,
        "report_stderr": report.stderr,
        "report": json.loads(report.stdout) if report.returncode == 0 else None,
    }


def show_case(scenario: Mapping[str, Any], workloads: Path, folder: Path) -> dict[str, Any]:
    """What a user sees: write the output of ``top`` and ``trace`` on the workload, and a recording, to ``folder``."""
    mmwatch = [sys.executable, "-m", "mmwatch"]
    workload = _command(scenario, workloads)
    statuses = {}
    for words in (["top", "-b"], ["trace", "--detail", "passes", "-n", "40"]):
        (VM / "drop_caches").write_text("3")
        shown = folder / f"shown-{words[0]}.txt"
        with written({VM / name: value for name, value in scenario["sysctls"]}), shown.open("wb") as out:
            watch = subprocess.Popen([*mmwatch, *words], stdout=out, stderr=out)
            while not shown.stat().st_size and watch.poll() is None:  # its first output: it has attached
                time.sleep(0.1)
            statuses["workload"] = _run(workload, scenario["timeout_s"]).returncode
            watch.send_signal(signal.SIGINT)
            statuses[words[0]] = watch.wait(60)
    (VM / "drop_caches").write_text("3")
    file = DISK / "shown.mmw"
    with written({VM / name: value for name, value in scenario["sysctls"]}):
        record = _run([*mmwatch, "record", "-f", "-o", str(file), "--", *workload], scenario["timeout_s"])
    shutil.copyfile(file, folder / "shown.mmw")
    return {**statuses, "record": record.returncode, "record_stderr": record.stderr}


def provoke(provocation: Mapping[str, Any], scenario: Mapping[str, Any], tests: Path) -> dict[str, Any]:
    """What the commands print and do with an obstacle in their way."""
    prefix = [word.format(python=sys.executable, tests=tests) for word in provocation["prefix"]]
    file = DISK / "provoked.mmw"
    file.unlink(missing_ok=True)
    record = ["record", "-f", "-o", str(file), "--", *_command(scenario, tests / "workloads")]
    result = {}
    doctor = ["doctor"] if provocation["trial"] else ["doctor", "--no-trial"]
    for name, words in (("doctor", doctor), ("json", ["doctor", "--json", "--no-trial"]), ("record", record)):
        done = _run([*prefix, sys.executable, "-m", "mmwatch", *words], scenario["timeout_s"])
        result[name] = {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    report = _run([sys.executable, "-m", "mmwatch", "report", "--by", "thread", "--json", str(file)], 120)
    return {**result, "report": json.loads(report.stdout) if report.returncode == 0 else None}


def _command(scenario: Mapping[str, Any], workloads: Path) -> list[str]:
    command = [word.replace("{disk}", str(DISK)) for word in scenario["command"]]
    return [sys.executable, str(workloads / command[0]), *command[1:]]


def _run(command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, timeout=timeout_s, capture_output=True, text=True, check=False)


def facts_as_json(facts: Any) -> str:
    """Facts as ``tests/unit/test_plan_kernels.py`` reads them back."""
    values = {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}
    for name in ("offsets", "taskstats"):
        values[name] = [[key, value] for key, value in values[name].items()]
    return json.dumps(values, default=sorted, indent=1)


def prepare(checkout: str) -> None:
    """Mount the guest's disk (the runner has loaded the modules) and what an ordinary host has mounted."""
    DISK.mkdir(exist_ok=True)
    os.environ["MMWATCH_TEST_DISK"] = str(DISK)
    os.environ["PYTHONPATH"] = checkout
    subprocess.run(["mount", "-t", "ext4", "/dev/vda", str(DISK)], check=True, timeout=60)
    for kind, place in (("securityfs", "/sys/kernel/security"), ("debugfs", "/sys/kernel/debug")):
        if not os.path.ismount(place):
            subprocess.run(["mount", "-t", kind, kind, place], check=True, timeout=60)


def main(job_file: Path) -> None:
    job = json.loads(job_file.read_text())
    folder = job_file.parent
    # Run on the last node, so that our own memory does not come from the node that is to be full.
    os.sched_setaffinity(0, {job["cpus"] - 1})
    prepare(job["checkout"])
    sys.path.insert(0, job["checkout"])

    from mmwatch.kernel.facts import gather
    from mmwatch.session.observer import Observer
    from mmwatch.session.target import resolve_target

    workloads = Path(job["checkout"]) / "tests/workloads"
    times: dict[str, float] = {}
    began = time.monotonic()

    def finished(what: str, result: dict[str, Any] | None = None) -> None:
        nonlocal began
        if result is not None:
            # All or nothing, since the runner reads whatever is there.
            new = folder / f"{what}.new"
            new.write_text(json.dumps(result))
            new.rename(folder / f"{what}.json")
        times[what] = round(time.monotonic() - began, 1)
        print(what, times[what], "s", flush=True)
        began = time.monotonic()

    for session in job["sessions"]:
        lru = session["lru"]
        if LRU_GEN.exists():
            LRU_GEN.write_text("y" if lru == "mglru" else "n")
        limit_memory_by(session["cgroup"])
        (folder / f"facts-{lru}-{session['cgroup']}.json").write_text(facts_as_json(gather()))
        observers = {}
        for mode in session["modes"]:
            with forced(mode):
                observers[mode["name"]] = Observer(resolve_target())
            finished(f"{lru}-attach" + (f"-{mode['name']}" if mode["name"] else ""))
        for scenario in session["scenarios"]:
            for name, result in run_case(observers, scenario, workloads).items():
                finished("-".join(filter(None, [lru, scenario["name"], name])), result)
        for observer in observers.values():
            observer.close()
        with forced(job["ordinary"]):
            if session["record"]:
                finished(f"{lru}-record", record_case(session["record"], workloads, session["detail"], folder))
            if session["show"]:
                finished(f"{lru}-shown", show_case(session["show"], workloads, folder))
    for provocation in job["provocations"]:
        finished(f"provoked-{provocation['name']}", provoke(provocation, job["provoked"], workloads.parent))
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    (folder / "done.json").write_text(json.dumps({"release": os.uname().release, "uptime_s": uptime_s, "times": times}))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
