"""The sysctls and switches that control who reclaims, when and how much."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mmwatch.host._files import ROOT, read_int, read_text
from mmwatch.units import clean

ZONE_RECLAIM_ZONE = 1
ZONE_RECLAIM_WRITE = 2
ZONE_RECLAIM_UNMAP = 4


@dataclass(frozen=True)
class Settings:
    """The settings of this host. None: this kernel has no such switch, or it cannot be read."""

    kernel_release: str
    """Only for display; no decision may depend on it."""
    page_size_bytes: int
    memory_total_bytes: int | None
    swap_total_bytes: int | None
    zone_reclaim_mode: int | None
    """vm.zone_reclaim_mode, bits ZONE_RECLAIM_*; None without NUMA."""
    min_free_kbytes: int | None
    watermark_scale_factor: int | None
    """In 1/10000 of a node's memory (4.6+)."""
    watermark_boost_factor: int | None
    """In 1/10000 of the high watermark (5.0+); 0 is off."""
    swappiness: int | None
    min_unmapped_ratio: int | None
    """Percent of a node's managed pages. Node reclaim runs only if more page cache than this is reclaimable ..."""
    min_slab_ratio: int | None
    """... or more slab than this (percent)."""
    lru_gen_enabled: int | None
    """Bits of /sys/kernel/mm/lru_gen/enabled. Bit 0 is MGLRU itself; 0: built in but off; None: not built in."""
    thp_enabled: str | None
    """``always``, ``madvise`` or ``never``; None without transparent huge pages."""
    thp_defrag: str | None
    """``always``, ``defer``, ``defer+madvise``, ``madvise`` or ``never``: whether a page fault may reclaim and compact
    memory for a huge page."""
    dirty_ratio: int | None
    """Percent of the available memory that may be dirty before writers have to wait; 0 if dirty_bytes is set."""
    dirty_bytes: int | None
    dirty_background_ratio: int | None
    """The same for the flusher to start writing; 0 if dirty_background_bytes is set."""
    dirty_background_bytes: int | None
    demotion_enabled: bool | None
    """/sys/kernel/mm/numa/demotion_enabled (5.15+): reclaim may move pages to a slower node instead of freeing them."""
    task_delayacct: bool | None
    """kernel.task_delayacct (5.14+). Older kernels account delays unless booted with nodelayacct: then this is False,
    otherwise None (it may not be built in)."""


def read_settings(root: Path = ROOT) -> Settings:
    """Read all settings; takes about 0.2 ms."""
    vm = root / "proc/sys/vm"
    mm = root / "sys/kernel/mm"
    meminfo = read_text(root / "proc/meminfo") or ""
    thp, defrag = (
        re.search(r"\[([\w+]+)\]", read_text(mm / f"transparent_hugepage/{name}") or "")
        for name in ("enabled", "defrag")
    )
    demotion = read_text(mm / "numa/demotion_enabled")
    return Settings(
        kernel_release=clean(read_text(root / "proc/sys/kernel/osrelease") or "?"),
        page_size_bytes=os.sysconf("SC_PAGE_SIZE"),
        memory_total_bytes=_meminfo_bytes(meminfo, "MemTotal"),
        swap_total_bytes=_meminfo_bytes(meminfo, "SwapTotal"),
        zone_reclaim_mode=read_int(vm / "zone_reclaim_mode"),
        min_free_kbytes=read_int(vm / "min_free_kbytes"),
        watermark_scale_factor=read_int(vm / "watermark_scale_factor"),
        watermark_boost_factor=read_int(vm / "watermark_boost_factor"),
        swappiness=read_int(vm / "swappiness"),
        min_unmapped_ratio=read_int(vm / "min_unmapped_ratio"),
        min_slab_ratio=read_int(vm / "min_slab_ratio"),
        lru_gen_enabled=read_int(mm / "lru_gen/enabled", 16),
        thp_enabled=thp[1] if thp else None,
        thp_defrag=defrag[1] if defrag else None,
        dirty_ratio=read_int(vm / "dirty_ratio"),
        dirty_bytes=read_int(vm / "dirty_bytes"),
        dirty_background_ratio=read_int(vm / "dirty_background_ratio"),
        dirty_background_bytes=read_int(vm / "dirty_background_bytes"),
        demotion_enabled=None if demotion is None else demotion in ("1", "true"),
        task_delayacct=task_delayacct(root),
    )


def task_delayacct(root: Path = ROOT) -> bool | None:
    """:attr:`Settings.task_delayacct` alone."""
    switch = read_int(root / "proc/sys/kernel/task_delayacct")
    if switch is not None:
        return switch != 0
    return False if "nodelayacct" in (read_text(root / "proc/cmdline") or "").split() else None


def _meminfo_bytes(meminfo: str, key: str) -> int | None:
    match = re.search(rf"^{key}:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) * 1024 if match else None
