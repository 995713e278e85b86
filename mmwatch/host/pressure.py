"""/proc/pressure/memory: how long tasks waited for memory (PSI)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmwatch.host._files import ROOT, read_text


@dataclass(frozen=True)
class MemoryPressure:
    """``some``: at least one task waited for memory; ``full``: every non-idle task did.

    Percentages are the kernel's own 10-second averages (0 to 100, two decimals); totals are microseconds since boot.
    They cover node reclaim only from 5.15 on (psi_memstall_enter in __node_reclaim).
    """

    some_avg10_pct: float
    some_total_us: int
    full_avg10_pct: float
    full_total_us: int


def read_pressure(root: Path = ROOT) -> MemoryPressure | None:
    """The host's memory pressure; None without PSI (not built in, or psi=0, where reading gives EOPNOTSUPP)."""
    lines = (read_text(root / "proc/pressure/memory") or "").split("\n")
    try:
        values = {line.split()[0]: dict(item.split("=") for item in line.split()[1:]) for line in lines if line.split()}
        some, full = values["some"], values["full"]
        return MemoryPressure(float(some["avg10"]), int(some["total"]), float(full["avg10"]), int(full["total"]))
    except (KeyError, ValueError):
        return None
