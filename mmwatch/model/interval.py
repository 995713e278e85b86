"""What is known of one stretch of time: the hand-over between whoever observes and whoever shows.

A live session makes one :class:`Interval` per refresh; a recording is one :class:`Session` and a series of them;
replay reads them back. Everything a screen or report shows is derived from these two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmwatch.model.measures import MEASURES, Fold

if TYPE_CHECKING:
    from mmwatch.model.nodes import Elsewhere


@dataclass(frozen=True)
class Stretch:
    """What happened between two points of time, in all: the course of a recording is a series of these.

    :param begin_s: Unix time.
    :param reclaimed_pages: None where no probe tells.
    """

    begin_s: float
    duration_s: float
    reclaimed_pages: int | None
    stall_ns: int


Rows = npt.NDArray[np.void]
"""A structured array of :data:`ROW_DTYPE`: what each thread x path x node did in the interval."""

_IDENTITY = [
    ("tgid", "u4"),
    ("tid", "u4"),
    ("path", "u4"),
    ("node", "i4"),
    ("cpu_node", "i8"),
    ("cgroup_id", "u8"),
    ("start_ns", "u8"),
    ("comm", "S16"),
]
IDENTITY = tuple(name for name, _ in _IDENTITY)

ROW_DTYPE = np.dtype(
    _IDENTITY + [(m.name, ("i8" if m.name == "stall_ns" else "u8"), (m.length,) if m.length else ()) for m in MEASURES]
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
    :param gfp_flags: bits by name, as this kernel has them, combinations before what they are made of; empty when not
        known.
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
    gfp_flags: Mapping[str, int] = field(default_factory=dict)
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
    :param edge_begin_pages: reclaimed pages by which ``vmstat`` may differ for no other reason than that both cannot be
        read at the same instant: what it grew by while the rows were read, at the beginning.
    :param edge_end_pages: the same at the end, which is the beginning of the next.
    :param pressure: ``some_avg10``, ``full_avg10`` (percent), ``some_us``, ``full_us`` (grown); empty without PSI.
    :param kswapd: by node, what its kswapd is at: ``running``, ``sleeping`` or ``gave up``; no entry when not known.
    :param elsewhere: of merged intervals, see :func:`mmwatch.model.nodes.elsewhere`; None where rows and nodes tell.
    :param cgroups: path by id, of the rows' ``cgroup_id``, clean text.
    :param processes: by tgid.
    """

    end_s: float
    duration_ns: int
    rows: Rows
    vmstat: Mapping[str, int] = field(default_factory=dict)
    edge_begin_pages: int = 0
    edge_end_pages: int = 0
    nodes: tuple[Node, ...] = ()
    pressure: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: Mapping[int, Elsewhere] | None = None
    cgroups: Mapping[int, str] = field(default_factory=dict)
    processes: Mapping[int, Process] = field(default_factory=dict)
    loss: Loss = field(default_factory=Loss)
    cost: Cost = field(default_factory=Cost)
    kswapd: Mapping[int, str] = field(default_factory=dict)


def _words(rows: Rows) -> npt.NDArray[np.uint64]:
    """The same memory as ``(len(rows), itemsize / 8)``: numpy copies structures member by member, many times slower."""
    return np.ascontiguousarray(rows).view(np.uint64).reshape(len(rows), -1)


def _rows(words: npt.NDArray[np.uint64]) -> Rows:
    rows: Rows = words.view(ROW_DTYPE)[:, 0]
    return rows


def fold_rows(rows: Rows, keys: list[str]) -> tuple[Rows, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows with equal ``keys`` as one.

    :param keys: identity fields of :data:`ROW_DTYPE`; without any, all rows become one.
    :returns: the folded rows (identity of the group's latest row; ``rows`` itself where no two are equal), for each
        its number of rows, and for each input row its group. Shapes ``(groups,)``, ``(groups,)``, ``(len(rows),)``.
    """
    if not len(rows):
        return rows, np.zeros(0, np.intp), np.zeros(0, np.intp)
    order = np.lexsort([rows[key] for key in ["start_ns", *reversed(keys)]])
    new = np.zeros(len(rows), bool)
    for key in keys:
        in_order = rows[key][order]
        new[1:] |= in_order[1:] != in_order[:-1]
    new[0] = True
    first = np.flatnonzero(new)
    if len(first) == len(rows):  # the usual case of many tasks, and rows are large: leave them where they are
        return rows, np.ones(len(rows), np.intp), np.arange(len(rows))
    members = np.diff(first, append=len(rows))
    groups = np.empty(len(rows), np.intp)
    groups[order] = np.cumsum(new) - 1
    words = _words(rows)
    folded = words[order[first + members - 1]]
    several = members > 1
    folded[several] = _sum_groups(words[order[np.repeat(several, members)]], members[several])
    return _rows(folded), members, groups


def limit_rows(rows: Rows, rows_max: int) -> Rows:
    """All rows, or the ``rows_max`` that spent most time in reclaim and the others as one row for each path and node.

    Those are of tgid 0, as when a table is full in the kernel: attribution degrades, totals do not.
    """
    if len(rows) <= rows_max:
        return rows
    order = np.argsort(rows["stall_ns"], kind="stable")
    rest = rows[order[:-rows_max]]
    for name in ("tgid", "tid", "cgroup_id", "start_ns", "comm"):
        rest[name] = np.zeros(1, ROW_DTYPE)[name]
    return np.concatenate([rows[order[-rows_max:]], fold_rows(rest, ["path", "node", "cpu_node"])[0]])


def _sum_groups(words: npt.NDArray[np.uint64], members: npt.NDArray[np.intp]) -> npt.NDArray[np.uint64]:
    """One row for each run of ``members`` rows."""
    last = np.cumsum(members) - 1
    first = last - members + 1
    # All is of 64 bits but the identity: one sum over everything, then what is no sum is put right. A loop, because
    # reduceat takes twice as long for many small groups and ten times as long for a few large ones.
    sums = np.empty((len(members), words.shape[1]), np.uint64)
    for group, (begin, end) in enumerate(zip(first.tolist(), (last + 1).tolist())):
        np.add.reduce(words[begin:end], axis=0, out=sums[group])
    rows, summed = _rows(words), _rows(sums)
    for name in IDENTITY:
        summed[name] = rows[name][last]
    for measure in MEASURES:
        if measure.fold is Fold.LATEST:
            summed[measure.name] = rows[measure.name][last]
        elif measure.fold is Fold.MAX:
            summed[measure.name] = np.maximum.reduceat(rows[measure.name], first)
    return sums
