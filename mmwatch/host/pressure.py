"""/proc/pressure: how long tasks waited for memory, or for I/O (PSI)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmwatch.host._files import ROOT, read_text


@dataclass(frozen=True)
class Pressure:
    """``some``: at least one task waited; ``full``: every non-idle task did.

    Percentages are the kernel's own 10-second averages (0 to 100, two decimals); totals are microseconds since boot.
    Those of memory cover node reclaim only from 5.15 on (psi_memstall_enter in __node_reclaim), and kswapd's own work
    (psi_memstall_enter in balance_pgdat, mm/vmscan.c, since 4.20).
    """

    some_avg10_pct: float
    some_total_us: int
    full_avg10_pct: float
    full_total_us: int


def read_pressure(root: Path = ROOT, of: str = "memory") -> Pressure | None:
    """The host's pressure of ``memory`` or ``io``; None without PSI.

    That is: not built in, or psi=0, where reading gives EOPNOTSUPP.
    """
    lines = [line.split() for line in (read_text(root / "proc/pressure" / of) or "").split("\n")]
    try:
        values = {words[0]: dict(item.split("=") for item in words[1:]) for words in lines if words}
        some, full = values["some"], values["full"]
        return Pressure(float(some["avg10"]), int(some["total"]), float(full["avg10"]), int(full["total"]))
    except (KeyError, ValueError):
        return None
