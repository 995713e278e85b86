"""Runs inside a guest: provokes one trouble after another, and lets an observer look at each.

``trouble_guest.py JOB`` reads the job that provoke.py wrote, and writes to the job's folder ``LRU-NAME.json`` for each
trouble, then ``done.json``. A trouble that fails or takes too long leaves its error there, and the next one follows.
The observer is a command, or mmwatch itself: it is loaded once, which takes a minute here, and leaves ``LRU-NAME.mmw``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from guest import CGROUPS, DISK, LRU_GEN, SWAP, VM, prepare, vmstat, wait_until_quiet, written

READY_S, OBSERVE_S, STOP_S = 150.0, 240.0, 90.0
RECORD_S = 10
SAMPLE_S = 0.2
SAMPLED = ("free_pages", "low_pages", "boost_pages", "kswapd_gave_up")
RUN = Path("/run")
"""For what a load prints: reading a file of 9p that grows fails now and then (ENODATA, Linux 7.2)."""
HOLD_S = 600
"""Longer than any observer takes; the load is told to stop by then."""
CHOSEN = re.compile(r"\[(.+)\]")


class Workload:
    """A program of tests/workloads/trouble that runs. Its lines go to a file, so that nobody waits in a pipe."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._out, self._err = folder / "workload.out", folder / "workload.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=err, start_new_session=True
            )

    def lines(self) -> list[dict[str, Any]]:
        whole = [line for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [json.loads(line) for line in whole]

    def errors(self) -> str:
        return self._err.read_text(errors="replace")

    def wait_until_ready(self) -> dict[str, Any]:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            status = self._process.poll()
            if found := self.lines():
                return found[0]
            if status is not None:
                raise RuntimeError(f"the workload ended with {status} before it was ready")
            time.sleep(0.1)
        raise RuntimeError("the workload was not ready in time")

    def stop(self) -> int | str:
        """Let it end and undo everything. If it does not, the guest does what it can.

        :returns: its exit status, or how it had to be ended.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        for how, number in (("", 0), ("by SIGTERM", signal.SIGTERM), ("by SIGKILL", signal.SIGKILL)):
            if number == signal.SIGTERM:
                self._process.send_signal(number)
            elif number:
                os.killpg(self._process.pid, number)
            try:
                status = self._process.wait(STOP_S)
                return how or status
            except subprocess.TimeoutExpired:
                continue
        return "never ended"


@contextlib.contextmanager
def settings(sysctls: Sequence[tuple[str, str]]) -> Iterator[None]:
    """As :func:`guest.written`, also for files that show their choices with the chosen one in brackets."""
    with written({VM / name: value for name, value in sysctls if "/" not in name}):
        before = []
        try:
            for name, value in sysctls:
                if "/" in name:
                    text = Path(name).read_text().strip()
                    chosen = CHOSEN.search(text)
                    before.append((name, chosen[1] if chosen else text))
                    Path(name).write_text(value)
            yield
        finally:
            for name, value in reversed(before):
                Path(name).write_text(value)


@contextlib.contextmanager
def swap(on: bool) -> Iterator[None]:
    if on:
        subprocess.run(["swapon", SWAP], check=True, timeout=60)
    try:
        yield
    finally:
        if on:
            subprocess.run(["swapoff", SWAP], check=True, timeout=300)


def snapshot(cgroups: Sequence[str]) -> dict[str, int]:
    """Counters: /proc/vmstat, ``events.*`` and ``stat.*`` of the cgroups together, ``pressure.*`` in microseconds."""
    found = vmstat()
    for kind in ("events", "stat"):
        for cgroup in cgroups:
            for name, value in map(str.split, (Path(cgroup) / f"memory.{kind}").read_text().splitlines()):
                found[f"{kind}.{name}"] = found.get(f"{kind}.{name}", 0) + int(value)
    for kind in ("memory", "io"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/pressure/{kind}").read_text().splitlines():
                found[f"pressure.{kind}.{line.split()[0]}"] = int(line.rpartition("=")[2])
    return found


def nodes() -> list[dict[str, Any]]:
    from mmwatch.host.zoneinfo import parse_zoneinfo

    return [dataclasses.asdict(state) for state in parse_zoneinfo(Path("/proc/zoneinfo").read_bytes())]


@contextlib.contextmanager
def sampled(samples: list[list[list[Any]]]) -> Iterator[None]:
    """Meanwhile, sample what comes and goes too quickly to be seen afterwards."""
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            samples.append([[state[name] for name in SAMPLED] for state in nodes()])

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def observe(command: Sequence[str]) -> dict[str, Any]:
    began = time.monotonic()
    samples: list[list[list[Any]]] = []
    with (
        sampled(samples),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process,
    ):
        try:
            out, err = process.communicate(timeout=OBSERVE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            err += b"\nthe observer took too long"
    return {
        "status": process.returncode,
        "stdout": out.decode(errors="replace"),
        "stderr": err.decode(errors="replace"),
        "seconds": round(time.monotonic() - began, 1),
        "samples": samples,
    }


class Recorder:
    """Observes as ``mmwatch diagnose`` does, again and again; each look is a recording, for the host to judge."""

    def __init__(self) -> None:
        from mmwatch.session.observer import Observer
        from mmwatch.session.target import resolve_target

        self._observer = Observer(resolve_target(), everything=True)

    def record(self, file: Path) -> dict[str, Any]:
        from mmwatch.recording import Writer
        from mmwatch.session.beat import Beat

        self._observer.sample()  # what was before does not count
        self._observer._around.begin()  # as for a session that begins now: it follows the cgroups that there are
        beat = Beat(1.0, RECORD_S)
        samples: list[list[list[Any]]] = []
        with sampled(samples), Writer(file, self._observer.session, force=True) as writer:
            while True:
                time.sleep(beat.left_s())
                over = beat.over()
                writer.write(self._observer.sample(final=over))
                if over:
                    break
                beat.advance()
        return {"status": 0, "stdout": "", "stderr": "", "seconds": RECORD_S, "samples": samples}


def clean_up() -> list[str]:
    """Remove what a load left behind: its cgroups, with their processes, and its swap.

    :returns: what there was.
    """
    left = []
    # The innermost first.
    for cgroup in sorted(CGROUPS.glob("mmwatch-test-*/**/"), reverse=True):
        left.append(str(cgroup))
        for pid in (cgroup / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for _ in range(100):
            with contextlib.suppress(OSError):
                cgroup.rmdir()
                break
            time.sleep(0.1)
    if len(Path("/proc/swaps").read_text().splitlines()) > 1:
        left.append("swap")
        subprocess.run(["swapoff", "-a"], timeout=300, check=False)
    return left


def provoke(
    trouble: Mapping[str, Any], command: Sequence[str], look: Callable[[], dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """Provoke one, and look; the result says what went wrong, if anything did."""
    result: dict[str, Any] = {"expect": trouble["expect"], "error": ""}
    os.sync()
    (VM / "drop_caches").write_text("3")
    try:
        with settings(trouble["sysctls"]), swap(trouble["swap"]):
            wait_until_quiet()
            began = time.monotonic()
            workload = Workload(command, folder)
            try:
                ready = workload.wait_until_ready()
                result["ready_s"] = round(time.monotonic() - began, 1)
                before = snapshot(ready["cgroups"])
                result["nodes_before"] = nodes()
                result["observer"] = look()
                result["nodes"] = nodes()
                result["after"] = after = snapshot(ready["cgroups"])
                result["moved"] = {
                    name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)
                }
            finally:
                result["stopped"] = workload.stop()
                result["lines"] = workload.lines()
                result["stderr"] = workload.errors()
    except Exception as error:
        traceback.print_exc()
        result["error"] = repr(error)
    result["left"] = clean_up()
    return result


def choose_lru(lru: str) -> None:
    if LRU_GEN.exists():
        LRU_GEN.write_text("y" if lru == "mglru" else "n")


def main(job_file: Path) -> None:
    job = json.loads(job_file.read_text())
    folder = job_file.parent
    # Run on the last node, so that neither we nor the observer use memory of the node that is to be full.
    os.sched_setaffinity(0, {job["cpus"] - 1})
    prepare(job["checkout"])
    sys.path.insert(0, job["checkout"])
    observer = [word.replace("{python}", sys.executable) for word in shlex.split(job["observe"])]
    choose_lru(job["troubles"][0][0])  # before the recorder: its session says what this LRU's batches tell
    recorder = None if observer else Recorder()

    def look(name: str) -> dict[str, Any]:
        return recorder.record(folder / f"{name}.mmw") if recorder else observe(observer)

    loads = Path(job["checkout"]) / "tests/workloads/trouble"
    times: dict[str, float] = {}
    for lru, trouble in job["troubles"]:
        began = time.monotonic()
        name = f"{lru}-{trouble['name']}"
        choose_lru(lru)
        words = [word.replace("{disk}", str(DISK)) for word in trouble["command"]]
        command = [sys.executable, str(loads / words[0]), *words[1:], "--seconds", str(HOLD_S)]
        result = provoke(trouble, command, functools.partial(look, name), RUN)
        new = folder / f"{name}.new"
        new.write_text(json.dumps(result))
        new.rename(folder / f"{name}.json")
        times[name] = round(time.monotonic() - began, 1)
        print(name, times[name], "s", result["error"], flush=True)
    (folder / "done.json").write_text(json.dumps({"release": os.uname().release, "times": times}))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
