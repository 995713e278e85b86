"""Which columns a table shows unasked, and in which order its rows come."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmwatch.model.columns import BY_KEY, Column
from mmwatch.model.rows import active_rows
from mmwatch.model.snapshot import Snapshot

DEFAULT = {
    "task": "pid comm path node reclaimed scanned efficiency priority overshoot stall longest",
    "thread": "tid comm path node reclaimed scanned efficiency priority overshoot stall longest",
    "comm": "comm path node reclaimed scanned efficiency priority overshoot stall longest",
    "node": "node reclaimed scanned efficiency priority overshoot stall longest reclaims p99",
    "cgroup": "cgroup node reclaimed scanned efficiency priority overshoot stall longest refaults",
    "target": "target node reclaimed scanned efficiency priority overshoot stall longest",
    "path": "path node reclaimed scanned efficiency priority overshoot stall longest p99",
}
"""The default columns by grouping; they fit 80 characters."""

CGROUP_MIN = 12
"""Cells that a cgroup takes at least beside the default columns."""
COMM_MIN = 10
_LESS = ("scanned", "efficiency", "node", "overshoot", "priority", "reclaimed", "reclaims", "p99", "path")
"""Default columns that make room for others, the first ones first."""


def default_keys(by: str, width: int | None, cgroups_differ: bool, one_node: bool) -> list[str]:
    """The default columns of a grouping, as many as fit. Where tasks are of different cgroups, theirs is among them.

    :param width: cells of the table; None: any number.
    """
    keys = DEFAULT[by].split()
    keys += ["cgroup"] if cgroups_differ and by in ("task", "thread") else []

    def room() -> int:
        least = {"cgroup": CGROUP_MIN, "target": CGROUP_MIN, "comm": COMM_MIN}
        return sum(least.get(key, max(BY_KEY[key].width, len(BY_KEY[key].title))) + 1 for key in keys) - 1

    for key in [*(("node",) if one_node and by != "node" else ()), *_LESS]:
        if width is not None and room() > width and key in keys and key != by:
            keys.remove(key)
    return keys


def cgroups_differ(snapshot: Snapshot) -> bool:
    """Whether the tasks that reclaimed are of more than one cgroup."""
    groups = snapshot.interval.rows["cgroup_id"][active_rows(snapshot.interval.rows)]
    return len(np.unique(groups[groups > 0])) > 1


RECORDED = {
    "reclaims": "reclaims_total",
    "asked": "asked_total",
    "reclaimed": "reclaimed_total",
    "scanned": "scanned_total",
    "stall": "stall_total",
}
"""A recording shows sums instead of rates: averaged over its whole length, a short reclaim storm would hardly show."""

DEFAULT_SORT = "stall"
"""Time in reclaim shows every kind of trouble: even a reclaim that frees nothing takes time."""


def sort_order(snapshot: Snapshot, column: Column, reverse: bool = False) -> npt.NDArray[np.intp]:
    """Row indices, the worst first (text upwards), unknown last; equal values by PID, so that lines do not jump."""
    values = column.of(snapshot)
    if values.dtype == object:
        known = np.array([value is not None for value in values], bool)
        ranks = np.unique([str(value) if value is not None else "" for value in values], return_inverse=True)[1]
        key = ranks.astype(float)
    else:
        known = ~np.isnan(values)
        key = np.where(known, values if column.low_is_worse else -values, 0.0)
    if reverse:
        key = -key
    return np.lexsort([snapshot.rows["path"], snapshot.rows["tid"], snapshot.rows["tgid"], key, ~known])


def active_order(snapshot: Snapshot, column: Column, reverse: bool = False) -> npt.NDArray[np.intp]:
    """:func:`sort_order` without the rows that did nothing."""
    order = sort_order(snapshot, column, reverse)
    return order[is_active(snapshot)[order]]


def is_active(snapshot: Snapshot) -> npt.NDArray[np.bool_]:
    """Which rows did anything in reclaim in the interval. ``(len(rows),)``."""
    return active_rows(snapshot.rows)
