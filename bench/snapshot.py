"""From the kernel's table to sorted rows, while 10,000 threads reclaim.

Each round every thread reads a piece of a file through a memory cgroup that is too small, so that all rows change; then
one reading, folded by thread and sorted, is timed. CPU time, not wall time: the threads run meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
import time

from mmwatch.cli.observe import Observer, resolve_target, to_rows
from mmwatch.model.columns import BY_KEY, sort_order
from mmwatch.model.interval import Interval, Session
from mmwatch.model.snapshot import take

PROCESSES, THREADS = 20, 500
ROUNDS = 6


def main() -> None:
    """Print the table."""
    observer = Observer(resolve_target(), names=False)
    load = [sys.executable, "-m", "bench.load", "--processes", str(PROCESSES), "--threads", str(THREADS)]
    load += ["--chunk-kib", "1024", "--pause-s", "5", "--seconds", "70", "--limit-mib", "600"]
    print("| rows that changed | reading, ms of CPU | folded and sorted, ms of CPU | both |")
    print("|---|---|---|---|")
    with subprocess.Popen(load) as loading:
        time.sleep(20)
        try:
            for _ in range(ROUNDS):
                time.sleep(9)
                began = time.process_time()
                rows = to_rows(observer.tracer.read().rows)
                read = time.process_time()
                snapshot = take(Session(0.0), Interval(0.0, 10**9, rows), "thread")
                sort_order(snapshot, BY_KEY["stall"])
                done = time.process_time()
                times = (read - began, done - read, done - began)
                print(f"| {len(rows)} | " + " | ".join(f"{1e3 * seconds:.1f}" for seconds in times) + " |", flush=True)
        finally:
            observer.close()
            loading.wait()


if __name__ == "__main__":
    main()
