"""Huge pages from a node that is full of page cache: each fault looks for 512 pages in a row.

One task reads a file so that node 0 stays full; another touches memory that may be huge and gives it back. With
``transparent_hugepage/defrag`` = always the fault reclaims and compacts by itself. Single pages of another file are
pinned all over the node, so that most blocks cannot be emptied.
"""

from __future__ import annotations

import itertools
import mmap
import os

from load import MIB, PAGE, Load, arguments, pin, read_range

HUGE = 2 * MIB


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--file-mib", type=int, default=1200, help="page cache to fill the node with")
    parser.add_argument("--pinned-mib", type=int, default=12)
    parser.add_argument("--huge-mib", type=int, default=200, help="memory to touch")
    options = parser.parse_args()
    with Load(options.seconds) as load:
        file = load.file(options.file_mib)
        other = load.file(options.pinned_mib)
        for each in (file, other):  # page by page, or single pages would all come from the same few blocks
            os.posix_fadvise(each.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        between = options.file_mib * MIB // (options.pinned_mib * MIB // PAGE) // PAGE * PAGE

        def fault() -> None:
            memory = mmap.mmap(-1, options.huge_mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.madvise(mmap.MADV_HUGEPAGE)
            for offset in range(0, len(memory), HUGE):
                memory[offset] = 1
            memory.close()

        scattered: list[tuple[int, int]] = []

        def read() -> None:
            if not scattered:
                offsets = itertools.count(0, between)
                scattered.extend(pin(other.fileno(), 0, options.pinned_mib, lambda: read_some(next(offsets))))
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_NORMAL)
            read_range(file.fileno(), 0, options.file_mib * MIB)

        def read_some(offset: int) -> None:
            read_range(file.fileno(), offset, between, between)

        load.worker(read, "mmw-read", node=0, bind=True)
        load.worker(fault, "mmw-huge", node=0, bind=True)
        load.run(lambda: load.counted() > 0 and load.moved("compact_stall") > 3)


if __name__ == "__main__":
    main()
