"""From the last reading to the verdict, by the number of threads that reclaim.

Ten intervals of made-up rows at the limit of a cgroup: all threads have changed in each. It times what diagnose does
after its last reading: the interval added to the others, and the rules.
"""

from __future__ import annotations

import time

import numpy as np

from mmwatch.diagnosis.gathering import Gathering
from mmwatch.diagnosis.judge import judge
from mmwatch.model.interval import CgroupMemory, Interval, Session
from mmwatch.model.measures import PATHS
from mmwatch.model.rows import ROW_DTYPE

THREADS = (1, 100, 1_000, 18_000)
INTERVALS = 10
NS = 10**9


def interval(threads: int) -> Interval:
    """A second in which each thread reclaims for a tenth."""
    rows = np.zeros(threads, ROW_DTYPE)
    number = np.arange(threads)
    rows["tgid"], rows["tid"], rows["start_ns"] = 1000 + number // 4, 1000 + number, 1
    rows["path"], rows["cgroup_id"] = PATHS.index("memcg"), 7
    rows["stall_ns"], rows["reclaims"], rows["asked_pages"], rows["reported_pages"] = NS // 10, 10, 320, 320
    memory = CgroupMemory(1 << 30, None, 1 << 30, 5, {"max": 10, "workingset_refault_file": 200}, {})
    return Interval(NS, NS, rows, {"pgsteal_file": 1}, cgroups={7: "/app"}, cgroup_memory={7: memory})


def main() -> None:
    """Print the table."""
    print("| threads | adding the last interval, ms | judging, ms |")
    print("|---|---|---|")
    for threads in THREADS:
        gathering = Gathering()
        for _ in range(INTERVALS - 1):
            gathering.add(interval(threads))
        last = interval(threads)
        began = time.perf_counter()
        gathering.add(last)
        added = time.perf_counter()
        verdict = judge(gathering.observation(Session(0.0)))
        judged = time.perf_counter()
        assert verdict.status == "finding"
        print(f"| {threads} | {1e3 * (added - began):.1f} | {1e3 * (judged - added):.1f} |")


if __name__ == "__main__":
    main()
