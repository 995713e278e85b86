"""Between NUMA nodes: from which node a task took pages, on which it ran, and whether another had plenty meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmwatch.model.interval import Interval, Node, Rows
from mmwatch.model.measures import PATHS

_FOR_A_NODE = [PATHS.index(path) for path in ("direct", "node", "kswapd")]
"""Paths that reclaim because a node is short of memory; a cgroup at its limit gets no help from another node."""


@dataclass(frozen=True)
class Elsewhere:
    """What a node gave up while another had memory above its high watermark.

    :param reclaimed_pages: taken in intervals at whose end that was so.
    :param futile: reclaims of the node in these that freed nothing.
    :param free_node: of all such moments, the other node with the most free memory.
    :param free_pages: how much it had.
    """

    reclaimed_pages: int
    futile: int
    stall_ns: int
    free_node: int
    free_pages: int


@dataclass(frozen=True)
class Cell:
    """One pair of nodes of the matrix. -1 is a node that is not known."""

    cpu_node: int
    node: int
    reclaims: int
    scanned_pages: int
    reclaimed_pages: int
    stall_ns: int


def matrix(rows: Rows) -> tuple[Cell, ...]:
    """The node a task ran on x the node pages were taken from: only pairs with anything to tell, in order."""
    pairs = np.stack([rows["cpu_node"], rows["node"]], axis=1)
    found, where = np.unique(pairs, axis=0, return_inverse=True) if len(rows) else (pairs, np.zeros(0, int))
    sums = {
        name: np.bincount(where.ravel(), sum(rows[part].astype(float) for part in parts), len(found))
        for name, parts in {
            "reclaims": ("reclaims",),
            "scanned_pages": ("scanned_file_pages", "scanned_anon_pages"),
            "reclaimed_pages": ("reclaimed_file_pages", "reclaimed_anon_pages"),
            "stall_ns": ("stall_ns",),
        }.items()
    }
    cells = (
        Cell(int(cpu_node), int(node), **{name: int(max(values[index], 0)) for name, values in sums.items()})
        for index, (cpu_node, node) in enumerate(found)
    )
    return tuple(cell for cell in cells if cell.reclaims or cell.scanned_pages or cell.stall_ns)


def elsewhere(interval: Interval) -> dict[int, Elsewhere]:
    """By node, what it gave up while another had plenty; of a merged interval, what its parts said."""
    if interval.elsewhere is not None:
        return dict(interval.elsewhere)
    rows = interval.rows[np.isin(interval.rows["path"], _FOR_A_NODE)]
    plenty = [node for node in interval.nodes if _spare(node)]
    found = {}
    for node in np.unique(rows["node"]).tolist():
        others = [other for other in plenty if other.node != node]
        mine = rows[rows["node"] == node]
        pages = int(mine["reclaimed_file_pages"].sum() + mine["reclaimed_anon_pages"].sum())
        futile = int(mine["reclaims_futile"].sum())
        if others and node >= 0 and (pages or futile):
            most = max(others, key=lambda other: other.free_pages or 0)
            stall_ns = max(0, int(mine["stall_ns"].sum()))
            found[node] = Elsewhere(pages, futile, stall_ns, most.node, most.free_pages or 0)
    return found


def _spare(node: Node) -> bool:
    return node.free_pages is not None and node.high_pages is not None and node.free_pages > node.high_pages


def together(first: Mapping[int, Elsewhere], second: Mapping[int, Elsewhere]) -> dict[int, Elsewhere]:
    """Of two stretches of time."""
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
