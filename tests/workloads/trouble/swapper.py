"""More anonymous memory than fits, with swap: on node 0 only (``--bind``) or on the whole host.

``--zram`` swaps to compressed memory instead of a disk. ``--idle-full`` instead fills a small swap file and then rests:
swap is full, but nobody needs memory.
"""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable
from pathlib import Path

from load import MIB, PAGE, Load, anonymous, arguments, once, touch


def swap_used() -> float:
    """Share of the swap that is used."""
    lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    kib = {words[0]: int(words[1]) for words in lines}
    return 1 - kib["SwapFree:"] / max(kib["SwapTotal:"], 1)


def storm(load: Load, mib: int, processes: int, bind: bool, compressible: bool) -> None:
    each = mib // processes * MIB
    for _ in range(processes):
        load.worker(storm_work(each, compressible), "mmw-anon", node=0 if bind else None, bind=bind)


def storm_work(length: int, compressible: bool) -> Callable[[], object]:
    held: list[mmap.mmap] = []

    def work() -> None:
        if not held:
            held.append(anonymous(length // MIB))
            for offset in range(0, length, PAGE):
                # Pages that are all the same take no room in zram.
                held[0][offset : offset + PAGE] = os.urandom(PAGE // 4) * 4 if compressible else bytes(PAGE)
        for _ in range(256):
            held[0][random.randrange(length // PAGE) * PAGE] = 2

    return work


def idle_full(load: Load) -> None:
    load.swap_file(64)
    cgroup = load.cgroup({"memory.max": str(16 * MIB)})
    held = []

    def hold() -> None:
        held.append(anonymous(74))
        touch(held[0])

    load.worker(once(hold), "mmw-idle", cgroup)

    def full() -> bool:
        if swap_used() < 0.85:
            return False
        (cgroup / "memory.max").write_text("max")  # so that nobody stays at the limit
        return True

    load.run(full)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--anon-mib", type=int, default=1040, help="of all processes together")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--bind", action="store_true", help="to the memory of node 0")
    parser.add_argument("--zram", type=int, default=0, help="MiB of swap on zram")
    parser.add_argument("--idle-full", action="store_true")
    options = parser.parse_args()
    with Load(options.seconds) as load:
        if options.idle_full:
            idle_full(load)
            return
        if options.zram:
            load.zram(options.zram)
        storm(load, options.anon_mib, options.processes, options.bind, bool(options.zram))
        load.run(lambda: load.moved("pswpin") > 1000)


if __name__ == "__main__":
    main()
