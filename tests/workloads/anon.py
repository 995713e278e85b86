"""Anonymous memory with swap: processes that write to more memory than their cgroup may hold.

Oracle: there is hardly any page cache, so nearly all reclaim is of anonymous pages, by path memcg and by the workers
themselves, and pages are written to swap.
"""

from __future__ import annotations

import argparse

from common import Workers, done, memory_cgroup, swap_file, touch_anonymous


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--processes", type=int, default=2)
    parser.add_argument(
        "--mib", type=int, default=64, help="memory each process writes to; above the limit, since one may end first"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=int, default=48, help="limit of the cgroup, MiB")
    parser.add_argument("--huge", action="store_true", help="allow huge pages")
    arguments = parser.parse_args()
    with swap_file(arguments.mib * arguments.processes + 16), memory_cgroup(arguments.limit) as cgroup:
        with Workers(cgroup) as workers:
            for _ in range(arguments.processes):
                workers.fork("mmw-anon", lambda: touch_anonymous(arguments.mib, arguments.rounds, arguments.huge))
            workers.run()
        done(cgroup, workers.pids)


if __name__ == "__main__":
    main()
