"""Who is inside reclaim at a moment: from rows of the table."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from mmwatch.model.interval import Inside
from mmwatch.model.measures import NODE_UNKNOWN, PATHS
from mmwatch.units import decode

_FIELDS = ("tgid", "tid", "comm", "path", "node", "open_began_ns")


def inside_of(table: npt.NDArray[Any], time_ns: int) -> tuple[Inside, ...]:
    """The reclaims under way in rows of ``struct row`` (``bpf/abi.h``), in their order.

    :param time_ns: CLOCK_MONOTONIC when the rows were read.
    """
    return tuple(
        Inside(tgid, tid, decode(comm), PATHS[path], node if node != NODE_UNKNOWN else None, max(time_ns - began_ns, 0))
        for tgid, tid, comm, path, node, began_ns in zip(*(table[name].tolist() for name in _FIELDS))
    )
