"""Rows as structured arrays: what each thread did by each path on each node, and how rows fold into fewer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.abi import ROW
from mmwatch.model.measures import MEASURES, STALL_BUCKETS, STALL_SHIFT_MIN, Fold

Rows = npt.NDArray[np.void]
"""A structured array of :data:`ROW_DTYPE`."""
Floats = npt.NDArray[np.float64]

# cpu_node, the last number, is widened so that the measures begin at a multiple of 8 bytes.
_IDENTITY = [(m.name, "i8" if m.name == "cpu_node" else m.format) for m in ROW if m.fold is Fold.KEY]
IDENTITY = tuple(name for name, _ in _IDENTITY)

ROW_DTYPE = np.dtype(
    _IDENTITY + [(m.name, ("i8" if m.name == "stall_ns" else "u8"), (m.length,) if m.length else ()) for m in MEASURES]
)
"""Identity and measures. ``start_ns`` (CLOCK_MONOTONIC, when the row was made) distinguishes a thread from a later one
with the same ID. ``stall_ns`` is signed: the time of a reclaim under way can move to another row of its thread.
``tgid`` 0 is the overflow row of a full table, or a task outside the observer's PID namespace."""

SUMS = {
    "scanned_pages": ("scanned_file_pages", "scanned_anon_pages"),
    "reclaimed_pages": ("reclaimed_file_pages", "reclaimed_anon_pages"),
}
"""Figures that are shown as one but counted in two parts. They are unknown unless both parts are known."""

PRIORITY_TOLD_BY = ("priority_histogram", "pass_histogram")
"""Either of these shows how low the scan priority went."""

ACTIVE = (
    *("reclaims", "batches", "active_batches", "stall_ns", *SUMS["scanned_pages"]),
    *("shrinker_calls", "high_sleep_ns"),
)
"""A row in which all of these are 0 did nothing."""


def from_table(table: npt.NDArray[Any]) -> Rows:
    """Rows of ``struct row`` (``bpf/abi.h``) as rows of the model: same names, arrays cut to the part in use."""
    rows: Rows = np.zeros(len(table), ROW_DTYPE)
    for name in IDENTITY:
        rows[name] = table[name]
    for measure in MEASURES:
        values = table[measure.name]
        if measure.fold is Fold.MAX:
            values = values[:, 0]
        elif measure.length:
            values = values[:, : measure.length]
        rows[measure.name] = values if measure.name != "stall_ns" else values.view(np.int64)
    return rows


def cgroups_of(rows: Rows) -> list[int]:
    """The cgroups of the tasks, and the targets; 0 is among them if one is unknown, or a reclaim has no target."""
    return np.union1d(rows["cgroup_id"], rows["target_id"]).tolist()  # type: ignore[no-any-return]


def active_rows(rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows did anything in reclaim; waking kswapd does not count. ``(len(rows),)``."""
    active = np.zeros(len(rows), bool)
    for name in ACTIVE:
        active |= rows[name] != 0
    return active


def priority_min(rows: Rows) -> npt.NDArray[np.int64]:
    """The lowest scan priority of any batch or pass, -1 where none is known. ``(len(rows),)``."""
    seen = (rows["priority_histogram"] > 0) | (rows["pass_histogram"] > 0)
    return np.where(seen.any(axis=1), seen.argmax(axis=1), -1)


# ---- the stall histogram ----


def bucket_edges_ns() -> Floats:
    """Lower edges of the stall histogram's buckets, ``(STALL_BUCKETS + 1,)``: four to the octave from 256 ns on."""
    index = np.arange(STALL_BUCKETS) - 1
    edges = 2.0 ** (STALL_SHIFT_MIN + index // 4) * (1 + (index % 4) / 4)
    edges[0] = 0
    return np.append(edges, edges[-1] * 1.25)


_EDGES_NS = bucket_edges_ns()
_MIDDLES_NS = np.append([_EDGES_NS[1] / 2], np.sqrt(_EDGES_NS[1:-1] * _EDGES_NS[2:]))


def stall_quantile_ns(rows: Rows, quantile: float) -> Floats:
    """The stall time that a share ``quantile`` of each row's reclaims did not exceed; NaN if the row has no reclaim.

    It is the geometric middle of a bucket, so accurate to 12 % (four buckets to the octave), and never above the
    longest. ``(len(rows),)``.
    """
    sums = np.cumsum(rows["stall_histogram"], axis=1)
    total = sums[:, -1] if len(rows) else np.zeros(0)
    rank = np.ceil(total * quantile)
    bucket = (sums < np.maximum(rank, 1)[:, None]).sum(axis=1)
    middle = _MIDDLES_NS[np.minimum(bucket, STALL_BUCKETS - 1)]
    return np.where(total > 0, np.minimum(middle, rows["stall_max_ns"]), np.nan)


# ---- folding ----


def fold_rows(rows: Rows, keys: list[str]) -> tuple[Rows, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Fold rows with equal ``keys`` into one.

    :param keys: identity fields of :data:`ROW_DTYPE`; without any, all rows become one.
    :returns: the folded rows (with the identity of the group's latest row; ``rows`` itself if no two are equal), the
        number of rows in each group, and the group of each input row. Shapes ``(groups,)``, ``(groups,)``,
        ``(len(rows),)``.
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
    if len(first) == len(rows):  # usual with many tasks; rows are large, so leave them where they are
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
    """Keep the ``rows_max`` rows with the most time in reclaim; fold the rest into one row per path and node.

    Those have tgid 0, as when the kernel's table is full: attribution degrades, totals do not.
    """
    if len(rows) <= rows_max:
        return rows
    order = np.argsort(rows["stall_ns"], kind="stable")
    rest = rows[order[:-rows_max]]
    for name in ("tgid", "tid", "cgroup_id", "target_id", "start_ns", "comm"):
        rest[name] = np.zeros(1, ROW_DTYPE)[name]
    return np.concatenate([rows[order[-rows_max:]], fold_rows(rest, ["path", "node", "cpu_node"])[0]])


def _words(rows: Rows) -> npt.NDArray[np.uint64]:
    """The same memory as words, ``(len(rows), itemsize / 8)``. numpy copies structures member by member: far slower."""
    return np.ascontiguousarray(rows).view(np.uint64).reshape(len(rows), -1)


def _rows(words: npt.NDArray[np.uint64]) -> Rows:
    rows: Rows = words.view(ROW_DTYPE)[:, 0]
    return rows


def _sum_groups(words: npt.NDArray[np.uint64], members: npt.NDArray[np.intp]) -> npt.NDArray[np.uint64]:
    """One row for each run of ``members`` rows."""
    last = np.cumsum(members) - 1
    first = last - members + 1
    # Everything but the identity is 64 bits wide: sum all of it at once, then correct the members that are not sums.
    # The loop is faster than reduceat: twice for many small groups, ten times for a few large ones.
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
