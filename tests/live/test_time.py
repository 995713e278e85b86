"""CPU time in reclaim, apart from sleep and from waiting for a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Mmwatch, workload

TICK_NS = 10_000_000
"""The longest there is (CONFIG_HZ=100): the kernel samples system time with it."""


@pytest.mark.parametrize("processes", [1, 4])
def test_on_one_cpu_they_cannot_have_more_than_it_has(mmwatch: Mmwatch, tmp_path: Path, processes: int) -> None:
    """Several tasks reclaim on the same CPU, and wait for it most of the time.

    Oracles: CPU time is never more than time in reclaim, nor all of it more than the time that passed, nor that of a
    process more than its system time.
    """
    path = tmp_path / "a.mmw"
    load = ["taskset", "-c", "0", *workload("stream", "-n", processes, "--mib", 768 // processes)]
    done = mmwatch.record(path, load, "-i", "0.2", "--detail", "none")
    report = mmwatch.report(path)
    rows = [row for row in report["rows"] if row["tgid"] in done["pids"]]
    assert len(rows) == processes
    for row in rows:
        assert 0 < row["cpu_ns"] <= row["stall_ns"]
        if row["system_time_us"] is not None:
            assert row["cpu_ns"] <= 1.1 * 1000 * row["system_time_us"] + 5 * TICK_NS
    cpu_ns, stall_ns = (sum(row[name] for row in rows) for name in ("cpu_ns", "stall_ns"))
    assert cpu_ns <= report["session"]["duration_s"] * 1e9
    if processes == 4:  # three of four wait, also those that were in reclaim when they lost the CPU
        assert stall_ns > 1.5 * cpu_ns
