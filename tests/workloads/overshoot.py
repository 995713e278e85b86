"""Overshoot: node reclaim of a node whose page cache belongs to many memory cgroups.

A reader goes through the cgroups and leaves some page cache in each until the node is full. Then a process outside the
cgroups touches memory there, with ``vm.zone_reclaim_mode=1``. Oracle: a kernel that walks all cgroups in each pass (up
to 6.10) takes a batch from each of them, though only one batch was asked for: at priority 4, where node reclaim begins,
a list of 512 pages yields 32, SWAP_CLUSTER_MAX.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os

from common import MIB, Workers, memory_cgroup, read_part, sparse_file
from founding import cpus_of, touch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--cgroups", type=int, default=150)
    parser.add_argument("--each-mib", type=int, default=6, help="page cache of each cgroup")
    parser.add_argument("--anon-mib", type=int, default=128, help="memory to touch")
    parser.add_argument("--node", type=int, default=0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, cpus_of(arguments.node))
    each = arguments.each_mib * MIB
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(sparse_file(arguments.cgroups * arguments.each_mib))
        cgroups = [
            stack.enter_context(memory_cgroup(4 * arguments.each_mib, f"-{number}"))
            for number in range(arguments.cgroups)
        ]

        def read() -> None:
            for number, cgroup in enumerate(cgroups):
                cgroup.add(0)
                read_part(file.fileno(), number * each, each)

        with Workers(cgroups[0]) as workers:
            workers.fork("mmw-reader", read)
            workers.run()
        touched_pages = touch(arguments.anon_mib)
        print(json.dumps({"pid": os.getpid(), "cgroups": arguments.cgroups, "touched_pages": touched_pages}))


if __name__ == "__main__":
    main()
