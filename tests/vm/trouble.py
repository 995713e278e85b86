"""What a trouble is: a load that provokes a pathology of reclaim, or one that only looks like it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab import CLASSIC, MGLRU, Kernel

HEALTHY = "healthy"
NODE_MODE = (("zone_reclaim_mode", "1"),)
WIDE = (("min_free_kbytes", "4096"), ("watermark_scale_factor", "500"))
"""Much memory between the watermarks: kswapd starts early, and a node can stay below low."""


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
