"""The same amount of reclaim without a tracer, under mmwatch, and under its rivals: CPU time of the load.

The load streams a fixed number of bytes through a memory cgroup that is too small. Its CPU time (user plus system)
includes what a tracer does inside it. The tracers take turns for several rounds, so that a busy machine affects all of
them alike, and the lowest time of each is compared. Rivals that are not installed or do not start are reported as such.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
LOAD = [sys.executable, "-m", "bench.load", "--limit-mib", "48", "--rounds", "3000", "--seconds", "60"]
BPFTRACE = """
tracepoint:vmscan:mm_vmscan_memcg_reclaim_begin { @start[tid] = nsecs; }
tracepoint:vmscan:mm_vmscan_memcg_reclaim_end /@start[tid]/ {
    @ns[pid] = hist(nsecs - @start[tid]); @pages[pid] = sum(args->nr_reclaimed); @calls[pid] = count();
    delete(@start[tid]);
}
tracepoint:vmscan:mm_vmscan_lru_shrink_inactive {
    @scanned[pid] = sum(args->nr_scanned); @priority[pid] = min(args->priority);
}
"""


# The rivals expect tracefs at its usual place. It is mounted there for them only.
WITH_TRACEFS = ["unshare", "-m", "sh", "-c", 'mount -t tracefs nodev /sys/kernel/tracing; exec "$@"', "sh"]


def tracers(folder: Path) -> dict[str, list[str]]:
    """The commands, by their name in the table."""
    mmwatch = [sys.executable, "-m", "mmwatch"]
    found = {
        "no tracer": [],
        "mmwatch top": [*mmwatch, "top", "-b"],
        "mmwatch record": [*mmwatch, "record", "-f", "-o", str(folder / "a.mmw")],
        "mmwatch record --detail batches": [*mmwatch, "record", "--detail=batches", "-f", "-o", str(folder / "b.mmw")],
        "bpftrace: time, pages, scans, priority": ["bpftrace", "-e", BPFTRACE],
        "trace-cmd record -e vmscan": ["trace-cmd", "record", "-e", "vmscan", "-o", str(folder / "trace.dat")],
        "perf record -e vmscan:*": ["perf", "record", "-q", "-a", "-e", "vmscan:*", "-o", str(folder / "perf.data")],
    }
    return {
        name: command if not command or command[0] == sys.executable else [*WITH_TRACEFS, *command]
        for name, command in found.items()
        if not command or shutil.which(command[0])
    }


def cpu_of_load(command: list[str]) -> float | None:
    """CPU seconds of one run of the load under a tracer; None if the tracer did not keep running."""
    tracer = None
    if command:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        tracer = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
        time.sleep(4)
        if tracer.poll() is not None:
            return None
    load = os.posix_spawn(LOAD[0], LOAD, os.environ)
    usage = os.wait4(load, 0)[2]
    if tracer is not None:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.wait(60)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        commands = tracers(Path(folder))
        best: dict[str, float | None] = {}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                if name in best and best[name] is None:
                    continue
                seconds = cpu_of_load(command)
                best[name] = None if seconds is None else min(seconds, best.get(name) or seconds)
    without = best["no tracer"]
    assert without is not None
    print("| tracer | CPU s of the load | ratio |")
    print("|---|---|---|")
    for name, seconds in best.items():
        if seconds is None:
            print(f"| {name} | does not run here | |")
        else:
            print(f"| {name} | {seconds:.2f} | {seconds / without:.2f} |")
    for name in ("bpftrace", "trace-cmd", "perf"):
        if not shutil.which(name):
            print(f"\n{name} is not installed.")


if __name__ == "__main__":
    main()
