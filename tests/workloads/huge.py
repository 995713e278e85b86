"""High order: huge pages are allocated from a node that is full of page cache.

Oracle: an allocation of order 9 that finds no free block causes direct reclaim by the same task, which asks for 512
pages each time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from pathlib import Path

from common import DISK
from founding import cpus_of, read_file

POOL = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"
ORDER = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file-mib", type=int, default=1000, help="page cache to fill the node with")
    parser.add_argument("--pages", type=int, default=150, help="huge pages to ask for")
    parser.add_argument("--node", type=int, default=0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, cpus_of(arguments.node))
    file = Path(DISK) / "huge"
    pool = Path(POOL.format(arguments.node))
    try:
        read_file(file, arguments.file_mib)
        pool.write_text(str(arguments.pages))
        found = int(pool.read_text())
    finally:
        with contextlib.suppress(OSError):
            pool.write_text("0")
        file.unlink()
    print(json.dumps({"pid": os.getpid(), "order": ORDER, "huge_pages": found}))


if __name__ == "__main__":
    main()
