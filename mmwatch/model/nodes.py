"""Between NUMA nodes: where tasks ran, where they took pages from, and whether another node had memory to spare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

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
    rows = interval.rows[np.isin(interval.rows["path"], _FOR_A_NODE)]
    spare = [node for node in interval.nodes if _has_spare(node)]
    found = {}
    for node in np.unique(rows["node"]).tolist():
        others = [other for other in spare if other.node != node]
        mine = rows[rows["node"] == node]
        pages = int(mine["reclaimed_file_pages"].sum() + mine["reclaimed_anon_pages"].sum())
        futile = int(mine["reclaims_futile"].sum())
        if others and node >= 0 and (pages or futile):
            most = max(others, key=lambda other: other.free_pages or 0)
            stall_ns = max(0, int(mine["stall_ns"].sum()))
            found[node] = Elsewhere(pages, futile, stall_ns, most.node, most.free_pages or 0)
    return found


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
