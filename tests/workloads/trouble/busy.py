"""Busy, but not with reclaim: system calls (``--of calls``), reads past the page cache (``--of reads``), or a little
memory that always fits (``--of memory``)."""

from __future__ import annotations

import mmap
import os
import tempfile

from load import DISK, MIB, Load, anonymous, arguments, touch


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--of", choices=("calls", "reads", "memory"), default="calls")
    options = parser.parse_args()
    with Load(options.seconds) as load:
        buffer = mmap.mmap(-1, MIB)
        zero = os.open("/dev/zero", os.O_RDONLY)

        def calls() -> None:
            for _ in range(1000):
                os.getppid()
            for _ in range(16):
                os.preadv(zero, [buffer], 0)

        def memory() -> None:
            found = anonymous(32)
            touch(found)
            found.close()

        path = ""
        if options.of == "reads":
            with tempfile.NamedTemporaryFile(dir=DISK, delete=False) as file:
                path = file.name
                load.undo(lambda: os.unlink(path))
                for _ in range(64):
                    file.write(os.urandom(MIB))
                file.flush()
                os.fsync(file.fileno())

        def reads() -> None:
            direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
            for number in range(64):
                os.preadv(direct, [buffer], number * MIB)
            os.close(direct)

        work = {"calls": calls, "reads": reads, "memory": memory}[options.of]
        for node in (0, 1):
            load.worker(work, f"mmw-{options.of}", node=node)
        load.run(lambda: load.counted() > 0)


if __name__ == "__main__":
    main()
