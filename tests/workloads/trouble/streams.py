"""Streaming reads of sparse files larger than the host: many at once are quicker than kswapd, a slow one is not.

With many readers on each node and little between the watermarks, tasks reclaim directly. With one slow reader kswapd
keeps up, which is healthy. ``--once``: one long file, never read again. ``--random``: the file is read again at random
places, so that what was evicted comes back.
"""

from __future__ import annotations

from load import MIB, PAGE, Load, anonymous, arguments, node_state, read_random, read_range, room_pages, touch


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--readers", type=int, default=8, help="on each node")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--mib", type=int, default=1024, help="length of each reader's file")
    parser.add_argument("--share", type=float, default=1.0, help="of a CPU, for each reader")
    parser.add_argument("--anon-mib", type=int, default=0, help="memory that each reader touches and gives back")
    parser.add_argument("--bind", action="store_true", help="to the memory of the node")
    parser.add_argument("--once", action="store_true", help="one file that is read for the whole time")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--until", default="pageoutrun", help="steady when this counter of /proc/vmstat rises")
    parser.add_argument("--any", action="store_true", help="steady as soon as it has begun")
    options = parser.parse_args()
    mib = 1 << 20 if options.once else options.mib
    with Load(options.seconds) as load:
        for node in range(options.nodes):
            for _ in range(options.readers):
                file = load.file(mib)

                def work(fd: int = file.fileno()) -> None:
                    if options.random:
                        read_random(fd, mib)
                    elif options.anon_mib:
                        memory = anonymous(options.anon_mib)
                        touch(memory)
                        read_range(fd, 0, mib * MIB, share=options.share)
                        memory.close()
                    else:
                        read_range(fd, 0, mib * MIB, share=options.share)

                load.worker(work, "mmw-stream", node=node, bind=options.bind)

        def steady() -> bool:
            states = [node_state(node) for node in range(options.nodes)]
            full = all(state.free_pages < state.high_pages + 16 * MIB // PAGE for state in states)
            return options.any or (full and load.moved(options.until) > 2)

        load.run(steady, room_pages=room_pages())


if __name__ == "__main__":
    main()
