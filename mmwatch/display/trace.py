"""Single reclaims, passes and batches, a line each, in the manner of ftrace."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmwatch.display.text import field
from mmwatch.model.measures import NODE_UNKNOWN, PATHS, PRIORITY_UNKNOWN
from mmwatch.units import decode

RECLAIM, BATCH, PASS = range(3)
"""``enum record_kind`` of ``bpf/abi.h``."""

_EVENTS = {RECLAIM: "reclaim", BATCH: "batch", PASS: "pass"}
_PATHS = dict(enumerate(PATHS))
_COMM_CELLS = 16
_FIELDS = (
    *("comm", "tid", "cpu", "time_ns", "kind", "path", "node", "asked_pages", "scanned_pages", "reclaimed_pages"),
    *("priority", "order", "gfp_flags", "duration_ns", "file"),
)


def trace_lines(records: npt.NDArray[np.void], scans_known: bool = True) -> list[str]:
    """``TASK-PID [CPU] TIMESTAMP: EVENT: path=… nid=… scanned=… reclaimed=… priority=…`` for each record, in order.

    PID is the thread's, as in ftrace; TIMESTAMP is CLOCK_MONOTONIC in seconds. ``?`` stands for what is not known:
    kswapd asks for no number of pages, a reclaim that found nothing to scan has no priority. gfp is left in hex: its
    bits have other names in other kernels.

    :param records: an array of ``struct record``.
    :param scans_known: the kernel tells what is scanned.
    """
    if not len(records):
        return []
    # A column at a time: numpy is slow to take one record apart. Tasks repeat, and cleaning their names is dear.
    tasks = {comm: field(decode(comm), _COMM_CELLS) for comm in set(records["comm"].tolist())}
    lines = []
    for comm, tid, cpu, time_ns, kind, path, node, asked, scanned, reclaimed, priority, order, gfp, ns, file in zip(
        *(records[name].tolist() for name in _FIELDS)
    ):
        us = time_ns // 1000
        line = (
            f"{tasks[comm]}-{tid or '?':<7} [{cpu:03}] {us // 1_000_000:5}.{us % 1_000_000:06}: "
            f"{_EVENTS.get(kind, '?')}: path={_PATHS.get(path, '?')} nid={node if node != NODE_UNKNOWN else '?'}"
        )
        if kind == RECLAIM:
            line += f" asked={asked or '?'}"
        line += f" scanned={scanned if scans_known else '?'} reclaimed={reclaimed}"
        line += f" priority={priority if priority != PRIORITY_UNKNOWN else '?'}"
        if kind == RECLAIM:
            line += f" order={order} gfp={gfp:#x}"
        lines.append(f"{line} file={file}" if kind == BATCH else f"{line} stall_us={ns // 1000}")
    return lines
