"""Streaming file read: processes and threads that read files larger than their memory cgroup.

Oracle: page cache of a sparse file is clean and used once, so all reclaim is of file pages, by path memcg and by the
workers themselves. Together they reclaim at least what they read, less the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from common import MIB, Workers, done, memory_cgroup, read_part, sparse_file


@contextlib.contextmanager
def below(cgroup: Path, name: str) -> Iterator[None]:
    """A child cgroup; without a name, none."""
    if not name:
        yield
        return
    (cgroup / name).mkdir()
    try:
        yield
    finally:
        (cgroup / name).rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--processes", type=int, default=2)
    parser.add_argument("-m", "--threads", type=int, default=1, help="in each process")
    parser.add_argument("--mib", type=int, default=256, help="how much each thread reads")
    parser.add_argument("--limit", type=int, default=32, help="limit of the cgroup, MiB")
    parser.add_argument("--comm", default="mmw-stream")
    parser.add_argument("--share", type=float, default=1.0, help="share of a CPU for each thread")
    parser.add_argument("--rounds", type=int, default=1, help="how often to read each part")
    parser.add_argument("--group", default="", help="child cgroup to put the workers in")
    parser.add_argument("--note", help="ignored; it only appears in the command line")
    arguments = parser.parse_args()
    length = arguments.mib * MIB
    parts = arguments.processes * arguments.threads

    def read(part: int) -> None:
        for _ in range(arguments.rounds):
            read_part(file.fileno(), part * length, length, share=arguments.share)

    def work(first: int) -> None:
        threads = [threading.Thread(target=read, args=(part,)) for part in range(first + 1, first + arguments.threads)]
        for thread in threads:
            thread.start()
        read(first)
        for thread in threads:
            thread.join()

    with sparse_file(arguments.mib * parts) as file, memory_cgroup(arguments.limit) as cgroup:
        with below(cgroup.path, arguments.group), Workers(cgroup) as workers:
            for number in range(arguments.processes):
                workers.fork(arguments.comm, lambda number=number: work(number * arguments.threads), arguments.group)
            workers.run()
        done(cgroup, workers.pids, pages_min=(arguments.mib * parts - arguments.limit) * MIB // 4096)


if __name__ == "__main__":
    main()
