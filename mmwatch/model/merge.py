"""Consecutive intervals as one: two of them, or any number in bounded memory."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from mmwatch.model.accounting import sum_losses, sum_maps
from mmwatch.model.interval import CgroupMemory, Cost, Interval, Process, Shrinker
from mmwatch.model.nodes import elsewhere, merge_elsewhere
from mmwatch.model.rows import ROW_DTYPE, Rows, fold_rows, limit_rows
from mmwatch.units import ancestors

THREAD_KEYS = ["tgid", "tid", "start_ns", "path", "node", "cpu_node", "target_id"]
"""Rows that agree in these are of the same thread, path, nodes and target."""
PROCESS_KEYS = ["tgid", "path", "node", "cpu_node", "cgroup_id", "target_id"]
LOG_MAX = 100
"""Lines of the kernel's log that a merged interval keeps."""

_NO_ROWS: Rows = np.zeros(0, ROW_DTYPE)
_BARE = np.zeros(0, "V1")
"""No rows and no fields: numpy takes 50 us to concatenate two empty arrays of ROW_DTYPE."""


def merge(first: Interval, second: Interval, keys: list[str] | None = None) -> Interval:
    """Two consecutive intervals as one.

    :param keys: fold rows with these equal; by default :data:`THREAD_KEYS`.
    """
    rows, _, _ = fold_rows(np.concatenate([first.rows, second.rows]), keys or THREAD_KEYS)
    processes = dict(first.processes)
    for tgid, process in second.processes.items():
        before = processes.get(tgid)
        if before is not None:
            process = merge_process(before, process)
        processes[tgid] = process
    return replace(
        second,
        duration_ns=first.duration_ns + second.duration_ns,
        rows=rows,
        vmstat=sum_maps(first.vmstat, second.vmstat),
        edge_begin_pages=first.edge_begin_pages,
        edge_end_pages=second.edge_end_pages,
        edge_begin_scanned_pages=first.edge_begin_scanned_pages,
        edge_end_scanned_pages=second.edge_end_scanned_pages,
        pressure={
            **second.pressure,
            **{
                name: first.pressure.get(name, 0) + second.pressure[name]
                for name in second.pressure
                if name.endswith("_us")
            },
        },
        kernel_log=(*first.kernel_log, *second.kernel_log)[-LOG_MAX:],
        elsewhere=merge_elsewhere(elsewhere(first), elsewhere(second)),
        cgroups={**first.cgroups, **second.cgroups},
        cgroup_memory=merge_memory(first.cgroup_memory, second.cgroup_memory),
        processes=processes,
        shrinkers=merge_shrinkers((*first.shrinkers, *second.shrinkers)),
        loss=sum_losses(first.loss, second.loss),
        cost=Cost(
            cpu_ns=first.cost.cpu_ns + second.cost.cpu_ns,
            rss_bytes=max(first.cost.rss_bytes, second.cost.rss_bytes),
            table_rows=max(first.cost.table_rows, second.cost.table_rows),
            table_size=second.cost.table_size,
        ),
    )


def merge_process(first: Process, second: Process) -> Process:
    """A process in two consecutive intervals: its latest name, and the sums of its times."""
    return Process(  # thousands in each interval: replace() takes four times as long
        second.tgid,
        second.comm,
        second.cmdline or first.cmdline,
        second.ppid,
        _sum_known(first.system_time_us, second.system_time_us),
        _sum_known(first.freepages_delay_ns, second.freepages_delay_ns),
        _sum_known(first.user_time_us, second.user_time_us),
        _sum_known(first.thrashing_delay_ns, second.thrashing_delay_ns),
        _sum_known(first.swapin_delay_ns, second.swapin_delay_ns),
        _sum_known(first.blkio_delay_ns, second.blkio_delay_ns),
        _sum_known(first.major_faults, second.major_faults),
        second.mems_allowed or first.mems_allowed,
        second.mempolicy or first.mempolicy,
    )


def merge_shrinkers(each: Iterable[Shrinker]) -> tuple[Shrinker, ...]:
    """Those of one name as one."""
    found: dict[str, Shrinker] = {}
    for one in each:
        sums = found.get(one.name, Shrinker(one.name, 0, 0, 0))
        found[one.name] = Shrinker(
            one.name, sums.calls + one.calls, sums.objects + one.objects, sums.shrinker_ns + one.shrinker_ns
        )
    return tuple(found.values())


def merge_memory(first: Mapping[int, CgroupMemory], second: Mapping[int, CgroupMemory]) -> dict[int, CgroupMemory]:
    """The latest limits and usage of each cgroup, and the growth of its counters in both."""
    found = dict(first)
    for number, memory in second.items():
        before = found.get(number)
        if before is not None and (before.grown or before.levels):
            memory = replace(memory, grown=sum_maps(before.grown, memory.grown), levels=memory.levels or before.levels)
        found[number] = memory
    return found


def lighten(interval: Interval, rows_max: int) -> Interval:
    """The interval with about ``rows_max`` rows: threads become processes, and those with the least time one row."""
    if len(interval.rows) <= rows_max:
        return interval
    rows, _, _ = fold_rows(interval.rows, PROCESS_KEYS)
    return replace(interval, rows=limit_rows(rows, rows_max))


def _sum_known(a: int | None, b: int | None) -> int | None:
    return None if a is None and b is None else (a or 0) + (b or 0)


class Sums:
    """Any number of consecutive intervals as one, in bounded memory.

    When more than twice ``rows_max`` rows have accumulated, all but the ``rows_max`` with the most time in reclaim
    become one row per path and node, with tgid 0 (:func:`mmwatch.model.rows.limit_rows`).

    :param keys: rows with these equal become one.
    :param waiting_max: rows that may wait to be folded. Each fold goes through all rows, so the limit grows with their
        number.
    """

    def __init__(self, keys: list[str], rows_max: int, waiting_max: int) -> None:
        self._keys, self._rows_max, self._waiting_max = keys, rows_max, waiting_max
        self._rows = _NO_ROWS
        self._waiting: list[Rows] = []
        self._count = 0
        self._rest: Interval | None = None

    def add(self, interval: Interval) -> None:
        """Add the next interval."""
        bare = replace(interval, rows=_BARE, elsewhere=elsewhere(interval))
        self._rest = bare if self._rest is None else merge(self._rest, bare)
        self._waiting.append(interval.rows)
        self._count += len(interval.rows)
        if self._count >= max(self._waiting_max, len(self._rows) // 2):
            self._fold()

    def whole(self) -> Interval | None:
        """Everything so far; None before the first interval. Processes and cgroups are those of the rows."""
        self._fold()
        return None if self._rest is None else replace(self._rest, rows=self._rows)

    def copy(self) -> Sums:
        """A copy, independent of what is added to this one later."""
        other = copy.copy(self)
        other._waiting = list(self._waiting)
        return other

    def _fold(self) -> None:
        if not self._waiting or self._rest is None:
            return
        rows, _, _ = fold_rows(np.concatenate([self._rows, *self._waiting]), self._keys)
        self._rows = rows if len(rows) <= 2 * self._rows_max else limit_rows(rows, self._rows_max)
        self._waiting, self._count = [], 0
        tgids, cgroups, targets = (
            set(np.unique(self._rows[name]).tolist()) for name in ("tgid", "cgroup_id", "target_id")
        )
        cgroups |= targets
        cgroups |= _above(cgroups, self._rest.cgroups)
        self._rest = replace(
            self._rest,
            processes={tgid: process for tgid, process in self._rest.processes.items() if tgid in tgids},
            cgroups={number: path for number, path in self._rest.cgroups.items() if number in cgroups},
            cgroup_memory={n: memory for n, memory in self._rest.cgroup_memory.items() if n in cgroups},
        )


def _above(numbers: set[int], paths: Mapping[int, str]) -> set[int]:
    """The cgroups above these."""
    wanted = {above for number in numbers for above in ancestors(paths.get(number, ""))}
    return {number for number, path in paths.items() if path in wanted}
