"""Single reclaims, passes and batches, one line each, as ftrace prints events."""

from __future__ import annotations

from mmwatch.abi import RECORD_KINDS
from mmwatch.display.text import field
from mmwatch.model.measures import NODE_UNKNOWN, PATHS, PRIORITY_UNKNOWN
from mmwatch.model.records import BATCH, RECLAIM, Records
from mmwatch.units import decode

_KINDS, _PATHS = dict(enumerate(RECORD_KINDS)), dict(enumerate(PATHS))
_COMM_CELLS = 16
_FIELDS = (
    *("comm", "tid", "cpu", "time_ns", "kind", "path", "node", "asked_pages", "scanned_pages", "reclaimed_pages"),
    *("priority", "order", "gfp_flags", "duration_ns", "file"),
)


def trace_lines(records: Records, scans_known: bool = True) -> list[str]:
    """``TASK-PID [CPU] TIMESTAMP: EVENT: path=… nid=… scanned=… reclaimed=… priority=…`` for each record, in order.

    PID is the thread's, as in ftrace; TIMESTAMP is CLOCK_MONOTONIC in seconds. ``?`` is unknown: kswapd asks for no
    number of pages, and a reclaim that found nothing to scan has no priority. gfp stays in hex, because kernels
    name its bits differently.

    :param scans_known: a probe counts scanned pages.
    """
    if not len(records):
        return []
    # Go column by column, because numpy is slow at single records. Clean each name once: it is slow, and tasks repeat.
    tasks = {comm: field(decode(comm), _COMM_CELLS) for comm in set(records["comm"].tolist())}
    lines = []
    for comm, tid, cpu, time_ns, kind, path, node, asked, scanned, reclaimed, priority, order, gfp, ns, file in zip(
        *(records[name].tolist() for name in _FIELDS)
    ):
        us = time_ns // 1000
        line = (
            f"{tasks[comm]}-{tid or '?':<7} [{cpu:03}] {us // 1_000_000:5}.{us % 1_000_000:06}: "
            f"{_KINDS.get(kind, '?')}: path={_PATHS.get(path, '?')} nid={node if node != NODE_UNKNOWN else '?'}"
        )
        if kind == RECLAIM:
            line += f" asked={asked or '?'}"
        line += f" scanned={scanned if scans_known else '?'} reclaimed={reclaimed}"
        line += f" priority={priority if priority != PRIORITY_UNKNOWN else '?'}"
        if kind == RECLAIM:
            line += f" order={order} gfp={gfp:#x}"
        lines.append(f"{line} file={file}" if kind == BATCH else f"{line} stall_us={ns // 1000}")
    return lines
