"""Anonymous memory fills the host, there is no swap, and the files that are needed no longer fit.

One process on each node takes memory until only ``--room-mib`` of the host is free or page cache, and keeps it so while
others come and go. Another needs more page cache than that: pages of an executable (``--exec``) or of a file that it
reads at random places. The file is really on the disk, so each page that comes back is I/O.
"""

from __future__ import annotations

import mmap
import random
import time

from load import MIB, PAGE, Load, anonymous, arguments, read_random, room_pages, touch

STEP = MIB
NODE_MIB = 1500  # more than one process needs; the kernel refuses more than the host has


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--room-mib", type=int, default=200, help="what is left of the host")
    parser.add_argument("--file-mib", type=int, default=400, help="what is needed of the file")
    parser.add_argument("--exec", action="store_true", help="execute it instead of reading it")
    parser.add_argument("--shared", action="store_true", help="fill the host with shared memory (tmpfs)")
    parser.add_argument("--processes", type=int, default=2, help="that need it")
    options = parser.parse_args()
    with Load(options.seconds) as load:
        file = load.file(options.file_mib, sparse=False)
        code = mmap.mmap(file.fileno(), options.file_mib * MIB, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)

        def fill() -> None:
            memory = mmap.mmap(-1, NODE_MIB * MIB) if options.shared else anonymous(NODE_MIB)
            give_back = mmap.MADV_REMOVE if options.shared else mmap.MADV_DONTNEED
            top = 0
            while True:
                spare = room_pages() * PAGE - options.room_mib * MIB
                if spare > 2 * STEP and top + STEP <= len(memory):
                    step = min(spare // 4 // STEP * STEP or STEP, len(memory) - top)
                    touch(memory, top, top + step)
                    top += step
                elif spare < -8 * STEP and top > 8 * STEP:
                    top -= 8 * STEP
                    memory.madvise(give_back, top, 8 * STEP)
                else:
                    time.sleep(0.05)

        def execute() -> None:
            for _ in range(256):
                code[random.randrange(options.file_mib * MIB // PAGE) * PAGE]

        def read() -> None:
            read_random(file.fileno(), options.file_mib)

        for node in (0, 1):
            load.worker(fill, "mmw-fill", node=node)
        for _ in range(options.processes):
            load.worker(execute if options.exec else read, "mmw-exec" if options.exec else "mmw-read")
        load.run(
            lambda: load.moved("workingset_refault_file") > 2000 and room_pages() * PAGE < 2 * options.room_mib * MIB
        )


if __name__ == "__main__":
    main()
