"""Soft limit (cgroup version 1): a group above its soft limit pays first when a node runs short.

Oracle: kswapd reclaims the group's page cache in separate brackets inside its own; the pages count once.
"""

from __future__ import annotations

import argparse
import json
import os

from common import MIB, Workers, memory_cgroup, read_part, sparse_file
from founding import bind_memory, cpus_of, touch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soft-limit", type=int, default=16, help="MiB")
    parser.add_argument("--file-mib", type=int, default=500, help="page cache of the group")
    parser.add_argument("--anon-mib", type=int, default=700, help="anonymous memory that another process touches")
    parser.add_argument("--node", type=int, default=0)
    arguments = parser.parse_args()
    length = arguments.file_mib * MIB
    os.sched_setaffinity(0, cpus_of(arguments.node))
    with sparse_file(arguments.file_mib) as file, memory_cgroup(4 * arguments.file_mib) as cgroup:
        (cgroup.path / "memory.soft_limit_in_bytes").write_text(f"{arguments.soft_limit}M")
        with Workers(cgroup) as workers:
            workers.fork("mmw-reader", lambda: read_part(file.fileno(), 0, length))
            workers.run()
        bind_memory(arguments.node)
        touch(arguments.anon_mib)
    print(json.dumps({"pid": os.getpid(), "soft_limit_pages": arguments.soft_limit * MIB // 4096}))


if __name__ == "__main__":
    main()
