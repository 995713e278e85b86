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
class NodePlace:
    """Where a NUMA node is.

    :param cpus: its CPUs as the kernel lists them, ``0-3,8``; empty if it has none.
    :param distances: to each online node; 10 to itself.
    """

    cpus: str = ""
    distances: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Session:
    """What does not change during an observation.

    :param start_s: Unix time.
    :param filter: the filter given (``pid``, ``children``, ``cgroup``, ``comm``); empty without one.
    :param unknown: measures without a probe in this session: shown as unknown, never as 0.
    :param incomparable: why the sums cannot be compared with /proc/vmstat; empty if they can.
    :param gfp_flags: this kernel's bits by name, combinations before their parts; empty if unknown.
    :param settings: sysctls and switches that explain reclaim, text or number, by name.
    :param topology: by node; empty without NUMA.
    :param since_boot: counters of /proc/vmstat at the start.
    :param uptime_s: at the start; 0 if unknown.
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
    topology: Mapping[int, NodePlace] = field(default_factory=dict)
    since_boot: Mapping[str, int] = field(default_factory=dict)
    uptime_s: float = 0.0


@dataclass(frozen=True)
class Node:
    """A NUMA node at the end of the interval, in pages. None where the kernel does not say.

    The watermarks include ``boost_pages``. ``free_movable_pages`` and ``free_cma_pages`` are free, but only movable
    allocations may use them; ``free_reserved_pages``, only those that can use no higher zone.
    """

    node: int
    free_pages: int | None = None
    min_pages: int | None = None
    low_pages: int | None = None
    high_pages: int | None = None
    managed_pages: int | None = None
    file_pages: int | None = None
    anon_pages: int | None = None
    boost_pages: int | None = None
    inactive_file_pages: int | None = None
    mapped_pages: int | None = None
    dirty_pages: int | None = None
    writeback_pages: int | None = None
    unevictable_pages: int | None = None
    slab_reclaimable_pages: int | None = None
    slab_unreclaimable_pages: int | None = None
    free_movable_pages: int | None = None
    free_cma_pages: int | None = None
    free_reserved_pages: int | None = None


@dataclass(frozen=True)
class Process:
    """Who a task is. The text has been through :func:`mmwatch.units.clean`.

    :param system_time_us: system CPU time used in the interval; None if it could not be read.
    :param freepages_delay_ns: the kernel's delay accounting of direct reclaim; None if it is off.
    :param user_time_us: user CPU time; this and what follows only for the processes with the most reclaim.
    :param thrashing_delay_ns: delay accounting of waits for page cache that was reclaimed a short time ago.
    :param swapin_delay_ns: of waits for swap.
    :param blkio_delay_ns: of waits for block I/O, the two above included.
    :param major_faults: page faults that waited for I/O.
    :param mems_allowed: the nodes that its cpuset allows, ``0-1``; empty if unknown.
    :param mempolicy: its memory policies, as numa_maps has them, ``bind:0``; empty if unknown.
    """

    tgid: int
    comm: str = ""
    cmdline: str = ""
    ppid: int | None = None
    system_time_us: int | None = None
    freepages_delay_ns: int | None = None
    user_time_us: int | None = None
    thrashing_delay_ns: int | None = None
    swapin_delay_ns: int | None = None
    blkio_delay_ns: int | None = None
    major_faults: int | None = None
    mems_allowed: str = ""
    mempolicy: str = ""


@dataclass(frozen=True)
class CgroupMemory:
    """A memory cgroup at the end of the interval, with all below it.

    :param limit_bytes: memory.max (memory.limit_in_bytes in version 1); None: no limit.
    :param high_bytes: memory.high; None: no limit, or version 1.
    :param limit_hits: how often the limit was hit since the cgroup was made; None if unknown.
    :param grown: growth of its counters in the interval, with the kernel's names: ``workingset_refault_file``,
        ``pgmajfault`` and others of memory.stat; ``max`` and ``high`` of memory.events.local (failcnt is ``max`` in
        version 1), which count for the cgroup whose limit it was; ``oom_kill`` of memory.events; ``some_us`` and
        ``full_us`` of memory.pressure. Empty for a cgroup that was read for the first time, and for all but those with
        the most reclaim.
    :param levels: bytes by kind: ``anon``, ``file``, ``file_mapped``, ``file_dirty``, ``file_writeback``, ``swap``,
        ``unevictable``, ``slab``. Empty likewise.
    """

    limit_bytes: int | None
    high_bytes: int | None
    usage_bytes: int
    limit_hits: int | None
    grown: Mapping[str, int] = field(default_factory=dict)
    levels: Mapping[str, int] = field(default_factory=dict)


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
class Shrinker:
    """What the slab shrinkers with one function did, called by any task or kswapd.

    :param name: of the function that scans, ``i915_gem_shrinker_scan [i915]`` with its module; empty if unknown.
    :param objects: freed.
    :param shrinker_ns: time in the calls. The sum over all is that of ``shrinker_ns`` over the rows.
    """

    name: str
    calls: int
    objects: int
    shrinker_ns: int


@dataclass(frozen=True)
class Loss:
    """What is missing from the figures of an interval. None: this kernel does not count it.

    :param lost: single records dropped because the ring buffer was full, by kind.
    :param suppressed: single records over the rate limit, by kind.
    :param missed_runs: program runs the kernel skipped (``recursion_misses``).
    :param unmatched_begin: reclaims whose end was not seen.
    :param unmatched_end: reclaims whose begin was not seen, although mmwatch was watching.
    :param under_way: reclaims that were under way when mmwatch started: they have no time. That is no fault.
    :param table_full: events that found no free row, thread or shrinker entry: counted, but not attributed.
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
    :param pressure: ``some_avg10``, ``full_avg10`` (percent), ``some_us``, ``full_us`` (growth) of memory;
        ``io_some_us``, ``io_full_us`` of I/O; empty without PSI.
    :param settings: those that differ from the session's at the end of the interval.
    :param memory: the host's memory at the end of the interval, bytes by kind: :mod:`mmwatch.host.meminfo`.
    :param kernel_log: lines of the kernel's log that tell who dropped caches, or whom the OOM killer ended, clean.
    :param elsewhere: set in merged intervals, see :func:`mmwatch.model.nodes.elsewhere`; None: derive it from rows and
        nodes.
    :param cgroups: path by ``cgroup_id`` of the rows and of those above them, clean text.
    :param cgroup_memory: by ``cgroup_id``, for the cgroups with the most reclaim and those above them.
    :param processes: by tgid.
    :param inside: reclaims under way at its end, the oldest first; of many, the oldest.
    :param shrinkers: which slab shrinkers were called; those whose names are unknown are one.
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
    memory: Mapping[str, int] = field(default_factory=dict)
    kernel_log: tuple[str, ...] = ()
    elsewhere: Mapping[int, Elsewhere] | None = None
    cgroups: Mapping[int, str] = field(default_factory=dict)
    cgroup_memory: Mapping[int, CgroupMemory] = field(default_factory=dict)
    processes: Mapping[int, Process] = field(default_factory=dict)
    loss: Loss = field(default_factory=Loss)
    cost: Cost = field(default_factory=Cost)
    kswapd: Mapping[int, str] = field(default_factory=dict)
    inside: tuple[Inside, ...] = ()
    shrinkers: tuple[Shrinker, ...] = ()
