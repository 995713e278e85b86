"""Kernel memory that nobody can reclaim: messages that wait in sockets, beside a task that reads files.

The messages fill node 0, or a cgroup (``--max``).
"""

from __future__ import annotations

import os
import socket

from load import MIB, Load, arguments, idle, read_range

SO_SNDBUFFORCE = 32
MESSAGE = bytes(3500)  # with its header just below 4 KiB, one object of slab
PER_SOCKET = 8 * MIB


def send(mib: int) -> list[socket.socket]:
    """Sockets that hold this much kernel memory."""
    held = []
    for _ in range(0, mib * MIB, PER_SOCKET):
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pair[0].setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 * MIB)
        for _ in range(PER_SOCKET // 4096):
            pair[0].send(MESSAGE)
        held += pair
    return held


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--mib", type=int, default=700, help="of messages")
    parser.add_argument("--max", type=int, default=0, help="memory.max, MiB; none: on node 0")
    parser.add_argument("--file-mib", type=int, default=600, help="that is read meanwhile")
    options = parser.parse_args()
    with Load(options.seconds) as load:
        cgroup = load.cgroup({"memory.max": str(options.max * MIB)}) if options.max else None
        node, bind = (None, False) if options.max else (0, True)
        file = load.file(options.file_mib)
        sent = load.file(1)  # what the sender tells the reader, across the fork

        def pins() -> None:
            held = send(options.mib)
            os.pwrite(sent.fileno(), b"1", 0)
            idle()
            del held

        def read() -> None:
            read_range(file.fileno(), 0, options.file_mib * MIB)

        load.worker(pins, "mmw-slab", cgroup, node, bind)
        load.worker(read, "mmw-read", cgroup, node, bind)

        def steady() -> bool:
            if os.pread(sent.fileno(), 1, 0) != b"1":
                return False
            if options.max:
                return load.events("max") > 0
            return load.moved("pageoutrun") > 2

        load.run(steady)


if __name__ == "__main__":
    main()
