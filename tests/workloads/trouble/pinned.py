"""kswapd without hope: node 0 is full of what cannot be freed, and short of memory.

Anonymous memory (there is no swap) and page cache that is pinned in pipes fill node 0 until its free memory is between
the min and low watermarks. A task bound there allocates a little and gives it back, which wakes kswapd each time.
After 16 failures it gives up. With ``--reset``, a cgroup on the same node reclaims its own cache: that makes the
kernel forget the failures, and kswapd starts again. With ``--huge`` the task asks for huge pages, which may fail, so it
reclaims directly without progress. With ``--stream``, once kswapd has given up, another reads a long file on the node.
"""

from __future__ import annotations

import mmap
import time

from load import MIB, PAGE, Load, anonymous, arguments, idle, node_state, pin, read_range, touch

STEP = MIB // 4
HUGE = 2 * MIB
FORGET_S = 10.0
ENDLESS_MIB = 1 << 20


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--pinned-mib", type=int, default=64, help="page cache in pipes")
    parser.add_argument("--reset", action="store_true", help="make the kernel forget kswapd's failures")
    parser.add_argument("--huge", action="store_true", help="ask for huge pages")
    parser.add_argument("--stream", action="store_true", help="read a long file once kswapd has given up")
    parser.add_argument("--shared", action="store_true", help="shared memory (tmpfs) instead of anonymous")
    parser.add_argument("--latched", action="store_true", help="steady when kswapd has given up")
    options = parser.parse_args()
    with Load(options.seconds) as load:
        file = load.file(options.pinned_mib)
        stream = load.file(256)
        long = load.file(ENDLESS_MIB)

        def fill() -> None:
            read_range(file.fileno(), 0, options.pinned_mib * MIB)
            pipes = list(pin(file.fileno(), 0, options.pinned_mib))
            memory = mmap.mmap(-1, 1024 * MIB) if options.shared else anonymous(1024)
            give_back = mmap.MADV_REMOVE if options.shared else mmap.MADV_DONTNEED
            top = 0
            while pipes:
                state = node_state(0)
                if options.stream and state.kswapd_gave_up:
                    idle()  # as it is
                # A quarter of the way from min to low: kswapd is wanted, allocations succeed.
                spare = state.free_pages - state.min_pages - (state.low_pages - state.min_pages) // 4
                if spare > STEP // PAGE:
                    step = min((spare // 2 * PAGE) // STEP * STEP or STEP, len(memory) - top)
                    touch(memory, top, top + step)
                    top += step
                elif spare < -(STEP // PAGE) and top:
                    top -= STEP
                    memory.madvise(give_back, top, STEP)
                else:
                    time.sleep(0.05)

        def allocate() -> None:
            state = node_state(0)
            if state.free_pages > state.low_pages:
                time.sleep(0.1)  # not full yet
                return
            # Some more huge pages than are free, so that few small ones must do instead: at the min watermark the next
            # would kill somebody. Or a little in small ones.
            spare = max(state.free_pages - state.min_pages, 0) * PAGE // HUGE
            length, step = ((spare + 3) * HUGE, HUGE) if options.huge else (STEP, PAGE)
            memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.madvise(mmap.MADV_HUGEPAGE if options.huge else mmap.MADV_NOHUGEPAGE)
            for offset in range(0, length, step):
                memory[offset] = 1
            memory.close()
            time.sleep(0.002)

        load.worker(fill, "mmw-fill", node=0, bind=True)
        load.worker(allocate, "mmw-allocate", node=0, bind=True)
        if options.reset:
            small = load.cgroup({"memory.max": str(4 * MIB)})
            load.worker(lambda: read_range(stream.fileno(), 0, 256 * MIB, share=0.5), "mmw-reset", small, 0, True)
        else:
            load.worker(idle, "mmw-idle")

        def read() -> None:
            if node_state(0).kswapd_gave_up:
                read_range(long.fileno(), 0, ENDLESS_MIB * MIB)
            time.sleep(0.1)

        if options.stream:
            load.worker(read, "mmw-stream", node=0, bind=True)

        def forget() -> None:
            """Have the node reclaimed, or kswapd would stay as it is when all is over."""
            with Load(0) as last:
                cgroup = last.cgroup({"memory.max": str(4 * MIB)})
                last.worker(lambda: read_range(stream.fileno(), 0, 256 * MIB), "mmw-forget", cgroup, 0, True)
                end = time.monotonic() + FORGET_S
                while last.events("max") < 10 and time.monotonic() < end:
                    time.sleep(0.1)

        load.undo(forget)

        def reset() -> bool:
            return load.events("max") > 0

        def steady() -> bool:
            state = node_state(0)
            done = state.free_pages < state.low_pages and load.counted(1) > 10 and load.moved("pageoutrun") > 2
            return done and (not options.latched or bool(state.kswapd_gave_up)) and (not options.reset or reset())

        load.run(steady)


if __name__ == "__main__":
    main()
