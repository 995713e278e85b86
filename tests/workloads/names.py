"""Looks up names that do not exist, more than their memory cgroup can remember.

Oracle: what fills the cgroup is negative dentries, which only the shrinker of file systems frees (super_cache_scan).
"""

from __future__ import annotations

import argparse
import os

from common import DISK, Workers, done, memory_cgroup


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, default=250_000, help="for each of two processes")
    parser.add_argument("--limit", type=int, default=64, help="limit of the cgroup, MiB")
    arguments = parser.parse_args()

    def work(worker: int) -> None:
        for number in range(arguments.names):
            os.access(f"{DISK}/there-is-no-file-of-this-long-name-{os.getpid()}-{worker}-{number}", os.F_OK)

    with memory_cgroup(arguments.limit) as cgroup, Workers(cgroup) as workers:
        for worker in range(2):
            workers.fork("mmw-names", lambda worker=worker: work(worker))
        workers.run()
        done(cgroup, workers.pids)


if __name__ == "__main__":
    main()
