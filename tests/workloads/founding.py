"""The founding case: a node full of page cache, then anonymous memory that prefers that node.

Reads a file on the CPUs of a node until the page cache holds all of it, then touches anonymous memory there, page by
page. With ``vm.zone_reclaim_mode=1`` and nodes that are far apart, each allocation reclaims the node first: it frees
some pages on the classic LRU and none on the multi-generational one. With mode 0 the pages come from the next node;
``--bind`` forbids that, so kswapd and direct reclaim make room.

Prints one JSON object: what it did, and what that cost.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import mmap
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

MIB = 1 << 20
CHUNK = 1 << 20
ROUNDS_MAX = 10
MPOL_BIND, MPOL_DEFAULT = 2, 0  # include/uapi/linux/mempolicy.h
SYS_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
MADV_HUGEPAGE, MADV_NOHUGEPAGE = 14, 15


def cpus_of(node: int) -> set[int]:
    found: set[int] = set()
    for part in Path(f"/sys/devices/system/node/node{node}/cpulist").read_text().strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def bind_memory(node: int | None) -> None:
    """From now on, allocate only from this node; None: from any node again."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = SYS_SET_MEMPOLICY[os.uname().machine]
    mask = None if node is None else ctypes.byref(ctypes.c_ulong(1 << node))
    if libc.syscall(number, MPOL_BIND if mask else MPOL_DEFAULT, mask, 64 if mask else 0) != 0:
        raise OSError(ctypes.get_errno(), "set_mempolicy")


def read_file(path: Path, mib: int) -> int:
    """Read ``mib`` of a file that is one big hole: its pages are ordinary page cache but take no disk."""
    with path.open("ab") as file:
        file.truncate(mib * MIB)
    done = 0
    buffer = bytearray(CHUNK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            done += count
    return done


def anonymous(mib: int, huge: bool = False) -> mmap.mmap:
    """Map ``mib`` of anonymous memory, in small pages or in huge ones."""
    memory = mmap.mmap(-1, mib * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(MADV_HUGEPAGE if huge else MADV_NOHUGEPAGE)
    return memory


def touch(mib: int, huge: bool = False, then: Callable[[], object] = lambda: None) -> int:
    """Touch ``mib`` of anonymous memory, one small page at a time; the number of pages.

    :param then: called before the memory is freed.
    """
    if not mib:
        return 0
    memory = anonymous(mib, huge)
    for offset in range(0, len(memory), mmap.PAGESIZE):
        memory[offset] = 1
    then()
    return len(memory) // mmap.PAGESIZE


def touch_together(mib: int, huge: bool, processes: int) -> list[int]:
    """The same by several processes at once. Each touches a share and keeps it until all have theirs.

    :returns: their PIDs.
    """
    had, has = os.pipe()
    held, hold = os.pipe()
    pids = []
    for _ in range(processes):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(hold)
                # The first pipe reaches EOF when all have theirs or were killed; then the second does.
                touch(mib // processes, huge, lambda: (os.close(has), os.read(held, 1)))
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    os.close(has)
    os.read(had, 1)
    for descriptor in (hold, held, had):
        os.close(descriptor)
    if any(os.waitpid(pid, 0)[1] for pid in pids):
        sys.exit("a process that touched memory failed")
    return pids


def stalls() -> int:
    """Number of direct reclaims: allocstall of /proc/vmstat."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return sum(int(value) for name, value in map(str.split, lines) if name.startswith("allocstall"))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, required=True, help="file on a real file system; created if missing")
    parser.add_argument("--file-mib", type=int, default=950, help="how much of the file to read (default 950)")
    parser.add_argument("--anon-mib", type=int, default=500, help="how much memory to touch (default 500)")
    parser.add_argument("--huge", action="store_true", help="allow huge pages")
    parser.add_argument("--node", type=int, default=0, help="node to run on (default 0)")
    parser.add_argument("--bind", action="store_true", help="forbid other nodes")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the work (default 1: this one)")
    parser.add_argument("--stalls", type=int, default=0, help="repeat until there were this many direct reclaims")
    arguments = parser.parse_args(argv)
    os.sched_setaffinity(0, cpus_of(arguments.node))
    if arguments.bind:
        bind_memory(arguments.node)
    began = time.monotonic()
    read_bytes = read_file(arguments.file, arguments.file_mib)
    read_s = time.monotonic() - began
    before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
    began = time.monotonic()
    pids = [os.getpid()]
    if arguments.processes > 1:
        stalled = stalls()
        pids, touched_pages = [], 0
        for _ in range(ROUNDS_MAX):
            pids += touch_together(arguments.anon_mib, arguments.huge, arguments.processes)
            touched_pages += arguments.anon_mib // arguments.processes * arguments.processes * MIB // mmap.PAGESIZE
            if stalls() - stalled >= arguments.stalls:
                break
        else:
            sys.exit(f"kswapd was quick enough, {ROUNDS_MAX} times over")
    else:
        touched_pages = touch(arguments.anon_mib, arguments.huge)
    print(
        json.dumps(
            {
                "pids": pids,
                "read_pages": read_bytes // mmap.PAGESIZE,
                "read_s": round(read_s, 3),
                "touched_pages": touched_pages,
                "touch_s": round(time.monotonic() - began, 3),
                "touch_system_s": round(resource.getrusage(resource.RUSAGE_SELF).ru_stime - before, 3),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
