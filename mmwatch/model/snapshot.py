"""An interval grouped and summed: what a table, a screen or a JSON object shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch import units
from mmwatch.model.accounting import Accounting, accounting
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import Interval, Process, Session
from mmwatch.model.measures import NODE_UNKNOWN, PATHS
from mmwatch.model.rows import SUMS, Floats, Rows, active_rows, fold_rows

UNATTRIBUTED = "(unattributed)"
"""The name shown for events that were counted in a shared row."""
HOST = "(host)"
"""The target of reclaim that is not for a memory cgroup."""


@dataclass(frozen=True)
class Snapshot:
    """An interval folded by one of :data:`mmwatch.model.groupings.GROUPINGS`.

    :param rows: one row per group, in no particular order. Fields that are not keys of the grouping hold the value of
        one member, so use :meth:`identities` instead.
    :param nodes_of: for each row, a tuple of the nodes its pages came from, in order.
    :param overshoot: pages freed / pages asked for, over the paths that ask for a number; NaN if there is none.
    :param asked_known: whether one of the row's paths asks for a number.
    :param freed_known: whether the pages freed by its reclaims are known.
    :param same_comm: whether everything folded into the row has this comm; ``same_cgroup`` and
        ``same_target`` likewise.
    :param of_host: whether the row's reclaims are known not to be for a memory cgroup.
    :param totals: everything as one row; no row if nothing was seen.
    """

    session: Session
    interval: Interval
    by: str
    rows: Rows
    nodes_of: npt.NDArray[np.object_]
    overshoot: Floats
    asked_known: npt.NDArray[np.bool_]
    freed_known: npt.NDArray[np.bool_]
    same_comm: npt.NDArray[np.bool_]
    same_cgroup: npt.NDArray[np.bool_]
    same_target: npt.NDArray[np.bool_]
    of_host: npt.NDArray[np.bool_]
    totals: Rows
    accounting: Accounting

    @property
    def duration_s(self) -> float:
        return self.interval.duration_ns / 1e9

    def select(self, indices: npt.NDArray[np.intp]) -> Snapshot:
        """Only these rows, in this order. Totals and accounting stay those of the whole."""
        return replace(
            self,
            rows=self.rows[indices],
            nodes_of=self.nodes_of[indices],
            overshoot=self.overshoot[indices],
            asked_known=self.asked_known[indices],
            freed_known=self.freed_known[indices],
            same_comm=self.same_comm[indices],
            same_cgroup=self.same_cgroup[indices],
            same_target=self.same_target[indices],
            of_host=self.of_host[indices],
        )

    def identities(self) -> dict[str, list[Any]]:
        """Who the rows are, a list per field: ``tgid``, ``tid``, ``comm``, ``cmdline``, ``path``, ``node``, ``cgroup``,
        ``target``.

        None where a field is unknown or has no meaning in the grouping. All text is clean.
        """
        rows, keys = self.rows, GROUPINGS[self.by]
        none = [None] * len(rows)
        processes = self.processes()
        groups = [self.interval.cgroups.get(number) for number in rows["cgroup_id"].tolist()]
        return {
            "tgid": [number or None for number in rows["tgid"].tolist()] if "tgid" in keys else none,
            "tid": [number or None for number in rows["tid"].tolist()] if "tid" in keys else none,
            "comm": self._comms(processes) if "tgid" in keys or "comm" in keys else none,
            "cmdline": [process.cmdline or None if process else None for process in processes],
            "path": [PATHS[number] for number in rows["path"].tolist()] if "path" in keys else none,
            "node": [nodes[0] if len(nodes) == 1 and nodes[0] != NODE_UNKNOWN else None for nodes in self.nodes_of],
            "cgroup": [group if same else None for group, same in zip(groups, self.same_cgroup.tolist())],
            "target": self._targets(),
        }

    def _targets(self) -> list[str | None]:
        if "target_id" in self.session.unknown:
            return [None] * len(self.rows)
        names = self.interval.cgroups
        return [
            HOST if of_host else names.get(number) if same else None
            for number, same, of_host in zip(
                self.rows["target_id"].tolist(), self.same_target.tolist(), self.of_host.tolist()
            )
        ]

    def _comms(self, processes: list[Process | None]) -> list[str | None]:
        comms = [
            units.decode(comm) if same else process.comm or None if process else None
            for comm, same, process in zip(self.rows["comm"].tolist(), self.same_comm.tolist(), processes)
        ]
        nobody = self.rows["comm"] == b"" if self.by == "comm" else self.rows["tgid"] == 0
        for index in np.flatnonzero(nobody).tolist():
            comms[index] = comms[index] or UNATTRIBUTED
        return comms

    def identity(self, index: int) -> dict[str, Any]:
        """:meth:`identities` of one row."""
        return {key: values[0] for key, values in self.select(np.array([index])).identities().items()}

    def processes(self) -> list[Process | None]:
        """The process of each row in the groupings by task and thread; None where it is unknown."""
        if "tgid" not in GROUPINGS[self.by]:
            return [None] * len(self.rows)
        return [self.interval.processes.get(tgid) for tgid in self.rows["tgid"].tolist()]


def _asks(rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether a row's path asks for a number of pages. kswapd aims at a watermark, and ``other`` has no bracket."""
    return ~np.isin(rows["path"], (PATHS.index("kswapd"), PATHS.index("other")))


def _freed_unknown(session: Session, rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether the pages a row's reclaims freed are unknown: kswapd reports none, so they come from its batches."""
    silent = not session.unknown.isdisjoint(SUMS["reclaimed_pages"])
    return np.asarray((rows["path"] == PATHS.index("kswapd")) & silent)


def _of_host(
    rows: Rows, groups: npt.NDArray[np.intp], count: int, counts: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which groups have reclaim for the whole host or a node, and none of which the target is another, or unknown.

    :param counts: the rows that count.

    A proactive reclaim has a target or not; a row shared by many has lost it.
    """
    other, proactive, *always = (PATHS.index(path) for path in ("other", "proactive", "direct", "node", "kswapd"))
    path = rows["path"]
    host = np.isin(path, always) | ((path == proactive) & (rows["start_ns"] > 0))
    host &= rows["target_id"] == 0
    spoilt = counts & ~host & ((path != other) | (rows["target_id"] != 0))
    host &= counts
    found = (np.bincount(groups[host], minlength=count) > 0) & (np.bincount(groups[spoilt], minlength=count) == 0)
    return np.asarray(found, bool)


def _counting(rows: Rows, groups: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.bool_]:
    """The rows that did anything, and all rows of a group in which none did.

    A reclaim may begin in one row and move to another when its target is known; the first one stays empty.
    """
    active = active_rows(rows)
    return np.asarray(active | (np.bincount(groups[active], minlength=count) == 0)[groups], bool)


def take(session: Session, interval: Interval, by: str = "task") -> Snapshot:
    """Fold an interval by one of :data:`mmwatch.model.groupings.GROUPINGS`.

    :raises KeyError: no such grouping.
    """
    rows = interval.rows
    folded, _members, groups = fold_rows(rows, list(GROUPINGS[by]))
    count = len(folded)
    asks, counts = _asks(rows), _counting(rows, groups, count)
    asked = np.bincount(groups[asks], rows["asked_pages"][asks], count)
    freed = np.bincount(groups[asks], rows["reported_pages"][asks], count)
    with np.errstate(divide="ignore", invalid="ignore"):
        overshoot = np.where(asked > 0, freed / asked, np.nan)
    return Snapshot(
        session=session,
        interval=interval,
        by=by,
        rows=folded,
        nodes_of=_nodes_of(groups, rows["node"], count),
        overshoot=overshoot,
        asked_known=np.bincount(groups[asks], minlength=count) > 0,
        freed_known=np.bincount(groups[_freed_unknown(session, rows)], minlength=count) == 0,
        same_comm=_all_equal(rows["comm"], folded["comm"], groups, count),
        same_cgroup=_all_equal(rows["cgroup_id"], folded["cgroup_id"], groups, count),
        same_target=_all_equal(rows["target_id"][counts], folded["target_id"], groups[counts], count),
        of_host=_of_host(rows, groups, count, counts),
        totals=fold_rows(rows, [])[0],
        accounting=accounting(session, interval),
    )


def _nodes_of(groups: npt.NDArray[np.intp], node: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.object_]:
    """The nodes of each group. Nearly all groups have one node, so tuples of one node are made once and shared."""
    found = np.empty(count, object)
    if not count:
        return found
    lowest, highest = int(node.min()), int(node.max())
    pairs = np.unique(groups * (highest - lowest + 1) + (node - lowest))
    of_group, offset = np.divmod(pairs, highest - lowest + 1)
    single = np.empty(highest - lowest + 1, object)
    single[:] = [(number,) for number in range(lowest, highest + 1)]
    found[of_group] = single[offset]
    first = np.searchsorted(of_group, np.arange(count + 1))
    nodes = (offset + lowest).tolist()
    for group in np.flatnonzero(np.diff(first) > 1).tolist():
        found[group] = tuple(nodes[first[group] : first[group + 1]])
    return found


def _all_equal(
    values: npt.NDArray[Any], chosen: npt.NDArray[Any], groups: npt.NDArray[np.intp], count: int
) -> npt.NDArray[np.bool_]:
    differing = np.bincount(groups, values != chosen[groups], count)
    return np.asarray(differing == 0, bool)
