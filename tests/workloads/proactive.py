"""Proactive reclaim: a task asks for memory back before anyone needs it.

Writes to ``memory.reclaim`` of a cgroup or to ``reclaim`` of a NUMA node. Oracle: the task that writes reclaims at
least as much as it asked for, and no allocation waits for it.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from common import MIB, Workers, memory_cgroup, read_part, sparse_file
from founding import cpus_of

NODE = "/sys/devices/system/node/node{}/reclaim"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", type=int, help="reclaim this node (default: the workload's cgroup)")
    parser.add_argument("--file-mib", type=int, default=256, help="page cache to reclaim from")
    parser.add_argument("--mib", type=int, default=128, help="how much to ask for")
    arguments = parser.parse_args()
    length = arguments.file_mib * MIB
    with sparse_file(arguments.file_mib) as file, memory_cgroup(2 * arguments.file_mib) as cgroup:
        if arguments.node is not None:
            os.sched_setaffinity(0, cpus_of(arguments.node))
        with Workers(cgroup) as workers:
            workers.fork("mmw-reader", lambda: read_part(file.fileno(), 0, length))
            workers.run()
        target = cgroup.path / "memory.reclaim" if arguments.node is None else Path(NODE.format(arguments.node))
        target.write_text(f"{arguments.mib}M")
        print(json.dumps({"pid": os.getpid(), "asked_pages": arguments.mib * MIB // 4096}))


if __name__ == "__main__":
    main()
