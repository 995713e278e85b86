"""The troubles as data: loads that provoke a pathology of reclaim, and others that only look like one.

The loads are programs of ``tests/workloads/trouble``. A second load for the same finding, of different make, is named
NAME-2. provoke.py runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab import CLASSIC, MGLRU, Kernel

HEALTHY = "healthy"
MODULES = ("zram",)
"""Kernel modules that the loads need and the guest loads first."""
DEFRAG = "/sys/kernel/mm/transparent_hugepage/defrag"


@dataclass(frozen=True)
class Trouble:
    """A load, the settings of the host it needs, and what is to be found.

    :param command: a program of ``tests/workloads/trouble`` and its arguments.
    :param expect: the id of the finding, or :data:`HEALTHY`.
    :param shows: counters that rise at least by this much while somebody looks for ten seconds; see :func:`moved`.
    :param flat: counters that rise at most by this much.
    :param sysctls: sysctls below vm, or files by their full path, set before and restored afterwards.
    :param swap: the guest's swap disk is on while it runs.
    :param lrus: the kinds of LRU it runs with.
    :param needs: fields of :class:`Kernel` that must be true.
    :param kernels: names of the kernels it runs on; empty: all.
    """

    name: str
    command: tuple[str, ...]
    expect: str
    shows: tuple[tuple[str, int], ...] = ()
    flat: tuple[tuple[str, int], ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    swap: bool = False
    lrus: tuple[str, ...] = (CLASSIC, MGLRU)
    needs: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()

    def runs_on(self, kernel: Kernel, lru: str) -> bool:
        here = kernel.name in (self.kernels or (kernel.name,))
        return here and lru in self.lrus and all(getattr(kernel, need) for need in self.needs)


def moved(counters: Mapping[str, int], name: str) -> int:
    """By how much a counter rose.

    It is one of /proc/vmstat (``allocstall``: of all zones together), ``events.*`` and ``stat.*`` of the cgroups of the
    load, or ``pressure.*`` of the host in microseconds.
    """
    if name in counters:
        return counters[name]
    return sum(value for each, value in counters.items() if each.startswith(f"{name}_"))


def unmet(trouble: Trouble, counters: Mapping[str, int]) -> list[str]:
    """What the counters should have shown and did not."""
    found = [
        f"{name} {moved(counters, name)} < {least}" for name, least in trouble.shows if moved(counters, name) < least
    ]
    return found + [
        f"{name} {moved(counters, name)} > {most}" for name, most in trouble.flat if moved(counters, name) > most
    ]


NODE_MODE = (("zone_reclaim_mode", "1"),)
TIGHT = (("min_free_kbytes", "1024"), ("watermark_scale_factor", "1"))
"""Little memory between the watermarks, so that kswapd starts late."""
WIDE = (("min_free_kbytes", "4096"), ("watermark_scale_factor", "500"))
"""Much memory between them: kswapd starts early, and a node can stay below low."""
ALL_DIRTY = (("dirty_ratio", "95"), ("dirty_background_ratio", "90"), ("dirty_expire_centisecs", "360000"))

TROUBLES = (
    Trouble("zone-reclaim-thrash", ("node.py",), "zone-reclaim-thrash", sysctls=NODE_MODE, lrus=(CLASSIC,)),
    Trouble("zone-reclaim-futile", ("node.py",), "zone-reclaim-futile", sysctls=NODE_MODE, lrus=(MGLRU,)),
    Trouble("node-bound", ("node.py", "--bind", "--processes", "6"), "node-bound", sysctls=TIGHT),
    Trouble("node-bound-2", ("node.py", "--cpuset", "--processes", "6"), "node-bound", sysctls=TIGHT),
    Trouble("direct-reclaim", ("streams.py",), "direct-reclaim", sysctls=TIGHT),
    Trouble("direct-reclaim-2", ("streams.py", "--anon-mib", "60", "--mib", "200"), "direct-reclaim", sysctls=TIGHT),
    Trouble("kswapd-hopeless", ("pinned.py", "--reset"), "kswapd-hopeless", sysctls=WIDE),
    Trouble("kswapd-latched", ("pinned.py", "--latched"), "kswapd-latched", sysctls=WIDE),
    Trouble("memcg-limit", ("group.py", "--max", "32", "--file", "256"), "memcg-limit"),
    Trouble("memcg-limit-2", ("group.py", "--parent-max", "48", "--file", "256", "--anon", "24"), "memcg-limit"),
    Trouble("memcg-high", ("group.py", "--high", "32", "--file", "256"), "memcg-high"),
    Trouble(
        "memcg-high-2",
        ("group.py", "--high", "32", "--file", "256", "--anon", "12", "--processes", "2"),
        "memcg-high",
    ),
    Trouble("memcg-high-livelock", ("group.py", "--high", "32", "--anon", "128"), "memcg-high-livelock"),
    Trouble(
        "memcg-high-livelock-2",
        ("group.py", "--high", "32", "--anon", "64", "--mapped", "64", "--real", "--pinned", "4"),
        "memcg-high-livelock",
    ),
    Trouble("swap-storm", ("swapper.py", "--bind"), "swap-storm", swap=True),
    Trouble("swap-storm-2", ("group.py", "--max", "64", "--anon", "128"), "swap-storm", swap=True),
    Trouble("no-swap-anon", ("corner.py", "--exec"), "no-swap-anon"),
    Trouble("cache-thrash", ("group.py", "--max", "64", "--file", "96", "--random", "--real"), "cache-thrash"),
    Trouble("cache-thrash-2", ("corner.py",), "cache-thrash"),
    Trouble("cache-thrash-3", ("streams.py", "--random", "--mib", "1600", "--readers", "1"), "cache-thrash"),
    Trouble("exec-thrash", ("group.py", "--max", "48", "--mapped", "64", "--real"), "exec-thrash"),
    Trouble("zram", ("swapper.py", "--bind", "--zram", "512"), "zram"),
    Trouble("zram-2", ("group.py", "--max", "64", "--anon", "128", "--incompressible", "--zram", "256"), "zram"),
    Trouble("memcg-dirty", ("writers.py", "--max", "64"), "memcg-dirty", sysctls=ALL_DIRTY),
    Trouble("writeback-throttle", ("writers.py",), "writeback-throttle", sysctls=ALL_DIRTY),
    Trouble("no-progress", ("pinned.py", "--huge"), "no-progress", sysctls=(*WIDE, (DEFRAG, "always"))),
    Trouble("shrinker-stall", ("group.py", "--max", "16", "--dentries", "--processes", "4"), "shrinker-stall"),
    Trouble("shrinker-stall-2", ("group.py", "--max", "20", "--inodes", "20000", "--file", "64"), "shrinker-stall"),
    Trouble("high-order", ("hugefaults.py",), "high-order", sysctls=((DEFRAG, "always"),)),
    Trouble("slab-unreclaimable", ("slab.py", "--mib", "850"), "slab-unreclaimable"),
    Trouble("slab-unreclaimable-2", ("slab.py", "--max", "64", "--mib", "48"), "slab-unreclaimable"),
    Trouble("proactive-agent", ("asked.py",), "proactive-agent", needs=("memory_reclaim",)),
    Trouble("proactive-agent-2", ("asked.py", "--of", "node"), "proactive-agent", needs=("node_reclaim_file",)),
    Trouble("drop-caches", ("asked.py", "--of", "caches", "--pause", "1"), "drop-caches"),
    Trouble(
        "watermark-boost",
        ("slab.py", "--churn", "--mib", "200", "--file-mib", "1200"),
        "watermark-boost",
        sysctls=(("watermark_boost_factor", "150000"),),
    ),
    Trouble("kswapd-quick", ("streams.py", "--readers", "1", "--share", "0.3", "--once"), HEALTHY, sysctls=WIDE),
    Trouble(
        "read-once",
        ("streams.py", "--readers", "1", "--nodes", "1", "--share", "0.5", "--once", "--any"),
        HEALTHY,
    ),
    Trouble("agent-at-rest", ("asked.py", "--rest"), HEALTHY),
    Trouble("mode-1-never-entered", ("busy.py", "--of", "memory"), HEALTHY, sysctls=NODE_MODE),
    Trouble("limit-but-cold", ("group.py", "--max", "64", "--file", "96", "--cold"), HEALTHY),
    Trouble("busy-system", ("busy.py", "--of", "calls"), HEALTHY),
    Trouble("wait-for-io", ("busy.py", "--of", "reads"), HEALTHY),
    Trouble("spill", ("node.py", "--keep"), HEALTHY),
    Trouble("dropped-once", ("asked.py", "--of", "caches", "--rest"), HEALTHY),
    Trouble("swap-full-idle", ("swapper.py", "--idle-full"), HEALTHY),
)
