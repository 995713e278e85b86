"""Reclaim that somebody asks for: an agent writes memory.reclaim, or drops all caches, while a reader needs them.

``--of cgroup`` writes to the cgroup's memory.reclaim, ``node`` to node 0's reclaim file, ``caches`` to drop_caches.
``--rest``: the agent is there and does nothing; with ``caches``, it dropped them once, before the look.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from load import MIB, Load, arguments, idle, read_range

NODE = Path("/sys/devices/system/node/node0/reclaim")
CACHES = Path("/proc/sys/vm/drop_caches")


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--of", choices=("cgroup", "node", "caches"), default="cgroup")
    parser.add_argument("--mib", type=int, default=16, help="asked for each time")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two")
    parser.add_argument("--file-mib", type=int, default=128)
    parser.add_argument("--value", default="3", help="written to drop_caches")
    parser.add_argument("--rest", action="store_true")
    options = parser.parse_args()
    with Load(options.seconds) as load:
        cgroup = load.cgroup({})
        file = load.file(options.file_mib)

        def ask() -> None:
            with contextlib.suppress(BlockingIOError):  # EAGAIN: it found less than that
                if options.of == "caches":
                    CACHES.write_text(options.value)
                elif options.of == "node":
                    NODE.write_text(f"{options.mib}M")
                else:
                    (cgroup / "memory.reclaim").write_text(f"{options.mib}M")
            time.sleep(options.pause)

        def read() -> None:
            read_range(file.fileno(), 0, options.file_mib * MIB)

        load.worker(read, "mmw-read", cgroup, node=0)
        if options.rest:
            if options.of == "caches":
                CACHES.write_text("3")
            load.worker(idle, "mmw-agent")
            load.run(lambda: load.counted() > 2)
        else:
            load.worker(ask, "mmw-agent", node=0)
            load.run(lambda: load.counted() > 0 and load.counted(1) > 2)


if __name__ == "__main__":
    main()
