"""The columns of a table, declared once: sort keys, ``--columns``, help and manual follow from this list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch import units
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.rows import SUMS, Floats, priority_min, stall_quantile_ns
from mmwatch.model.snapshot import Snapshot


@dataclass(frozen=True)
class Column:
    """One column.

    :param key: for ``-s`` and ``--columns``.
    :param help: one line, with the unit.
    :param values: one value per row; NaN (None in a text column) if unknown.
    :param text: turns a value into text.
    :param needs: measures it is computed from; without a probe for one of them, the column is unknown.
    :param left: a text column, aligned left and sorted upwards.
    :param keep_end: a path: it is cut at its front.
    :param grows: it gets a part of the width that is left.
    :param low_is_worse: small values are sorted first: the worst ones always are.
    """

    key: str
    title: str
    width: int
    help: str
    values: Callable[[Snapshot], npt.NDArray[Any]]
    text: Callable[[Any], str]
    needs: tuple[str, ...] = ()
    left: bool = False
    low_is_worse: bool = False
    keep_end: bool = False
    grows: bool = False

    def of(self, snapshot: Snapshot) -> npt.NDArray[Any]:
        """The column's values, ``(len(rows),)``."""
        if snapshot.session.unknown.intersection(self.needs):
            return np.full(len(snapshot.rows), None if self.left else np.nan)
        return self.values(snapshot)


def _rate(*names: str) -> Callable[[Snapshot], Floats]:
    def values(snapshot: Snapshot) -> Floats:
        total = sum(snapshot.rows[name].astype(float) for name in names)
        return np.asarray(total / max(snapshot.duration_s, 1e-9))

    return values


def _count(*names: str) -> Callable[[Snapshot], Floats]:
    return lambda snapshot: np.asarray(sum(snapshot.rows[name].astype(float) for name in names))


def _share(part: tuple[str, ...], whole: tuple[str, ...]) -> Callable[[Snapshot], Floats]:
    def values(snapshot: Snapshot) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = _count(*part)(snapshot) / _count(*whole)(snapshot)
        return np.where(np.isfinite(quotient), quotient, np.nan)

    return values


def _if_freed_known(values: Callable[[Snapshot], Floats]) -> Callable[[Snapshot], Floats]:
    """The values, unknown in rows whose freed pages are unknown."""
    return lambda snapshot: np.where(snapshot.freed_known, values(snapshot), np.nan)


def _stall_share(snapshot: Snapshot) -> Floats:
    return np.asarray(np.maximum(snapshot.rows["stall_ns"], 0) / max(snapshot.interval.duration_ns, 1))


def system_share(cpu_ns: Floats, system_us: Floats) -> Floats:
    """CPU time in reclaim / system time; NaN without system time. Never above 1: reclaim is a part of it, but the
    kernel samples system time with the tick (kernel/sched/cputime.c, cputime_adjust)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = cpu_ns / 1000 / system_us
    return np.where(system_us > 0, np.minimum(share, 1.0), np.nan)


def _system_share(snapshot: Snapshot) -> Floats:
    system_us = np.array([process.system_time_us or 0 if process else 0 for process in snapshot.processes()], float)
    return system_share(snapshot.rows["cpu_ns"].astype(float), system_us)


def _cpu_share(snapshot: Snapshot) -> Floats:
    return np.asarray(snapshot.rows["cpu_ns"] / max(snapshot.interval.duration_ns, 1))


def _asleep_share(snapshot: Snapshot) -> Floats:
    return _stall_share(snapshot) - _cpu_share(snapshot)


def _identity(key: str) -> Callable[[Snapshot], npt.NDArray[Any]]:
    def values(snapshot: Snapshot) -> npt.NDArray[Any]:
        return np.array(snapshot.identities()[key], object)

    return values


def _nodes(snapshot: Snapshot) -> npt.NDArray[Any]:
    """``0``, ``0,1``, ``0-3``: the nodes pages came from."""
    found = np.empty(len(snapshot.rows), object)
    for index, nodes in enumerate(snapshot.nodes_of):
        known = [node for node in nodes if node >= 0]
        if len(known) > 2 and known == list(range(known[0], known[-1] + 1)):
            found[index] = f"{known[0]}-{known[-1]}"
        else:
            found[index] = ",".join(map(str, known)) or None
    return found


def _number(key: str, field: str) -> Callable[[Snapshot], Floats]:
    def values(snapshot: Snapshot) -> Floats:
        if field not in GROUPINGS[snapshot.by]:
            return np.full(len(snapshot.rows), np.nan)
        numbers = snapshot.rows[field].astype(float)
        return np.where(numbers > 0, numbers, np.nan)

    return values


def _known(function: Callable[[float], str]) -> Callable[[Any], str]:
    return lambda value: "-" if value is None or value != value else function(value)


_whole = _known(lambda value: f"{value:.0f}")
_counted = _known(units.count_text)
_time = _known(units.ns_text)
_percent = _known(units.ratio_text)
_factor = _known(lambda value: units.ratio_text(value, percent=False))
_string = _known(str)
_path = _known(lambda value: units.cgroup_text(str(value)))


def _lowest(snapshot: Snapshot) -> Floats:
    """Unknown only if neither batches nor passes are seen. A histogram without a probe is all 0, so it does no harm."""
    lowest = priority_min(snapshot.rows).astype(float)
    return np.where(lowest >= 0, lowest, np.nan)


def _longest(snapshot: Snapshot) -> Floats:
    return np.where(snapshot.rows["reclaims"] > 0, snapshot.rows["stall_max_ns"].astype(float), np.nan)


def _quantile(quantile: float) -> Callable[[Snapshot], Floats]:
    return lambda snapshot: stall_quantile_ns(snapshot.rows, quantile)


def _of_cgroup(snapshot: Snapshot, *prefixes: str) -> Floats:
    """Growth per second of the counters of each row's cgroup that begin so; NaN in other groupings, and if not read."""
    found = np.full(len(snapshot.rows), np.nan)
    for index, number in enumerate(snapshot.rows["cgroup_id"].tolist() if snapshot.by == "cgroup" else ()):
        memory = snapshot.interval.cgroup_memory.get(number)
        counted = [n for name, n in memory.grown.items() if name.startswith(prefixes)] if memory else []
        found[index] = sum(counted) / max(snapshot.duration_s, 1e-9) if counted else np.nan
    return found


def _major_faults(snapshot: Snapshot) -> Floats:
    if snapshot.by != "task":
        return _of_cgroup(snapshot, "pgmajfault")
    counts = [np.nan if p is None or p.major_faults is None else p.major_faults for p in snapshot.processes()]
    return np.array(counts, float) / max(snapshot.duration_s, 1e-9)


_RECLAIMED, _SCANNED = SUMS["reclaimed_pages"], SUMS["scanned_pages"]

COLUMNS: tuple[Column, ...] = (
    Column("pid", "PID", 7, "process (thread group) ID", _number("pid", "tgid"), _whole),
    Column("tid", "TID", 7, "thread ID", _number("tid", "tid"), _whole),
    Column("comm", "COMM", 14, "name of the task", _identity("comm"), _string, left=True),
    Column("path", "PATH", 9, "how the task got into reclaim", _identity("path"), _string, left=True),
    Column("node", "NODE", 4, "NUMA nodes the pages were taken from", _nodes, _string, left=True),
    Column("reclaimed", "RECL/s", 6, "pages reclaimed per second", _rate(*_RECLAIMED), _counted, _RECLAIMED),
    Column("scanned", "SCAN/s", 6, "pages scanned per second", _rate(*_SCANNED), _counted, _SCANNED),
    Column(
        "efficiency",
        "EFF%",
        4,
        "pages reclaimed, percent of pages scanned",
        _share(_RECLAIMED, _SCANNED),
        _percent,
        _RECLAIMED + _SCANNED,
        low_is_worse=True,
    ),
    Column(
        "priority",
        "PRI",
        3,
        "lowest scan priority reached: reclaim starts at 12 (node reclaim at 4); 0 scans the whole list",
        _lowest,
        _whole,
        low_is_worse=True,
    ),
    Column(
        "overshoot",
        "OVER",
        5,
        "pages freed for each page asked for",
        lambda s: s.overshoot,
        _factor,
        ("asked_pages", "reported_pages"),
    ),
    Column(
        "stall",
        "STALL%",
        6,
        "time in reclaim, asleep or not, percent of the interval (threads add up)",
        _stall_share,
        _percent,
        ("stall_ns",),
    ),
    Column("longest", "WORST", 6, "longest single reclaim that ended", _longest, _time, ("stall_max_ns",)),
    Column("reclaims", "RECLM/s", 7, "reclaims per second", _rate("reclaims"), _counted, ("reclaims",)),
    Column(
        "futile",
        "FUTIL%",
        6,
        "reclaims that freed nothing, percent of all reclaims",
        _if_freed_known(_share(("reclaims_futile",), ("reclaims",))),
        _percent,
        ("reclaims_futile",),
    ),
    Column(
        "asked",
        "ASKED/s",
        7,
        "pages asked for per second; unknown for kswapd, which aims at a watermark",
        lambda s: np.where(s.asked_known, _rate("asked_pages")(s), np.nan),
        _counted,
        ("asked_pages",),
    ),
    Column("file", "FILE/s", 6, "page cache pages reclaimed per second", _rate(_RECLAIMED[0]), _counted, _RECLAIMED),
    Column("anon", "ANON/s", 6, "anonymous pages reclaimed per second", _rate(_RECLAIMED[1]), _counted, _RECLAIMED),
    Column(
        "p50", "P50", 7, "median time of a reclaim, accurate to 12 percent", _quantile(0.5), _time, ("stall_histogram",)
    ),
    Column(
        "p99",
        "P99",
        7,
        "99th percentile of the time of a reclaim, accurate to 12 percent",
        _quantile(0.99),
        _time,
        ("stall_histogram",),
    ),
    Column(
        "cpu",
        "CPU%",
        5,
        "CPU time in reclaim, percent of one CPU (threads add up)",
        _cpu_share,
        _percent,
        ("cpu_ns",),
    ),
    Column(
        "asleep",
        "SLEEP%",
        6,
        "time in reclaim off the CPU, asleep or waiting for one, percent of the interval (threads add up)",
        _asleep_share,
        _percent,
        ("stall_ns", "cpu_ns"),
    ),
    Column(
        "system",
        "SYS%",
        5,
        "CPU time in reclaim, percent of the system CPU time of the process",
        _system_share,
        _percent,
        ("cpu_ns",),
    ),
    Column(
        "throttled",
        "THROT%",
        6,
        "time throttled (asleep in reclaim), percent of the interval",
        lambda s: s.rows["throttled_ns"].sum(axis=1) / max(s.interval.duration_ns, 1),
        _percent,
        ("throttled_ns",),
    ),
    Column(
        "shrinker",
        "SLAB%",
        5,
        "time in slab shrinkers, percent of the interval",
        lambda s: s.rows["shrinker_ns"] / max(s.interval.duration_ns, 1),
        _percent,
        ("shrinker_ns",),
    ),
    Column(
        "written",
        "WRIT/s",
        6,
        "pages per second that reclaim itself wrote",
        _rate("written_pages"),
        _counted,
        ("written_pages",),
    ),
    Column("dirty", "DIRT/s", 6, "dirty pages found per second", _rate("dirty_pages"), _counted, ("dirty_pages",)),
    Column(
        "wakeups",
        "WAKE/s",
        6,
        "times per second that this task woke kswapd",
        _rate("kswapd_wakeups"),
        _counted,
        ("kswapd_wakeups",),
    ),
    Column(
        "largest",
        "LARGEST",
        7,
        "the most pages one reclaim freed",
        _count("reclaimed_max_pages"),
        _counted,
        ("reclaimed_max_pages",),
    ),
    Column(
        "refaults",
        "REFLT/s",
        7,
        "pages of the cgroup per second that were read again after they had been reclaimed (by cgroup only)",
        lambda s: _of_cgroup(s, "workingset_refault"),
        _counted,
    ),
    Column(
        "faults",
        "MAJF/s",
        6,
        "major faults per second, which wait for the disk: of the cgroup, or of the process",
        _major_faults,
        _counted,
    ),
    Column("passes", "PASS/s", 6, "passes (calls of shrink_node) per second", _rate("passes"), _counted, ("passes",)),
    Column(
        "pass_pages",
        "PG/PASS",
        7,
        "pages freed per pass",
        _if_freed_known(_share(("pass_reclaimed_pages",), ("passes",))),
        _counted,
        ("pass_reclaimed_pages", "passes"),
    ),
    Column("pass_time", "T/PASS", 6, "time per pass", _share(("pass_ns",), ("passes",)), _time, ("pass_ns", "passes")),
    Column(
        "pass_futile",
        "PFUTIL%",
        7,
        "passes that freed nothing, percent of all passes",
        _if_freed_known(_share(("passes_futile",), ("passes",))),
        _percent,
        ("passes_futile", "passes"),
    ),
    Column("reclaims_total", "RECLAIMS", 8, "reclaims", _count("reclaims"), _counted, ("reclaims",)),
    Column(
        "asked_total",
        "ASKED",
        6,
        "pages asked for; unknown for kswapd, which aims at a watermark",
        lambda s: np.where(s.asked_known, s.rows["asked_pages"].astype(float), np.nan),
        _counted,
        ("asked_pages",),
    ),
    Column("reclaimed_total", "RECL", 6, "pages reclaimed", _count(*_RECLAIMED), _counted, _RECLAIMED),
    Column("scanned_total", "SCAN", 6, "pages scanned", _count(*_SCANNED), _counted, _SCANNED),
    Column(
        "stall_total",
        "STALL",
        6,
        "time in reclaim (several threads add up)",
        lambda s: np.maximum(s.rows["stall_ns"], 0).astype(float),
        _time,
        ("stall_ns",),
    ),
    Column(
        "cgroup",
        "CGROUP",
        20,
        "memory cgroup of the task",
        _identity("cgroup"),
        _path,
        left=True,
        keep_end=True,
        grows=True,
    ),
    Column(
        "target",
        "TARGET",
        20,
        "memory cgroup that is reclaimed, whose limit binds; (host): reclaim for the whole host or a node",
        _identity("target"),
        _path,
        left=True,
        keep_end=True,
        grows=True,
    ),
    Column("command", "COMMAND", 30, "command line", _identity("cmdline"), _string, left=True, grows=True),
)

BY_KEY = {column.key: column for column in COLUMNS}
