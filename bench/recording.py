"""Writing and reading recordings: rates, size on disk, and memory, without the kernel's part.

Each line of the table is a separate process. One that reads uses the file that an earlier line wrote. ``peak`` is its
largest resident memory, which includes about 35 MiB for Python and numpy.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmwatch.model.interval import Interval, Node, Process, Session
from mmwatch.model.records import RECORD_DTYPE
from mmwatch.model.rows import ROW_DTYPE, Rows
from mmwatch.recording import Reader, Writer, fold

RECORDS = 1_000_000
RECORDS_AT_ONCE = 5_000
"""As many as one drain of the ring buffer yields."""
SECONDS, ROWS = 3600, 50
DAY_SECONDS, DAY_ROWS = 80_000, 2
MANY_INTERVALS, MANY_ROWS = 100, 10_000


def some_rows(count: int, first_tgid: int = 1000) -> Rows:
    """Rows like those of page cache reclaim in a memory cgroup: half of the measures are 0, ten buckets of times."""
    random = np.random.default_rng(first_tgid)
    rows = np.zeros(count, ROW_DTYPE)
    rows["tgid"] = rows["tid"] = np.arange(first_tgid, first_tgid + count)
    rows["path"] = 2
    rows["node"] = random.integers(0, 4, count)
    rows["cgroup_id"] = random.integers(4000, 4005, count)
    rows["start_ns"] = rows["tgid"]
    rows["comm"] = [b"worker%d" % (number % 1000) for number in range(count)]
    for name in ("reclaims", "asked_pages", "reported_pages", "scanned_file_pages", "reclaimed_file_pages", "stall_ns"):
        rows[name] = random.integers(1, 100_000, count)
    for name in ("batches", "activated_pages", "shrinker_calls", "shrinker_ns", "stall_max_ns", "reclaimed_max_pages"):
        rows[name] = random.integers(1, 1000, count)
    rows["gfp_flags"] = 0x140CCA
    rows["stall_histogram"][:, 25:35] = random.integers(1, 100, (count, 10))
    rows["priority_histogram"][:, 10:] = random.integers(1, 100, (count, 3))
    rows["order_histogram"][:, 0] = rows["reclaims"]
    return rows


def some_interval(number: int, rows: Rows) -> Interval:
    return Interval(
        end_s=1_700_000_000.0 + number,
        duration_ns=10**9,
        rows=rows,
        vmstat={f"name_of_a_counter_{n}": n * number for n in range(100)},
        nodes=tuple(Node(n, 1000, 2000, 3000, 4000, 5_000_000, 6000, 7000) for n in range(4)),
        cgroups={number: f"/system.slice/some-{number}.service" for number in range(4000, 4005)},
        processes={tgid: Process(tgid, "worker", "/usr/bin/worker -x", 1, 7000) for tgid in rows["tgid"][:50].tolist()},
    )


def write_records(path: Path) -> int:
    random = np.random.default_rng(1)
    records = np.zeros(RECORDS, RECORD_DTYPE)
    records["time_ns"] = 10**14 + np.cumsum(random.integers(100, 20_000, RECORDS))
    records["duration_ns"] = random.integers(1000, 10**6, RECORDS)
    records["cgroup_id"] = 4000
    records["asked_pages"], records["reclaimed_pages"] = 32, random.integers(0, 64, RECORDS)
    records["scanned_pages"] = records["reclaimed_pages"] + 10
    records["tgid"] = records["tid"] = random.integers(1000, 30_000, RECORDS)
    records["cpu"], records["path"], records["priority"], records["gfp_flags"] = 3, 2, 12, 0x140CCA
    records["comm"] = [b"worker%d" % (number % 1000) for number in range(RECORDS)]
    begin()
    with Writer(path, Session(1_700_000_000.0)) as writer:
        for first in range(0, RECORDS, RECORDS_AT_ONCE):
            writer.write_records(records[first : first + RECORDS_AT_ONCE])
    return RECORDS


def read_records(path: Path) -> int:
    with Reader(path) as reader:
        return sum(len(records) for records in reader.records())


def written(seconds: int, count: int) -> Callable[[Path], int]:
    def write(path: Path) -> int:
        rows = some_rows(count)
        with Writer(path, Session(1_700_000_000.0)) as writer:
            for number in range(seconds):
                writer.write(some_interval(number, rows))
        return seconds * count

    return write


def read_rows(path: Path) -> int:
    with Reader(path) as reader:
        return sum(len(interval.rows) for interval in reader.intervals())


def folded_by(by: str) -> Callable[[Path], int]:
    def fold_rows(path: Path) -> int:
        with Reader(path) as reader:
            fold(reader, by)
            return int(reader._db.execute("SELECT sum(rows) FROM intervals").fetchone()[0])

    return fold_rows


def write_many(path: Path) -> int:
    with Writer(path, Session(1_700_000_000.0)) as writer:
        for number in range(MANY_INTERVALS):
            writer.write(some_interval(number, some_rows(MANY_ROWS, 1000 + number * MANY_ROWS)))
    return MANY_INTERVALS * MANY_ROWS


# Title, then what is counted, the file, and the function. A line that writes comes before those that read its file.
STAGES: dict[str, tuple[str, str, Callable[[Path], int]]] = {
    "write single reclaims": ("records", "records.mmw", write_records),
    "read them": ("records", "records.mmw", read_records),
    "write an hour of 1 s intervals, 50 rows each": ("rows", "hour.mmw", written(SECONDS, ROWS)),
    "read it": ("rows", "hour.mmw", read_rows),
    "fold it by task": ("rows", "hour.mmw", folded_by("task")),
    "fold it by node": ("rows", "hour.mmw", folded_by("node")),
    "write 80,000 intervals of 2 rows": ("rows", "day.mmw", written(DAY_SECONDS, DAY_ROWS)),
    "fold them by task": ("rows", "day.mmw", folded_by("task")),
    "write 100 intervals of 10,000 threads, all new": ("rows", "many.mmw", write_many),
    "fold them by thread": ("rows", "many.mmw", folded_by("thread")),
    "fold them by node": ("rows", "many.mmw", folded_by("node")),
}

_began = 0.0
_began_cpu = 0.0


def begin() -> None:
    """Start measuring; what came before only made up the data."""
    global _began, _began_cpu
    _began, _began_cpu = time.monotonic(), time.process_time()


def run(stage: str, folder: Path) -> None:
    unit, name, function = STAGES[stage]
    path = folder / name
    begin()
    count = function(path)
    seconds, cpu_s = time.monotonic() - _began, time.process_time() - _began_cpu
    size = path.stat().st_size
    # Not getrusage: its maximum includes the parent's from before exec.
    peak_kib = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    print(
        f"| {stage} | {count:,} {unit} | {seconds:.2f} | {cpu_s:.2f} | {count / seconds:,.0f} "
        f"| {size / count * 1e6 / 2**20:.0f} MiB | {peak_kib / 1024:.0f} MiB |",
        flush=True,
    )


def main() -> None:
    """Print the table, or run one line of it."""
    if len(sys.argv) == 3:
        run(sys.argv[1], Path(sys.argv[2]))
        return
    print("| what | how many | s | s of CPU | a second | file, a million | peak |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for stage in STAGES:
            subprocess.run([sys.executable, "-m", "bench.recording", stage, folder], check=True)


if __name__ == "__main__":
    main()
