"""Sessions and intervals: what an observer hands to whatever shows, records or judges it.

A live session makes one :class:`Interval` per refresh. A recording is one :class:`Session` and a series of intervals;
replay reads them back. Everything a screen or report shows is derived from these two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmwatch.model.rows import Rows


@dataclass(frozen=True)
class Probe:
    """The probe chosen for a need. ``mmwatch doctor`` shows it and every recording keeps it.

    :param state: ``attached``, ``degraded``, ``missing`` or ``off``.
    """

    need: str
    probe: str
    state: str
    reason: str = ""


@dataclass(frozen=True)
class Session:
    """What does not change during an observation.

    :param start_s: Unix time.
    :param filter: the filter given (``pid``, ``children``, ``cgroup``, ``comm``); empty without one.
    :param unknown: measures without a probe in this session: shown as unknown, never as 0.
    :param incomparable: why the sums cannot be compared with /proc/vmstat; empty if they can.
    :param gfp_flags: this kernel's bits by name, combinations before their parts; empty if unknown.
    :param settings: sysctls and switches that explain reclaim, text or number, by name.
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
    gfp_flags: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()


@dataclass(frozen=True)
class Node:
    """A NUMA node at the end of the interval, in pages. None where the kernel does not say."""

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
    """Who a task is. The text has been through :func:`mmwatch.units.clean`.

    :param system_time_us: system CPU time used in the interval; None if it could not be read.
    :param freepages_delay_ns: the kernel's delay accounting of direct reclaim; None if it is off.
    """

    tgid: int
    comm: str = ""
    cmdline: str = ""
    ppid: int | None = None
    system_time_us: int | None = None
    freepages_delay_ns: int | None = None


@dataclass(frozen=True)
class CgroupMemory:
    """A memory cgroup at the end of the interval, with all below it.

    :param limit_bytes: memory.max (memory.limit_in_bytes in version 1); None: no limit.
    :param high_bytes: memory.high; None: no limit, or version 1.
    :param limit_hits: how often the limit was hit since the cgroup was made; None if unknown.
    """

    limit_bytes: int | None
    high_bytes: int | None
    usage_bytes: int
    limit_hits: int | None


@dataclass(frozen=True)
class Inside:
    """A reclaim that had begun and not ended at the end of the interval. kswapd's are not among them.

    :param tgid: 0 if unknown; ``tid`` likewise.
    :param comm: clean text.
    :param path: its name.
    :param node: as in the rows; None if unknown.
    :param age_ns: since its begin. A reclaim that waits for a nested one (soft limit) is not shown, but that one is.
    """

    tgid: int
    tid: int
    comm: str
    path: str
    node: int | None
    age_ns: int


@dataclass(frozen=True)
class Loss:
    """What is missing from the figures of an interval. None: this kernel does not count it.

    :param lost: single records dropped because the ring buffer was full, by kind.
    :param suppressed: single records over the rate limit, by kind.
    :param missed_runs: program runs the kernel skipped (``recursion_misses``).
    :param unmatched_begin: reclaims whose end was not seen.
    :param unmatched_end: reclaims whose begin was not seen, although mmwatch was watching.
    :param under_way: reclaims that were under way when mmwatch started: they have no time. That is no fault.
    :param table_full: events that found no free row or thread entry: counted, but not attributed.
    """

    lost: Mapping[str, int] = field(default_factory=dict)
    suppressed: Mapping[str, int] = field(default_factory=dict)
    missed_runs: int | None = None
    unmatched_begin: int = 0
    unmatched_end: int = 0
    table_full: int = 0
    under_way: int = 0


@dataclass(frozen=True)
class Cost:
    """What mmwatch itself used in an interval."""

    cpu_ns: int = 0
    rss_bytes: int = 0
    table_rows: int = 0
    table_size: int = 0


@dataclass(frozen=True)
class Elsewhere:
    """What was reclaimed from a node while another node had free memory above its high watermark.

    :param reclaimed_pages: pages reclaimed in intervals that ended in that state.
    :param futile: reclaims of the node in those intervals that freed nothing.
    :param free_node: the other node with the most free memory at any of those moments.
    :param free_pages: how much it had.
    """

    reclaimed_pages: int
    futile: int
    stall_ns: int
    free_node: int
    free_pages: int


@dataclass(frozen=True)
class Interval:
    """What happened between two readings.

    :param end_s: Unix time of its end.
    :param duration_ns: by CLOCK_MONOTONIC.
    :param rows: what each thread x path x node did.
    :param vmstat: growth of each counter of /proc/vmstat.
    :param edge_begin_pages: reclaimed pages counted by ``vmstat`` while the rows were read at the beginning. Rows and
        counters cannot be read at the same instant, so the two sums may differ by this much.
    :param edge_end_pages: the same at the end, where the next interval begins.
    :param edge_begin_scanned_pages: the same for scanned pages; None if it is not known.
    :param pressure: ``some_avg10``, ``full_avg10`` (percent), ``some_us``, ``full_us`` (growth); empty without PSI.
    :param settings: those that differ from the session's at the end of the interval.
    :param elsewhere: set in merged intervals, see :func:`mmwatch.model.nodes.elsewhere`; None: derive it from rows and
        nodes.
    :param cgroups: path by ``cgroup_id`` of the rows and of those above them, clean text.
    :param cgroup_memory: by ``cgroup_id``, for the cgroups with the most reclaim and those above them.
    :param processes: by tgid.
    :param inside: reclaims under way at its end, the oldest first; of many, the oldest.
    :param kswapd: state by node: ``running``, ``sleeping`` or ``gave up``; no entry if unknown.
    """

    end_s: float
    duration_ns: int
    rows: Rows
    vmstat: Mapping[str, int] = field(default_factory=dict)
    edge_begin_pages: int = 0
    edge_end_pages: int = 0
    edge_begin_scanned_pages: int | None = None
    edge_end_scanned_pages: int | None = None
    nodes: tuple[Node, ...] = ()
    pressure: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: Mapping[int, Elsewhere] | None = None
    cgroups: Mapping[int, str] = field(default_factory=dict)
    cgroup_memory: Mapping[int, CgroupMemory] = field(default_factory=dict)
    processes: Mapping[int, Process] = field(default_factory=dict)
    loss: Loss = field(default_factory=Loss)
    cost: Cost = field(default_factory=Cost)
    kswapd: Mapping[int, str] = field(default_factory=dict)
    inside: tuple[Inside, ...] = ()
