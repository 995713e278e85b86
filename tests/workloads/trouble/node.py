"""A full node: page cache and anonymous memory compete for node 0, again and again.

With ``vm.zone_reclaim_mode=1`` and nodes far apart, every allocation reclaims node 0 first, though the other node has
plenty (on the multi-generational LRU it frees nothing). With mode 0 and ``--bind`` or ``--cpuset`` the task may not
leave: kswapd and direct reclaim make room. With mode 0 and neither, it spills to the other node and nobody reclaims;
``--keep`` leaves the page cache alone then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from load import MIB, Load, anonymous, arguments, node_state, read_range, touch


def compete(fd: int, file_mib: int, anon_mib: int, keep: bool) -> Callable[[], object]:
    parts = itertools.cycle(range(0, file_mib - anon_mib, anon_mib))
    filled = []

    def work() -> None:
        if not filled:
            read_range(fd, 0, file_mib * MIB)
            filled.append(True)
        memory = anonymous(anon_mib)
        touch(memory)
        memory.close()
        if not keep:
            # What was given back becomes page cache again.
            read_range(fd, next(parts) * MIB, anon_mib * MIB)

    return work


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--file-mib", type=int, default=950, help="page cache to fill the node with")
    parser.add_argument("--anon-mib", type=int, default=300, help="memory to touch and give back")
    parser.add_argument("--bind", action="store_true", help="a memory policy forbids the other node")
    parser.add_argument("--cpuset", action="store_true", help="a cpuset forbids the other node")
    parser.add_argument("--processes", type=int, default=1, help="that share this work")
    parser.add_argument("--keep", action="store_true", help="read the file only once")
    options = parser.parse_args()
    with Load(options.seconds) as load:
        cgroup = None
        if options.cpuset:
            load.controller("cpuset")
            cgroup = load.cgroup({"cpuset.mems": "0"})
        file_mib, anon_mib = options.file_mib // options.processes, options.anon_mib // options.processes
        for _ in range(options.processes):
            work = compete(load.file(file_mib).fileno(), file_mib, anon_mib, options.keep)
            load.worker(work, "mmw-node", cgroup, node=0, bind=options.bind)
        load.run(lambda: load.counted() > 0, free_pages=node_state(0).free_pages)


if __name__ == "__main__":
    main()
