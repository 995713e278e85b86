"""Streaming file read: processes and threads that read files larger than their memory cgroup.

Oracle: page cache of a sparse file is clean and used once, so all reclaim is of file pages, by path memcg, by the
workers themselves; together they reclaim at least what was read less the limit.
"""

from __future__ import annotations

import argparse
import threading

from common import MIB, Workers, done, memory_cgroup, read_part, sparse_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--processes", type=int, default=2)
    parser.add_argument("-m", "--threads", type=int, default=1, help="in each process")
    parser.add_argument("--mib", type=int, default=256, help="each thread reads so much")
    parser.add_argument("--limit", type=int, default=32, help="of the cgroup, MiB")
    parser.add_argument("--comm", default="mmw-stream")
    arguments = parser.parse_args()
    length = arguments.mib * MIB
    parts = arguments.processes * arguments.threads

    def work(first: int) -> None:
        threads = [
            threading.Thread(target=read_part, args=(file.fileno(), part * length, length))
            for part in range(first + 1, first + arguments.threads)
        ]
        for thread in threads:
            thread.start()
        read_part(file.fileno(), first * length, length)
        for thread in threads:
            thread.join()

    with sparse_file(arguments.mib * parts) as file, memory_cgroup(arguments.limit) as cgroup:
        with Workers(cgroup) as workers:
            for number in range(arguments.processes):
                workers.fork(arguments.comm, lambda number=number: work(number * arguments.threads))
            workers.run()
        done(cgroup, workers.pids, pages_min=(arguments.mib * parts - arguments.limit) * MIB // 4096)


if __name__ == "__main__":
    main()
