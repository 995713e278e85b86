"""Names, limits, usage and counters of the memory cgroups that reclaim, and of those above them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from mmwatch import units
from mmwatch.host.cgroup_memory import read_memory, read_stat
from mmwatch.host.cgroups import CgroupMount, CgroupNames, of_process
from mmwatch.model.interval import CgroupMemory

if TYPE_CHECKING:
    from mmwatch.model.rows import Rows

CGROUPS_MAX = 64
"""In each interval, limits and usage are read for at most this many cgroups and those above them. 40 us each."""
STATS_MAX = 16
"""Counters are read for so many, and from then on in every interval: growth needs two readings. 0.1 ms each."""
LOCATED_MAX = 256
"""Where the kernel's programs cannot tell the cgroup, it is looked up for so many processes. 15 us each."""
FOLLOWED_MAX = 64
FIRST_MAX = 256
"""So many are read when a session begins, so that its first interval has growth, too."""
ALL_MAX = 1024
"""So many are read at both ends of a diagnosis, whether or not they reclaim."""

MOVED = ("max", "high", "oom_kill", "workingset_refault_file", "workingset_refault_anon")


class Cgroups:
    """Reads cgroups.

    :param mount: None: there are none, and nothing is known.
    """

    def __init__(self, mount: CgroupMount | None) -> None:
        self._mount = mount
        self._names = CgroupNames(mount)
        self._counts: dict[int, dict[str, int]] = {}
        self._followed: dict[int, str] = {}
        self._all: dict[int, str] = {}
        self._first = False

    def name(self, number: int) -> str | None:
        """The path of a cgroup, clean; None if unknown."""
        return self._names.get(number) if number else None

    def begin(self, everything: bool = False) -> None:
        """Read the counters of cgroups, so that the first call of :meth:`of` can tell their growth.

        :param everything: so that :meth:`of` can tell at the end which of all of them moved.
        """
        self._names.path(0)  # walks the tree
        found = self._names.known()[: ALL_MAX if everything else FIRST_MAX]
        for number, path in found:
            self._read_stat(number, path)
        self._all, self._first = (dict(found), False) if everything else ({}, True)

    def locate(self, rows: Rows) -> None:
        """Fill in the cgroup of rows that have none: without BTF, the kernel's programs cannot tell it on version 1.

        It is that of the process now, so a process that has moved or ended is taken for what it is now, or left out.
        """
        nowhere = (rows["cgroup_id"] == 0) & (rows["tgid"] != 0)
        if self._mount is None or not nowhere.any():
            return
        tgids, where = np.unique(rows["tgid"][nowhere], return_inverse=True)
        stall = np.bincount(where, rows["stall_ns"][nowhere].astype(float))
        for tgid in tgids[np.argsort(-stall)[:LOCATED_MAX]].tolist():
            path = of_process(self._mount, tgid)
            if path is None:
                continue
            if self._names.number(path) is None:
                self._names.path(0)  # walks the tree
            rows["cgroup_id"][nowhere & (rows["tgid"] == tgid)] = self._names.number(path) or 0

    def of(self, rows: Rows, everything: bool = False) -> tuple[dict[int, str], dict[int, CgroupMemory]]:
        """The names of all cgroups in ``rows``, targets too; limits, usage and counters of those with the most reclaim.

        All include the cgroups above them, because a limit there may be the one that binds.

        :param everything: also those that :meth:`begin` read, if a counter of :data:`MOVED` has grown.
        """
        # The target is most often the task's own cgroup; its time counts once then.
        other_target = rows[rows["target_id"] != rows["cgroup_id"]]
        both = np.concatenate([rows["cgroup_id"], other_target["target_id"]])
        numbers, where = np.unique(both, return_inverse=True)
        times = np.concatenate([rows["stall_ns"], other_target["stall_ns"]]).astype(float)
        stall = np.bincount(where, times) if len(both) else np.zeros(0)
        names: dict[int, str] = {}
        memory: dict[int, CgroupMemory] = {}
        for rank, number in enumerate(numbers[np.argsort(-stall)].tolist()):
            path = self._names.path(number) if number else None
            if path is None or self._mount is None:
                continue
            names[number] = units.clean(path)
            self._add(self._above(path) if rank < CGROUPS_MAX else (), rank < STATS_MAX, names, memory)
        self._add(list(self._followed.items()), True, names, memory)
        if self._first:
            # What another cgroup counts until it is followed does not belong to the interval in which that begins.
            self._counts = {number: self._counts[number] for number in self._followed if number in self._counts}
            self._first = False
        if everything:
            here = set(memory)
            self._add(self._all.items(), True, names, memory)
            for number in set(memory) - here:
                if not any(memory[number].grown.get(name) for name in MOVED):
                    del memory[number]
        return names, memory

    def _above(self, path: str) -> list[tuple[int, str]]:
        """A cgroup and those above it: number and path."""
        found = ((self._names.number(one), one) for one in (path, *units.ancestors(path)))
        return [(number, one) for number, one in found if number is not None]

    def _add(
        self,
        cgroups: Iterable[tuple[int, str]],
        counted: bool,
        names: dict[int, str],
        memory: dict[int, CgroupMemory],
    ) -> None:
        wanted = [
            (number, path)
            for number, path in cgroups
            if self._mount is not None and (number not in memory or (counted and not memory[number].levels))
        ]
        # Usage first, one right after the other, so that that of a cgroup is hardly more than that of its parent.
        found = [(number, path, read_memory(self._mount, path) if self._mount else None) for number, path in wanted]
        for number, path, one in found:
            if one is None:
                self._followed.pop(number, None)
                continue
            names[number] = units.clean(path)
            grown, levels = self._read_stat(number, path) if counted else ({}, {})
            memory[number] = CgroupMemory(**asdict(one), grown=grown, levels=levels)
            if counted and len(self._followed) < FOLLOWED_MAX and number not in self._all:
                self._followed[number] = path

    def _read_stat(self, number: int, path: str) -> tuple[dict[str, int], dict[str, int]]:
        """Growth of the counters since the last call for this cgroup (empty if this is the first), and levels."""
        if self._mount is None:
            return {}, {}
        found = read_stat(self._mount, path)
        before = self._counts.get(number)
        self._counts[number] = dict(found.counts)
        if before is None:
            return {}, dict(found.levels)
        grown = {name: max(value - before[name], 0) for name, value in found.counts.items() if name in before}
        return grown, dict(found.levels)
