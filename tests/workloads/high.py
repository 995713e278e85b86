"""Above memory.high with nothing to reclaim: processes that write to more anonymous memory, without swap.

Oracle: the scheduler's account of each worker. The time that it neither ran nor waited for a CPU, it slept: above
memory.high, outside of reclaim, or else in reclaim.
"""

from __future__ import annotations

import argparse
import mmap
import struct
import time
from pathlib import Path

from common import MIB, Workers, done, memory_cgroup


def used_ns() -> int:
    """Time that this thread has run or waited for a CPU."""
    ran, waited, _ = Path("/proc/thread-self/schedstat").read_text().split()
    return int(ran) + int(waited)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--processes", type=int, default=2)
    parser.add_argument("--high", type=int, default=8, help="memory.high, MiB")
    parser.add_argument("--seconds", type=float, default=10, help="how long each writes")
    arguments = parser.parse_args()
    blocked = mmap.mmap(-1, mmap.PAGESIZE)  # of each worker, nanoseconds

    def work(number: int) -> None:
        memory = mmap.mmap(-1, 1024 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        struct.pack_into("q", blocked, 8 * number, 0)  # the first touch, which may be charged, and sleep
        began, used = time.monotonic_ns(), used_ns()
        for offset in range(0, 1024 * MIB, mmap.PAGESIZE):
            memory[offset] = 1
            if time.monotonic_ns() - began > arguments.seconds * 1e9:
                break
        # In this order, since opening a file is charged, and may sleep on its way back.
        used = used_ns() - used
        struct.pack_into("q", blocked, 8 * number, time.monotonic_ns() - began - used)

    with memory_cgroup(1024) as cgroup:
        (cgroup.path / "memory.high").write_text(str(arguments.high * MIB))
        with Workers(cgroup) as workers:
            for number in range(arguments.processes):
                workers.fork("mmw-high", lambda number=number: work(number))
            workers.run()
        done(cgroup, workers.pids, blocked_ns=struct.unpack_from(f"{arguments.processes}q", blocked))


if __name__ == "__main__":
    main()
