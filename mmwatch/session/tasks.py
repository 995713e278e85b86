"""Who the reclaiming processes are, what CPU time and waits they had, and where they may allocate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mmwatch.host.processes import ProcessNames
from mmwatch.host.task import Placement, read_placement, read_times
from mmwatch.host.taskstats import TaskStats
from mmwatch.model.interval import Process
from mmwatch.units import clean

if TYPE_CHECKING:
    from mmwatch.model.rows import Rows

TIMED_MAX = 256
"""In each interval, CPU time is read for at most this many processes, those with the most reclaim first. 10 us each."""
CLOSELY_MAX = 16
"""Faults, and where a process may allocate, are read for so many. 50 us each."""
PLACED_MAX = 1024

Times = Mapping[str, "int | None"]
_NOTHING: Times = {}


class Tasks:
    """Reads processes.

    :param always: processes to read closely even if they do not reclaim.
    """

    def __init__(self, names: ProcessNames, taskstats: TaskStats, always: tuple[int, ...] = ()) -> None:
        self._names, self._taskstats, self._always = names, taskstats, always
        self._before: dict[int, Times] = {}
        self._placed: dict[int, Placement] = {}

    def begin(self) -> None:
        """The times of ``always`` count from here on."""
        for tgid in self._always:
            self._names.read(tgid)  # may wait, as get() does not
            self._times(tgid, True)

    def of(self, rows: Rows) -> dict[int, Process]:
        """Names of all processes in ``rows``, and the times of those with the most reclaim."""
        tgids, where = np.unique(rows["tgid"], return_inverse=True)
        stall = np.bincount(where, rows["stall_ns"].astype(float)) if len(rows) else np.zeros(0)
        # Kernel threads have no memory of their own. ``always`` first: they are what the user asked about.
        ranked = [tgid for tgid in tgids[np.argsort(-stall)[:TIMED_MAX]].tolist() if tgid]
        closely = {*self._always, *ranked[:CLOSELY_MAX]}
        times = {tgid: self._times(tgid, tgid in closely) for tgid in dict.fromkeys((*self._always, *ranked))}
        found = {}
        for tgid in dict.fromkeys((*self._always, *tgids.tolist())):
            if not tgid:
                continue
            name = self._names.get(tgid)
            placement = self._placement(tgid) if tgid in closely else Placement()
            found[tgid] = Process(
                tgid=tgid,
                comm=name.comm or "",
                cmdline=name.cmdline or "",
                ppid=name.ppid,
                mems_allowed=clean(placement.mems_allowed),
                mempolicy=clean(placement.mempolicy),
                **times.get(tgid, _NOTHING),
            )
        return found

    def _times(self, tgid: int, closely: bool) -> Times:
        """Growth since the last call for this process; None on the first call, and what is unknown."""
        usage = self._taskstats.process(tgid)
        now: dict[str, int | None] = {}
        if usage is not None:
            for name in ("system_time_us", "freepages_delay_ns"):
                now[name] = getattr(usage, name)
            if closely:
                for name in ("user_time_us", "thrashing_delay_ns", "swapin_delay_ns", "blkio_delay_ns"):
                    now[name] = getattr(usage, name)
        if closely:
            read = read_times(tgid)
            if read is not None:
                now["major_faults"] = read.major_faults
                if now.get("user_time_us") is None:
                    now["user_time_us"], now["system_time_us"] = read.user_time_us, read.system_time_us
        before = self._before.pop(tgid, _NOTHING)
        if now:
            self._before[tgid] = now
        if len(self._before) > 4 * TIMED_MAX:
            self._before.pop(next(iter(self._before)))
        # Some kernels forget the times of threads that have ended, so treat a sum that shrank as unknown.
        return {name: _grown(before.get(name), value) for name, value in now.items()}

    def _placement(self, tgid: int) -> Placement:
        """Read once for each process."""
        if tgid not in self._placed:
            if len(self._placed) >= PLACED_MAX:
                self._placed.clear()
            self._placed[tgid] = read_placement(tgid)
        return self._placed[tgid]


def _grown(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None or now < before else now - before
