"""Dirty memory and a slow device: writers fill node 0 with pages that wait to be written.

The cgroup of the writers may write little a second. With high dirty limits the node runs full of dirty pages before the
writers are stopped, so reclaim meets them and waits. ``--max`` limits their memory as well; then reclaim of the cgroup
meets them.
"""

from __future__ import annotations

import functools
import mmap
import os

from group import dirty_work
from load import DISK, MIB, Load, arguments, touch, vmstat


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--max", type=int, default=0, help="memory.max, MiB; none: as much as node 0 has")
    parser.add_argument("--mib", type=int, default=600, help="length of each file")
    parser.add_argument("--mapped", action="store_true", help="write through mappings")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write-mib-s", type=int, default=8, help="limit of the device")
    options = parser.parse_args()
    with Load(options.seconds) as load:
        load.controller("io")
        device = os.stat(DISK).st_dev
        io_max = f"{os.major(device)}:{os.minor(device)} wbps="
        limits = {"io.max": f"{io_max}{options.write_mib_s * MIB}"}
        if options.max:
            limits["memory.max"] = str(options.max * MIB)
        cgroup = load.cgroup(limits)
        # Otherwise ending the workers would wait for what is still to be written.
        load.relieve(lambda: (cgroup / "io.max").write_text(f"{io_max}max"))
        bind = not options.max
        for _ in range(options.processes):
            fd = load.file(options.mib).fileno()
            if options.mapped:
                work = functools.partial(touch, mmap.mmap(fd, options.mib * MIB))
            else:
                work = dirty_work(fd, options.mib)
            load.worker(work, "mmw-write", cgroup, node=0 if bind else None, bind=bind)

        def steady() -> bool:
            if options.max:
                return load.events("max") > 0
            found = vmstat()
            return found["nr_dirty"] + found["nr_writeback"] > 50_000 and load.moved("pageoutrun") > 0

        load.run(steady)


if __name__ == "__main__":
    main()
