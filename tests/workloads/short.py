"""Tasks that live for milliseconds and reclaim, one after the other, each a separate program.

Oracle: the cgroup is full before they start, so each has to reclaim. Each has its own command line, which ends with the
MiB of the file where it starts reading. They are named dd or, with ``--live``, python3 (whatever this Python is named).
The first PID printed is that of the process that starts them.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from common import MIB, Workers, done, memory_cgroup, read_part, sparse_file

LIVE = """import os, sys, time
fd, mib, live_ms, skip = map(int, sys.argv[1:])
buffer = bytearray(1 << 20)
for number in range(skip, skip + mib):
    os.preadv(fd, [buffer], number << 20)
time.sleep(live_ms / 1000)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--tasks", type=int, default=40)
    parser.add_argument("--mib", type=int, default=16, help="how much each task reads")
    parser.add_argument("--live", type=int, metavar="MS", help="how long each task stays alive after reading")
    parser.add_argument("--limit", type=int, default=24, help="limit of the cgroup, MiB")
    arguments = parser.parse_args()
    results, results_in = os.pipe()

    def work() -> None:
        fd = file.fileno()
        os.set_inheritable(fd, True)
        silent = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
        read_part(fd, 0, arguments.limit * MIB)
        for number in range(arguments.tasks):
            skip = arguments.limit + number * arguments.mib
            words = ["dd", f"if=/proc/self/fd/{fd}", "of=/dev/null", "bs=1M", f"count={arguments.mib}", f"skip={skip}"]
            if arguments.live:
                words = [sys.executable, "-IS", "-c", LIVE, *map(str, (fd, arguments.mib, arguments.live, skip))]
            pid = os.posix_spawnp(words[0], words, os.environ, file_actions=silent)
            os.write(results_in, f"{pid}\n".encode())
            if os.waitpid(pid, 0)[1]:
                sys.exit("a task failed")

    with (
        sparse_file(arguments.limit + arguments.tasks * arguments.mib) as file,
        memory_cgroup(arguments.limit) as cgroup,
    ):
        with Workers(cgroup) as workers:
            workers.fork("mmw-short", work)
            workers.run()
        os.close(results_in)
        with os.fdopen(results) as lines:
            pids = [int(line) for line in lines]
        comm = Path(sys.executable).name if arguments.live else "dd"
        done(cgroup, [*workers.pids, *pids], comm=comm, first=arguments.limit, step=arguments.mib)


if __name__ == "__main__":
    main()
