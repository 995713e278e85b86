"""Between NUMA nodes: where tasks ran, where they took pages from, and whether another node had memory to spare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmwatch.model.interval import Elsewhere, Interval, Node
from mmwatch.model.measures import PATHS
from mmwatch.model.rows import SUMS, Rows

_FOR_A_NODE = [PATHS.index(path) for path in ("direct", "node", "kswapd")]
"""Paths taken because a node is short of memory. For a cgroup at its limit, another node is no help."""


@dataclass(frozen=True)
class Cell:
    """One pair of nodes of the matrix; -1 is an unknown node."""

    cpu_node: int
    node: int
    reclaims: int
    scanned_pages: int
    reclaimed_pages: int
    stall_ns: int


def matrix(rows: Rows) -> tuple[Cell, ...]:
    """Node the task ran on x node the pages came from, in order; pairs where nothing happened are left out."""
    pairs = np.stack([rows["cpu_node"], rows["node"]], axis=1)
    found, where = np.unique(pairs, axis=0, return_inverse=True) if len(rows) else (pairs, np.zeros(0, int))
    sums = {
        name: np.bincount(where.ravel(), sum(rows[part].astype(float) for part in parts), len(found))
        for name, parts in {"reclaims": ("reclaims",), "stall_ns": ("stall_ns",), **SUMS}.items()
    }
    cells = (
        Cell(int(cpu_node), int(node), **{name: int(max(values[index], 0)) for name, values in sums.items()})
        for index, (cpu_node, node) in enumerate(found)
    )
    return tuple(cell for cell in cells if cell.reclaims or cell.scanned_pages or cell.stall_ns)


def elsewhere(interval: Interval) -> dict[int, Elsewhere]:
    """Reclaim from each node while another had memory to spare. A merged interval has the sum of its parts."""
    if interval.elsewhere is not None:
        return dict(interval.elsewhere)
    return elsewhere_of(interval.rows, np.zeros(len(interval.rows), np.int64), {0: interval.nodes})


def elsewhere_of(
    rows: Rows, intervals: npt.NDArray[np.int64], nodes: Mapping[int, Sequence[Node]]
) -> dict[int, Elsewhere]:
    """The same for several consecutive intervals, summed.

    :param intervals: the number of the interval of each row, ascending.
    :param nodes: by interval.
    """
    spare = {number: [node for node in all_of if _has_spare(node)] for number, all_of in nodes.items()}
    if not any(spare.values()) or max(map(len, nodes.values())) < 2:
        return {}
    mine = np.isin(rows["path"], _FOR_A_NODE) & (rows["node"] >= 0)
    rows, intervals = rows[mine], intervals[mine]
    pairs, where = np.unique(np.stack([intervals, rows["node"]], axis=1), axis=0, return_inverse=True)
    pages, reported, futile, stall_ns = (
        _sums(where.ravel(), rows, names, len(pairs))
        for names in (SUMS["reclaimed_pages"], ("reported_pages",), ("reclaims_futile",), ("stall_ns",))
    )
    found: dict[int, Elsewhere] = {}
    for index, (number, node) in enumerate(pairs.tolist()):
        others = [other for other in spare.get(number, ()) if other.node != node]
        freed = pages[index] or reported[index]  # batches may have no events
        if others and (freed or futile[index]):
            most = max(others, key=lambda other: other.free_pages or 0)
            one = Elsewhere(freed, futile[index], max(0, stall_ns[index]), most.node, most.free_pages or 0)
            found = merge_elsewhere(found, {node: one})
    return found


def _sums(where: npt.NDArray[np.intp], rows: Rows, names: Sequence[str], count: int) -> list[int]:
    """Exact sums of these measures by group."""
    total = np.zeros(count, np.int64)
    for name in names:
        np.add.at(total, where, rows[name].astype(np.int64))
    return total.tolist()  # type: ignore[no-any-return]


def _has_spare(node: Node) -> bool:
    return node.free_pages is not None and node.high_pages is not None and node.free_pages > node.high_pages


def merge_elsewhere(first: Mapping[int, Elsewhere], second: Mapping[int, Elsewhere]) -> dict[int, Elsewhere]:
    """The results of two consecutive intervals as one."""
    found = dict(first)
    for node, later in second.items():
        before = found.get(node)
        if before is not None:
            most = max(before, later, key=lambda one: one.free_pages)
            later = Elsewhere(
                before.reclaimed_pages + later.reclaimed_pages,
                before.futile + later.futile,
                before.stall_ns + later.stall_ns,
                most.free_node,
                most.free_pages,
            )
        found[node] = later
    return found
