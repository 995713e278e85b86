"""What /proc tells about one process: faults, CPU time, and which nodes it may use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mmwatch.host._files import ROOT, read_lines

NUMA_MAPS_RSS_MAX_BYTES = 4 << 30
"""The kernel walks the page tables of each mapping that it prints in numa_maps (fs/proc/task_mmu.c, show_numa_map), and
holds the lock that page faults need. Of a larger process, that may take seconds."""
_NUMA_MAPS_FIRST = 4096
"""Bytes of numa_maps to read. A policy set for the process stands in every line."""


@dataclass(frozen=True)
class TaskTimes:
    """Sums of a process since it started."""

    user_time_us: int
    system_time_us: int
    major_faults: int


def read_times(tgid: int, root: Path = ROOT) -> TaskTimes | None:
    """From /proc/PID/stat; None if the process is gone."""
    try:
        # The name in parentheses may hold any byte.
        words = (root / f"proc/{tgid}/stat").read_bytes().rpartition(b")")[2].split()
        tick_us = 1_000_000 // os.sysconf("SC_CLK_TCK")
        return TaskTimes(int(words[11]) * tick_us, int(words[12]) * tick_us, int(words[9]))
    except (OSError, IndexError, ValueError):
        return None


@dataclass(frozen=True)
class Placement:
    """Which NUMA nodes a process may use. Empty: unknown.

    :param mems_allowed: by its cpuset: Mems_allowed_list of /proc/PID/status, ``0-1``.
    :param mempolicy: its memory policies, ``bind:0``; ``default`` if it has none. From numa_maps.
    """

    mems_allowed: str = ""
    mempolicy: str = ""


def read_placement(tgid: int, root: Path = ROOT) -> Placement:
    """Where a process may allocate."""
    status = dict(line.partition(":")[::2] for line in read_lines(root / f"proc/{tgid}/status") or ())
    allowed = status.get("Mems_allowed_list", "").strip()
    rss = status.get("VmRSS", "").split()
    known = bool(rss) and rss[0].isascii() and rss[0].isdecimal()
    if not known or int(rss[0]) * 1024 > NUMA_MAPS_RSS_MAX_BYTES:
        return Placement(allowed if _is_list(allowed) else "", "")
    return Placement(allowed if _is_list(allowed) else "", _policies(root / f"proc/{tgid}/numa_maps"))


def _policies(file: Path) -> str:
    """The different policies of the first mappings, those of single mappings included, the most frequent first."""
    try:
        with file.open("rb", buffering=0) as numa_maps:
            text = numa_maps.read(_NUMA_MAPS_FIRST).decode("utf-8", "replace")
    except OSError:
        return ""
    count: dict[str, int] = {}
    for line in text.split("\n")[:-1] or [text]:
        words = line.split(" ")
        if len(words) > 1 and words[1]:
            count[words[1]] = count.get(words[1], 0) + 1
    found = [policy for policy in sorted(count, key=lambda policy: -count[policy]) if policy != "default"]
    return ",".join(found[:4]) or ("default" if count else "")


def _is_list(text: str) -> bool:
    return bool(text) and not text.strip("0123456789,-")
