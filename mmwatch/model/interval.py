"""What is known of one stretch of time: the hand-over between whoever observes and whoever shows.

A live session makes one :class:`Interval` per refresh; a recording is one :class:`Session` and a series of them;
replay reads them back. Everything a screen or report shows is derived from these two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.model.measures import MEASURES, Fold

Rows = npt.NDArray[np.void]
"""A structured array of :data:`ROW_DTYPE`: what each thread × path × node did in the interval."""

ROW_DTYPE = np.dtype(
    [("tgid", "u4"), ("tid", "u4"), ("path", "u4"), ("node", "i4"), ("cgroup_id", "u8"), ("start_ns", "u8")]
    + [("comm", "S16")]
    + [(m.name, ("i8" if m.name == "stall_ns" else "u8"), (m.length,) if m.length else ()) for m in MEASURES]
)
"""Identity (a thread is told from a later one of the same number by ``start_ns``, when its row was made,
CLOCK_MONOTONIC) and the measures. ``stall_ns`` is signed: the time of a reclaim under way may move to another row of
its thread. ``tgid`` 0 is the overflow row of a full table, or a task outside the PID namespace of the observer."""


@dataclass(frozen=True)
class Probe:
    """What one need of the plan got: ``mmwatch doctor`` shows it, every recording keeps it.

    :param state: ``attached``, ``degraded``, ``missing`` or ``off``.
    """

    need: str
    probe: str
    state: str
    reason: str = ""


@dataclass(frozen=True)
class Session:
    """What holds for the whole observation.

    :param start_s: Unix time.
    :param filter: what was asked for: ``pid``, ``children``, ``cgroup``, ``comm``; empty when nothing was.
    :param unknown: measures this session has no probe for: shown as unknown, never as 0.
    :param incomparable: why the sums cannot be held against /proc/vmstat; empty when they can.
    :param settings: sysctls and switches that explain reclaim, as text or number, by name.
    """

    start_s: float
    kernel: str = ""
    hostname: str = ""
    version: str = ""
    page_size: int = 4096
    interval_s: float = 1.0
    filter: Mapping[str, Any] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    incomparable: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()


@dataclass(frozen=True)
class Node:
    """A NUMA node at the end of the interval; pages. None where the kernel does not say."""

    node: int
    free_pages: int | None = None
    min_pages: int | None = None
    low_pages: int | None = None
    high_pages: int | None = None
    managed_pages: int | None = None
    file_pages: int | None = None
    anon_pages: int | None = None


@dataclass(frozen=True)
class Process:
    """Who a task is. Text is clean already (:func:`mmwatch.units.clean`).

    :param system_time_us: system CPU time used in the interval; None when it could not be read.
    :param freepages_delay_ns: the kernel's own delay accounting of direct reclaim; None when it is off.
    """

    tgid: int
    comm: str = ""
    cmdline: str = ""
    ppid: int | None = None
    system_time_us: int | None = None
    freepages_delay_ns: int | None = None


@dataclass(frozen=True)
class Loss:
    """What is not in the figures, in the interval. A count of None could not be read on this kernel.

    :param lost: detail records dropped because the ring buffer was full, by kind.
    :param suppressed: detail records over the rate limit, by kind.
    :param missed_runs: program runs the kernel skipped (``recursion_misses``).
    :param unmatched_begin: reclaims whose end was not seen.
    :param unmatched_end: reclaims whose begin was not seen; those under way at the start are the usual ones.
    :param table_full: events that found no row or thread entry of their own: counted, but not attributed.
    """

    lost: Mapping[str, int] = field(default_factory=dict)
    suppressed: Mapping[str, int] = field(default_factory=dict)
    missed_runs: int | None = None
    unmatched_begin: int = 0
    unmatched_end: int = 0
    table_full: int = 0


@dataclass(frozen=True)
class Cost:
    """What mmwatch itself used in the interval."""

    cpu_ns: int = 0
    rss_bytes: int = 0
    table_rows: int = 0
    table_size: int = 0


@dataclass(frozen=True)
class Interval:
    """One stretch of time.

    :param end_s: Unix time of its end.
    :param duration_ns: of CLOCK_MONOTONIC.
    :param vmstat: by how much each counter of /proc/vmstat grew.
    :param edge_pages: reclaimed pages by which ``vmstat`` may differ for no other reason than that both cannot be read
        at the same instant: what it grew by while the rows were read, at either end.
    :param pressure: ``some_avg10``, ``full_avg10`` (percent), ``some_us``, ``full_us`` (grown); empty without PSI.
    :param kswapd: by node, ``running`` or ``sleeping``; missing when not known.
    :param cgroups: path by id, of the rows' ``cgroup_id``, clean text.
    :param processes: by tgid.
    """

    end_s: float
    duration_ns: int
    rows: Rows
    vmstat: Mapping[str, int] = field(default_factory=dict)
    edge_pages: int = 0
    nodes: tuple[Node, ...] = ()
    pressure: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    cgroups: Mapping[int, str] = field(default_factory=dict)
    processes: Mapping[int, Process] = field(default_factory=dict)
    loss: Loss = field(default_factory=Loss)
    cost: Cost = field(default_factory=Cost)


def fold_rows(rows: Rows, keys: list[str]) -> tuple[Rows, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows with equal ``keys`` as one.

    :param keys: identity fields of :data:`ROW_DTYPE`.
    :returns: the folded rows (identity of the group's latest row), for each its number of rows, and for each
        input row its group. Shapes ``(groups,)``, ``(groups,)``, ``(len(rows),)``.
    """
    if not len(rows):
        return rows.copy(), np.zeros(0, np.intp), np.zeros(0, np.intp)
    if keys:
        order = np.lexsort([rows[key] for key in ["start_ns", *reversed(keys)]])
        in_order = rows[order]
        new = np.zeros(len(rows), bool)
        for key in keys:
            new[1:] |= in_order[key][1:] != in_order[key][:-1]
    else:
        order = np.arange(len(rows))
        in_order = rows
        new = np.zeros(len(rows), bool)
    new[0] = True
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(rows)) - 1
    groups = np.empty(len(rows), np.intp)
    groups[order] = np.cumsum(new) - 1
    folded = in_order[last]
    if len(first) < len(rows):
        for measure in MEASURES:
            if measure.fold in (Fold.SUM, Fold.HISTOGRAM):
                folded[measure.name] = np.add.reduceat(in_order[measure.name], first, axis=0)
            elif measure.fold is Fold.MAX:
                folded[measure.name] = np.maximum.reduceat(in_order[measure.name], first)
    return folded, last - first + 1, groups
