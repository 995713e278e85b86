"""The commands as a user sees them: signals, pipes, mistakes, hostile names."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import ENDLESS, ENVIRONMENT, START_S, Gated, Mmwatch, assert_clean, run_as_nobody, workload

EVIL = "\x1b[31mE\x1b]0;x\x07\n\"';\u202e"
"""Colours, a window title, a newline, quotes, and right-to-left text."""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_recording_with_its_summary(mmwatch: Mmwatch, tmp_path: Path, how: signal.Signals) -> None:
    """Oracle: exit status, the summary, and a recording that is not cut off."""
    path = tmp_path / "a.mmw"
    with Gated(*ENDLESS) as load:
        running = mmwatch.start("record", "-o", path, "-i", "0.2")
        running.wait_for("recording to", "err")
        load.go()
        time.sleep(1)
        assert running.stop(how) == 0, running.stderr
    assert "interrupted: kept" in running.stderr
    assert "accounted" in running.stderr
    assert "Traceback" not in running.stderr
    done = mmwatch.run("report", path)
    assert (done.returncode, "cut off" in done.stderr) == (0, False)
    assert "mmw-stream" in done.stdout


def test_a_signal_at_any_moment_loses_nothing(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: /proc/vmstat, as exactly as the ends of the window allow. The readings follow without a pause."""
    with Gated(*ENDLESS) as load:
        load.go()
        for number in range(4):
            path = tmp_path / f"{number}.mmw"
            running = mmwatch.start("record", "-o", path, "-i", "0.02", "--detail", "batches")
            running.wait_for("recording to", "err")
            time.sleep(0.3 + 0.009 * number)
            assert running.stop(signal.SIGTERM) == 0, running.stderr
            accounting = mmwatch.report(path)["accounting"]
            difference = accounting["reclaimed_pages"] - accounting["vmstat_reclaimed_pages"]
            # At each end, each of two reclaimers may be in a batch of about 64 pages that only one side has counted.
            assert abs(difference) <= accounting["edge_pages"] + 2 * 2 * 64, accounting


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["top", "trace"])
def test_a_signal_ends_what_is_shown(mmwatch: Mmwatch, command: str, how: signal.Signals) -> None:
    """Oracle: exit status."""
    running = mmwatch.start(command, *(["-b"] if command == "top" else []))
    running.wait_for("accounted" if command == "top" else "tracing", "out" if command == "top" else "err")
    assert running.stop(how) == 0, running.stderr
    assert "Traceback" not in running.stderr


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("command", ["top", "trace", "record"])
def test_it_protects_itself_and_nobody_else(mmwatch: Mmwatch, tmp_path: Path, command: str) -> None:
    """Oracle: VmLck and oom_score_adj of the process, and of a command that it runs."""
    words: list[object] = {"top": ["-b"], "trace": []}.get(command, ["-o", tmp_path / "a.mmw", "--", "sleep", "60"])
    running = mmwatch.start(command, *words)
    running.wait_for("accounted" if command == "top" else command[:4], "out" if command == "top" else "err")
    pid = running.process.pid
    if "not exempt from the OOM killer" not in running.stderr:
        assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "-1000"
    assert ("not locked" in running.stderr) == (status_of(pid)["VmLck"] == "0 kB"), running.stderr
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        assert Path(f"/proc/{child}/oom_score_adj").read_text() == Path("/proc/self/oom_score_adj").read_text()
        assert status_of(int(child))["VmLck"] == "0 kB"
        os.kill(int(child), signal.SIGKILL)
    running.stop()


def test_a_recording_survives_sigkill(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: the time of the kill, less an interval and the time to write it."""
    path = tmp_path / "a.mmw"
    with Gated(*ENDLESS) as load:
        running = mmwatch.start("record", "-o", path, "-i", "0.2")
        running.wait_for("recording to", "err")
        load.go()
        time.sleep(2)
        killed_s = time.time()
        running.stop(signal.SIGKILL)
    done = mmwatch.run("report", path, "--json")
    assert done.returncode == 0
    assert "the recording was cut off" in done.stderr
    report = json.loads(done.stdout)
    assert killed_s - 1 < report["session"]["end"] <= killed_s
    assert report["totals"]["reclaimed_pages"] > 10_000


def test_a_process_that_ends_ends_the_recording(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: how long the process lives."""
    with subprocess.Popen(["sleep", "3"]) as sleeper:
        began = time.monotonic()
        done = mmwatch.run("record", "-o", tmp_path / "a.mmw", "-p", sleeper.pid, "-i", "60")
        assert done.returncode == 0
        assert "the process ended: kept" in done.stderr
        assert time.monotonic() - began < 30


def test_a_command_runs_and_its_end_is_told(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: the exit status of the command."""
    done = mmwatch.run("record", "-o", tmp_path / "a.mmw", "--", "sh", "-c", "echo out; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert "the command ended (exit status 3)" in done.stderr


MISTAKES = [
    (["record", "-o", "{tmp}/a.mmw", "--", "/no/such/command"], 127, "cannot run '/no/such/command'"),
    (["record", "-o", "{tmp}/a.mmw", "--", "/proc/version"], 126, "it is not executable"),
    (["record", "-o", "{tmp}/a.mmw", "--"], 64, "needs a COMMAND"),
    (["record", "-o", "{tmp}/a.mmw", "-p", "4194999"], 1, "no process has PID 4194999"),
    (["top", "-p", "4194999"], 1, "no process has PID 4194999"),
    (["top", "-i", "0"], 64, "not a duration"),
    (["record", "-i", "0"], 64, "not a duration"),
    (["top", "-i", "0.001"], 64, "too short"),
    (["record", "-d", "0"], 64, "not a duration"),
    (["top", "-c", "/no/such/cgroup"], 1, "no cgroup"),
    (["top", "--children"], 64, "--children needs"),
    (["top", "-n", "0"], 64, "not a number from 1 to"),
    (["top", "-s", "nonsense"], 64, "no column is named"),
    (["nonsense"], 64, "nonsense"),
    (["tops"], 64, "did you mean 'top'?"),
    (["top", "-x"], 64, "usage: mmwatch top"),
    (["top", "--intervall", "1"], 64, "did you mean '--interval'?"),
    (["record", "-o", "/no/such/folder/a.mmw", "-d", "1"], 1, "/no/such/folder"),
    (["report", "/no/such/file"], 1, "/no/such/file"),
]


@pytest.mark.parametrize(("words", "status", "message"), MISTAKES, ids=lambda value: str(value))
def test_mistakes(mmwatch: Mmwatch, tmp_path: Path, words: list[str], status: int, message: str) -> None:
    """Oracle: the exit status in the manual, and the message."""
    done = mmwatch.run(*(word.replace("{tmp}", str(tmp_path)) for word in words))
    assert (done.returncode, message in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_closed_pipe_ends_it_silently(mmwatch: Mmwatch) -> None:
    """Oracle: the exit status of the first command in the pipe, and a stderr that names only missing permissions."""
    script = f"set -o pipefail; {sys.executable} -m mmwatch top -b -i 0.1 | head -1"
    done = subprocess.run(["bash", "-c", script], env=ENVIRONMENT, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    assert all(b"OOM killer" in line or b"not locked" in line for line in done.stderr.splitlines()), done.stderr
    assert done.stdout.count(b"\n") == 1


def test_hostile_names_reach_nobody_raw(mmwatch: Mmwatch, tmp_path: Path) -> None:
    """Oracle: nothing printed has control characters other than newline, and the texts in the JSON are clean."""
    path = tmp_path / "evil.mmw"
    group = EVIL.replace("\n", "").replace("/", "")
    words = ("stream", "--mib", 512, "--comm", EVIL[:10], "--note", EVIL, "--group", group)
    with Gated(*words) as load:
        pid = load.pids[0]
        observers = [
            mmwatch.start("top", "-b", "-i", "0.2", "--columns", "all"),
            mmwatch.start("top", "-b", "-i", "0.2", "--by", "cgroup"),
            mmwatch.start("top", "--json", "-i", "0.2", "-c", f"{Path(load.about['cgroup']).name}/{group}"),
            mmwatch.start("trace", "--detail", "batches", "-p", pid),
        ]
        record = mmwatch.start("record", "-o", path, "-i", "0.2", "--comm", EVIL[:10])
        record.wait_for("recording to", "err")
        observers[3].wait_for("tracing", "err")
        for top in observers[:3]:
            top.wait_for("\n")
        load.finish()
        time.sleep(0.5)
        for running in (*observers, record):
            assert running.stop() == 0, running.stderr
    texts = [running.stdout + running.stderr for running in (*observers, record)]
    for more in ([], ["--columns", "all"], ["--by", "cgroup"], ["--json"]):
        done = mmwatch.run("report", path, *more)
        texts.append(done.stdout + done.stderr)
    for text in texts:
        assert_clean(text)
        assert "Traceback" not in text
    assert "\\x1b[31mE" in texts[0]
    assert "\\x1b[31mE" in texts[3]
    for line in (*observers[2].lines(), json.loads(mmwatch.run("report", path, "--json").stdout)):
        for row in line["rows"]:
            for name in ("comm", "cmdline", "cgroup"):
                assert_clean(row[name] or "")


TRACE = re.compile(
    r"\s*(\S.*)-(\d+)\s+\[(\d{3})\]\s+(\d+\.\d{6}): (\w+): path=memcg nid=\d+ asked=\d+ scanned=\d+ reclaimed=\d+"
    r" priority=\d+ .*stall_us=\d+"
)


def test_trace_prints_so_many_lines(mmwatch: Mmwatch) -> None:
    """Oracle: the line format in the manual, the PIDs of the load, and times that never go back on any CPU."""
    with Gated(*ENDLESS) as load:
        load.go()
        done = mmwatch.run("trace", "-n", 20, "-p", ",".join(map(str, load.pids)))
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert len(lines) == 20
        found = [TRACE.match(line) for line in lines]
        assert all(found), lines
        assert {int(match[2]) for match in found if match} <= set(load.pids)
        times: dict[str, float] = {}
        for match in found:
            assert match
            assert float(match[4]) >= times.get(match[3], 0)
            times[match[3]] = float(match[4])


def test_trace_as_json(mmwatch: Mmwatch) -> None:
    """Oracle: the load's own cgroup and PIDs, and the clock."""
    with Gated(*ENDLESS) as load:
        load.go()
        begun_s = time.time()
        done = mmwatch.run("trace", "--json", "-n", 20, "-p", ",".join(map(str, load.pids)))
        assert done.returncode == 0
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(found) == 20
        for one in found:
            assert (one["kind"], one["path"], one["cgroup"]) == (
                "reclaim",
                "memcg",
                f"/{Path(load.about['cgroup']).name}",
            )
            assert one["tid"] in load.pids
            assert begun_s <= one["time_s"] <= time.time()
            assert "GFP_" in one["gfp"]
        done = mmwatch.run("trace", "-T", "-n", 1, "-p", load.pids[0])
        assert time.strftime("%Y-%m-%dT") in done.stdout


def test_doctor_tries_every_probe(mmwatch: Mmwatch) -> None:
    """Oracle: every other live test observes, so every probe must pass."""
    done = mmwatch.run("doctor", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["usable"], report["trial"], report["blockers"]) == (0, True, "passed", [])
    assert {need["state"] for need in report["needs"]} <= {"attached", "degraded", "missing"}
    assert "attached" in {need["state"] for need in report["needs"]}


def test_doctor_for_an_ordinary_user() -> None:
    """Oracle: exit status 77, since only permission is missing."""
    done = run_as_nobody("doctor")
    assert done.returncode == 77, done.stderr
    assert "run it with sudo" in done.stdout


def test_doctor_without_anything_installed() -> None:
    """Oracle: a Python that finds nothing but the standard library."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv[0] = 'mmwatch';"
        "from mmwatch.cli.main import main; sys.exit(main(['doctor']))"
    )
    root = ENVIRONMENT["PYTHONPATH"]
    words = [sys.executable, "-I", "-S", "-c", code, root]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 69, done.stderr
    assert "cannot import bcc" in done.stdout
    assert "cannot import numpy" in done.stdout
    assert done.stderr == ""


def leftovers() -> list[str]:
    from mmwatch.host.cgroups import memory_mount

    mount = memory_mount()
    assert mount is not None
    return sorted(path.name for path in mount.path.glob("mmwatch-demo-*"))


def test_demo_leaves_nothing(mmwatch: Mmwatch) -> None:
    """Oracle: the list of cgroups, and the comparison with /proc/vmstat in the last line."""
    done = mmwatch.run("demo", "-d", "3s", "-b")
    assert done.returncode == 0, done.stderr
    assert "mmwatch-demo" in done.stdout
    assert "memcg" in done.stdout
    assert done.stderr.startswith("demo: 2 tasks read 512M")
    assert "path memcg" in done.stderr
    assert "accounted" in done.stderr.splitlines()[-1]
    assert leftovers() == []


def test_a_demo_that_was_killed_is_cleaned_up_by_the_next(mmwatch: Mmwatch) -> None:
    """Oracle: the list of cgroups, and the state of the workers in /proc."""
    demo = mmwatch.start("demo", "--json", "-i", "0.2")
    deadline = time.monotonic() + START_S
    workers: set[int] = set()
    while len(workers) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        workers |= {row["tgid"] for line in demo.lines() for row in line["rows"] if row["comm"] == "mmwatch-demo"}
    demo.stop(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "the workers outlive the demo"
        time.sleep(0.05)
    assert leftovers() == [f"mmwatch-demo-{demo.process.pid}"]
    assert mmwatch.run("demo", "-d", "1s", "-b").returncode == 0
    assert leftovers() == []


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status


def test_the_workloads_leave_nothing() -> None:
    """Oracle: the host's swaps before and after, even if a load is killed."""
    before = Path("/proc/swaps").read_text()
    with subprocess.Popen(workload("both", "--rounds", 1000), start_new_session=True) as load:
        deadline = time.monotonic() + 10
        while Path("/proc/swaps").read_text() == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        load.terminate()
    deadline = time.monotonic() + 10
    while Path("/proc/swaps").read_text() != before:
        assert time.monotonic() < deadline, Path("/proc/swaps").read_text()
        time.sleep(0.05)
