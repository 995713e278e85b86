"""Both kinds at once: one process streams a file, another writes to anonymous memory, in one memory cgroup with swap.

Oracle: all reclaim is by path memcg and by the two workers; file and anonymous pages are both reclaimed.
"""

from __future__ import annotations

import argparse

from common import MIB, Workers, done, memory_cgroup, read_part, sparse_file, swap_file, touch_anonymous


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file-mib", type=int, default=512)
    parser.add_argument("--anon-mib", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=48, help="limit of the cgroup, MiB")
    parser.add_argument("--huge", action="store_true", help="allow huge pages")
    arguments = parser.parse_args()
    with (
        swap_file(arguments.anon_mib + 16),
        sparse_file(arguments.file_mib) as file,
        memory_cgroup(arguments.limit) as cgroup,
    ):
        with Workers(cgroup) as workers:
            workers.fork("mmw-file", lambda: read_part(file.fileno(), 0, arguments.file_mib * MIB))
            workers.fork("mmw-anon", lambda: touch_anonymous(arguments.anon_mib, arguments.rounds, arguments.huge))
            workers.run()
        done(cgroup, workers.pids)


if __name__ == "__main__":
    main()
