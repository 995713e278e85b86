"""Time from the command to its first data, and memory of the whole process.

The clock runs from before the interpreter starts to the first byte of output. Less the interval asked for (50 ms), that
is the start-up time. The best of several runs counts, since noise only ever makes a start slower.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

RUNS = 7
INTERVAL_S = 0.05


def first_byte_s(command: list[str]) -> float:
    """Seconds until a command prints its first byte."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 1)
        seconds = time.monotonic() - began
        process.communicate()
    if not first or process.returncode:
        sys.exit(f"bench: {' '.join(command)} ended with {process.returncode}")
    return seconds


def main() -> None:
    """Print the table."""
    mmwatch = [sys.executable, "-m", "mmwatch"]
    commands = {
        "top --json": [*mmwatch, "top", "--json", "-n", "1", "-i", str(INTERVAL_S)],
        "top -b": [*mmwatch, "top", "-b", "-n", "1", "-i", str(INTERVAL_S)],
    }
    print("| command | first data after, s (best of 7) | median |")
    print("|---|---|---|")
    for name, command in commands.items():
        times = sorted(first_byte_s(command) - INTERVAL_S for _ in range(RUNS))
        print(f"| `mmwatch {name}` | {times[0]:.2f} | {times[RUNS // 2]:.2f} |")
    times = sorted(first_byte_s([*mmwatch, "--help"]) for _ in range(RUNS))
    print(f"| `mmwatch --help` | {times[0]:.2f} | {times[RUNS // 2]:.2f} |")
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"\nPeak resident memory of the largest of these: {peak_kib / 1024:.0f} MiB (most of it LLVM).")


if __name__ == "__main__":
    main()
