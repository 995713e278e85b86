"""What ``mmwatch top`` itself uses while 50 tasks reclaim: CPU and memory of the front end.

CPU is user plus system time of the whole process from the second interval to the last but one, divided by the time
between them. Start-up is not part of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SECONDS = 12
TASKS = 50


def cpu_ticks(pid: int) -> int:
    """User plus system time of a process, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def measure(options: list[str], line_is_interval: bool) -> tuple[float, float, int]:
    """Share of one CPU, resident MiB, and number of tasks seen."""
    load = [sys.executable, "-m", "bench.load", "--processes", str(TASKS), "--chunk-kib", "512", "--pause-s", "0.05"]
    with subprocess.Popen([*load, "--seconds", str(SECONDS + 4)]) as loading:
        command = [sys.executable, "-m", "mmwatch", "top", "-i", "1", "-n", str(SECONDS), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
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
        loading.wait()
    return share, resident_kib / 1024, tasks


def main() -> None:
    """Print the table."""
    print("| command | of one CPU | resident | rows |")
    print("|---|---|---|---|")
    for name, options, is_interval in (("top -b -i 1", ["-b"], False), ("top --json -i 1", ["--json"], True)):
        share, resident_mib, tasks = measure(options, is_interval)
        print(f"| `mmwatch {name}` | {share:.2%} | {resident_mib:.0f} MiB | {tasks} |")


if __name__ == "__main__":
    main()
