"""The ladder: node reclaim that finds plenty of page cache but can free none of it.

Most of the node is anonymous memory without swap. The rest is page cache that pipes hold references to. With
``vm.zone_reclaim_mode=1``, touching memory then reclaims the node first. Oracle: the pages look reclaimable, so the
kernel tries at priority 4, 3, 2, 1 and 0, where it scans every page of the list. Nothing is freed, and /proc/vmstat
counts a failure (zone_reclaim_failed). The workload goes on until that has happened ``--times`` times.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import mmap
import os
import sys

from common import MIB, sparse_file
from founding import anonymous, bind_memory, cpus_of

F_SETPIPE_SZ = 1031  # include/uapi/linux/fcntl.h; in Python only from 3.10 on, as is os.splice
PIPE_BYTES = MIB


def counter(path: str, name: str, word: int) -> int:
    """A value from /proc/vmstat or from a node's meminfo."""
    with open(path) as file:
        return next(int(line.split()[word]) for line in file if name in line.split())


def pin(fd: int, mib: int) -> None:
    """Make pipes hold these pages of a file for as long as this process lives."""
    libc = ctypes.CDLL(None, use_errno=True)
    for begin in range(0, mib * MIB, PIPE_BYTES):
        _reader, writer = os.pipe()
        fcntl.fcntl(writer, F_SETPIPE_SZ, PIPE_BYTES)
        offset = ctypes.c_int64(begin)
        while offset.value < begin + PIPE_BYTES:
            left = ctypes.c_size_t(begin + PIPE_BYTES - offset.value)
            if libc.splice(fd, ctypes.byref(offset), writer, None, left, 0) <= 0:
                raise OSError(ctypes.get_errno(), "splice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file-mib", type=int, default=32, help="page cache that cannot be freed")
    parser.add_argument("--room-mib", type=int, default=64, help="memory to leave free; must exceed the high watermark")
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--touch-mib", type=int, default=160, help="give up after touching this much")
    parser.add_argument("--node", type=int, default=0)
    arguments = parser.parse_args()
    meminfo = f"/sys/devices/system/node/node{arguments.node}/meminfo"
    os.sched_setaffinity(0, cpus_of(arguments.node))
    with sparse_file(arguments.file_mib) as file:
        bind_memory(arguments.node)
        pin(file.fileno(), arguments.file_mib)
        full = anonymous(counter(meminfo, "MemFree:", 3) // 1024 - arguments.room_mib)
        for offset in range(0, len(full), mmap.PAGESIZE):
            full[offset] = 1
        bind_memory(None)
        before = counter("/proc/vmstat", "zone_reclaim_failed", 1)
        failed = touched_pages = 0
        more = anonymous(arguments.touch_mib)
        for offset in range(0, len(more), mmap.PAGESIZE):
            if failed >= arguments.times:
                break
            more[offset] = 1
            touched_pages += 1
            failed = counter("/proc/vmstat", "zone_reclaim_failed", 1) - before
        else:
            sys.exit(f"node reclaim failed only {failed} times")
        pinned_pages = arguments.file_mib * MIB // mmap.PAGESIZE
        print(json.dumps({"pids": [os.getpid()], "pinned_pages": pinned_pages, "touched_pages": touched_pages}))


if __name__ == "__main__":
    main()
