"""What mmwatch itself uses while 50 tasks reclaim: CPU and memory of the front end.

First ``top``: CPU is user plus system time of the process from the second interval to the last but one, divided by the
time between them. Start-up is not part of it. Then ``diagnose`` beside ``top``, from the command to its end, with the
process that compiles.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

SECONDS = 12
TASKS = 50
RUNS = 3


def cpu_ticks(pid: int) -> int:
    """User plus system time of a process, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@contextmanager
def load() -> Iterator[None]:
    """Tasks that reclaim for some seconds; at the end, wait for them."""
    command = [sys.executable, "-m", "bench.load", "--processes", str(TASKS), "--chunk-kib", "512", "--pause-s", "0.05"]
    with subprocess.Popen([*command, "--seconds", str(SECONDS + 4)]):
        yield


def measure(options: list[str], line_is_interval: bool) -> tuple[float, float, int]:
    """Share of one CPU, resident MiB, and number of tasks seen."""
    command = [sys.executable, "-m", "mmwatch", "top", "-i", "1", "-n", str(SECONDS), *options]
    with load(), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
        assert top.stdout is not None
        shares, tasks, resident_kib, ticks, intervals = [], 0, 0, 0, 0
        for line in top.stdout:
            if line_is_interval:
                found = json.loads(line)
                tasks = max(tasks, len(found["rows"]))
                shares.append(found["cost"]["cpu_ns"] / 1e9 / found["session"]["duration_s"])
            elif line.startswith("NODE"):
                tasks = max(tasks, TASKS)
            else:
                continue
            intervals += 1
            if intervals == 2:
                ticks = cpu_ticks(top.pid)
            if intervals == SECONDS - 1:
                share = (cpu_ticks(top.pid) - ticks) / 100 / (SECONDS - 3)
                status = Path(f"/proc/{top.pid}/status").read_text()
                resident_kib = int(status.partition("VmRSS:")[2].split()[0])
    return share, resident_kib / 1024, tasks


def whole(words: list[str]) -> tuple[float, float]:
    """CPU seconds of a command and its children, and the resident MiB of the largest of them."""
    command = [sys.executable, "-m", "mmwatch", *words]
    with load(), subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):
        sys.exit(f"bench: {' '.join(words)} ended with exit status {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print the tables."""
    print("| command | of one CPU | resident | rows |")
    print("|---|---|---|---|")
    for name, options, is_interval in (("top -b -i 1", ["-b"], False), ("top --json -i 1", ["--json"], True)):
        share, resident_mib, tasks = measure(options, is_interval)
        print(f"| `mmwatch {name}` | {share:.2%} | {resident_mib:.0f} MiB | {tasks} |")
    print(f"\n| command, from start to end, median of {RUNS} | CPU seconds | largest process |")
    print("|---|---|---|")
    for name in ("diagnose -d 10", "top -b -i 1 -n 10", "diagnose --no-trace"):
        runs = [whole(name.split()) for _ in range(RUNS)]
        seconds, resident_mib = (median(figures) for figures in zip(*runs))
        print(f"| `mmwatch {name}` | {seconds:.2f} | {resident_mib:.0f} MiB |")


if __name__ == "__main__":
    main()
