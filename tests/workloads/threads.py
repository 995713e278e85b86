"""Many threads that reclaim, in a few processes. Each thread reads a little; only some run at a time.

Oracle: all reclaim is of file pages, by path memcg, and by threads of the workers. Nearly every thread reads more than
the cgroup has room for, so nearly every thread reclaims. ``threads`` of the result is their number.
"""

from __future__ import annotations

import argparse
import threading

from common import MIB, Workers, done, memory_cgroup, read_part, sparse_file

KIB = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--threads", type=int, default=10_000, help="total")
    parser.add_argument("-p", "--processes", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=100, help="threads running at once in each process")
    parser.add_argument("--kib", type=int, default=512, help="how much each thread reads")
    parser.add_argument("--limit", type=int, default=64, help="limit of the cgroup, MiB; kernel stacks count")
    arguments = parser.parse_args()
    threading.stack_size(256 * KIB)  # with 64, threads of Python 3.14 never free their memory
    each = arguments.threads // arguments.processes
    length = arguments.kib * KIB

    def work(first: int) -> None:
        todo = iter(range(first, first + each))
        for _ in range(0, each, arguments.at_once):
            group = [
                threading.Thread(target=read_part, args=(file.fileno(), part * length, length, 64 * KIB))
                for _, part in zip(range(arguments.at_once), todo)
            ]
            for thread in group:
                thread.start()
            for thread in group:
                thread.join()

    total_mib = each * arguments.processes * length // MIB + 1
    with sparse_file(total_mib) as file, memory_cgroup(arguments.limit) as cgroup:
        with Workers(cgroup) as workers:
            for number in range(arguments.processes):
                workers.fork("mmw-threads", lambda number=number: work(number * each))
            workers.run()
        done(cgroup, workers.pids, threads=each * arguments.processes)


if __name__ == "__main__":
    main()
