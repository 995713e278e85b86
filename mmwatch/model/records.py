"""Single reclaims, batches and passes: their layout as an array, and the latest reclaims of a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmwatch.abi import RECORD, RECORD_KINDS
from mmwatch.model.measures import NODE_UNKNOWN, PATHS, PRIORITY_UNKNOWN
from mmwatch.units import NS_PER_S

RECLAIM, BATCH, PASS = map(RECORD_KINDS.index, ("reclaim", "batch", "pass"))

Records = npt.NDArray[np.void]
"""A structured array with the members of ``struct record``, laid out as in the kernel or as :data:`RECORD_DTYPE`."""

RECORD_DTYPE = np.dtype([(member.name, member.format) for member in RECORD])
"""Single records as a recording gives them back: the members of ``struct record``, in its order."""


def gfp_names(flags: int, known: Mapping[str, int]) -> list[str]:
    """Flags by name, as the kernel prints them; bits without a name in hex.

    :param known: :attr:`mmwatch.model.interval.Session.gfp_flags`.
    """
    names = []
    for name, bits in known.items():
        if bits and flags & bits == bits:
            names.append(name)
            flags &= ~bits
    return [*names, *([f"{flags:#x}"] if flags or not names else [])]


@dataclass(frozen=True)
class Recent:
    """A reclaim that ended. None means unknown; ``asked_pages`` is also None if the path asks for no number.

    :param time_s: Unix time of its end.
    :param path: one of :data:`mmwatch.model.measures.PATHS`.
    :param priority: the lowest it reached.
    """

    time_s: float
    path: str
    node: int | None
    order: int | None
    asked_pages: int | None
    scanned_pages: int | None
    reclaimed_pages: int | None
    priority: int | None
    stall_ns: int | None


def recents(records: Records, monotonic_s: float) -> list[Recent]:
    """The reclaims among single records, in their order.

    :param monotonic_s: Unix time when CLOCK_MONOTONIC was 0.
    """
    names = ("time_ns", "path", "node", "order", "asked_pages", "scanned_pages", "reclaimed_pages", "priority")
    mine = records[records["kind"] == RECLAIM]
    return [
        Recent(
            monotonic_s + time_ns / NS_PER_S,
            PATHS[path] if path < len(PATHS) else "other",
            None if node == NODE_UNKNOWN else node,
            order,
            asked or None,
            scanned,
            reclaimed,
            None if priority == PRIORITY_UNKNOWN else priority,
            stall_ns,
        )
        for time_ns, path, node, order, asked, scanned, reclaimed, priority, stall_ns in zip(
            *(mine[name].tolist() for name in (*names, "duration_ns"))
        )
    ]
