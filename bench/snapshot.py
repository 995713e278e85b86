"""From the kernel's table to sorted rows, when all rows of 10,000 threads have changed.

Two CPUs cannot run that many threads that all reclaim within a second. So this fills the table through its mapping, as
the kernel side would: one row per thread, with new counts each round. It times what ``top`` does: one reading, folded
by thread and sorted. The first rounds pay for touching memory for the first time.
"""

from __future__ import annotations

import time

import numpy as np

from mmwatch.kernel.table import SHARED_ROWS
from mmwatch.model.arrangement import sort_order
from mmwatch.model.columns import BY_KEY
from mmwatch.model.interval import Interval, Session
from mmwatch.model.rows import from_table
from mmwatch.model.snapshot import take
from mmwatch.session.observer import Observer
from mmwatch.session.target import resolve_target

THREADS = 10_000
ROUNDS = 8
FIRST_ROW = SHARED_ROWS


def main() -> None:
    """Print the table."""
    observer = Observer(resolve_target(), names=False)
    try:
        table = observer.tracer._table.rows
        mine = slice(FIRST_ROW, FIRST_ROW + THREADS)
        number = np.arange(THREADS)
        table["state"][mine], table["path"][mine] = 1, 2
        table["tgid"][mine], table["tid"][mine] = 1000 + number // 4, 1000 + number
        print("| round | rows that changed | reading, ms | folding and sorting, ms | both |")
        print("|---|---|---|---|---|")
        for count in range(1, ROUNDS + 1):
            for name in ("events", "reclaims", "reclaimed_file_pages", "scanned_file_pages", "batches"):
                table[name][mine] += 32
            table["stall_ns"][mine] += (number * 100).astype(np.uint64)
            table["stall_histogram"][mine, 20] += 1
            began = time.perf_counter()
            rows = from_table(observer.tracer.read().rows)
            read = time.perf_counter()
            snapshot = take(Session(0.0), Interval(0.0, 10**9, rows), "thread")
            sort_order(snapshot, BY_KEY["stall"])
            done = time.perf_counter()
            times = (read - began, done - read, done - began)
            print(f"| {count} | {len(rows)} | " + " | ".join(f"{1e3 * seconds:.1f}" for seconds in times) + " |")
    finally:
        table["state"][mine] = 0
        observer.close()


if __name__ == "__main__":
    main()
