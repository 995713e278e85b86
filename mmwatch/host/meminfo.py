"""/proc/meminfo and /proc/swaps: what the host's memory and swap are used for."""

from __future__ import annotations

from pathlib import Path

from mmwatch.host._files import ROOT, read_lines

_KINDS = {
    "MemTotal": "total",
    "MemFree": "free",
    "MemAvailable": "available",
    "SwapTotal": "swap_total",
    "SwapFree": "swap_free",
    "Active(anon)": "active_anon",
    "Inactive(anon)": "inactive_anon",
    "Active(file)": "active_file",
    "Inactive(file)": "inactive_file",
    "Unevictable": "unevictable",
    "Dirty": "dirty",
    "Writeback": "writeback",
    "Mapped": "mapped",
    "Shmem": "shmem",
    "SReclaimable": "slab_reclaimable",
    "SUnreclaim": "slab_unreclaimable",
    "CmaTotal": "cma_total",
}
"""Lines of /proc/meminfo by our name for them. What the kernel does not print is left out."""

_IN_RAM = ("zram", "ram", "pmem")
"""Block devices that keep what is written to them in memory."""


def read_levels(root: Path = ROOT) -> dict[str, int]:
    """Bytes by kind: the values of :data:`_KINDS`, and ``swap_in_ram``, the part of ``swap_total`` whose device keeps
    it in memory (zram)."""
    found = {}
    for line in read_lines(root / "proc/meminfo") or ():
        name, _, rest = line.partition(":")
        words = rest.split()
        if name in _KINDS and words and words[0].isascii() and words[0].isdecimal():
            found[_KINDS[name]] = int(words[0]) * 1024
    if found.get("swap_total"):
        found["swap_in_ram"] = _swap_in_ram(root)
    return found


def _swap_in_ram(root: Path) -> int:
    """From /proc/swaps: name, type, size and used in KiB, priority."""
    total = 0
    for line in (read_lines(root / "proc/swaps") or ())[1:]:
        words = line.split()
        if len(words) >= 4 and words[1] == "partition" and words[2].isascii() and words[2].isdecimal():
            device = words[0].rpartition("/")[2]
            if any(device.startswith(kind) and device[len(kind) :].isdecimal() for kind in _IN_RAM):
                total += int(words[2]) * 1024
    return total
