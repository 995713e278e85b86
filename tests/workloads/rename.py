"""A task that changes its name while it reclaims.

Oracle: it reclaims under both names and ends as ``mmw-after``.
"""

from __future__ import annotations

from common import MIB, Workers, done, memory_cgroup, name, read_part, sparse_file

LIMIT_MIB, READ_MIB = 16, 96


def main() -> None:
    def work() -> None:
        read_part(file.fileno(), 0, READ_MIB * MIB)
        name("mmw-after")
        read_part(file.fileno(), READ_MIB * MIB, READ_MIB * MIB)

    with sparse_file(2 * READ_MIB) as file, memory_cgroup(LIMIT_MIB) as cgroup, Workers(cgroup) as workers:
        workers.fork("mmw-before", work)
        workers.run()
        done(cgroup, workers.pids)


if __name__ == "__main__":
    main()
