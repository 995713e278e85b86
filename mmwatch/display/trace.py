"""Single reclaims, passes and batches, one line each: as ftrace prints events, or as JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mmwatch.abi import RECORD_KINDS
from mmwatch.display.text import field
from mmwatch.model.interval import Session
from mmwatch.model.measures import NODE_UNKNOWN, PATHS, PRIORITY_UNKNOWN
from mmwatch.model.records import BATCH, RECLAIM, Records, gfp_names
from mmwatch.units import NS_PER_S, clean, decode

_KINDS, _PATHS = dict(enumerate(RECORD_KINDS)), dict(enumerate(PATHS))
_COMM_CELLS = 16


@dataclass(frozen=True, eq=False)
class Tracing:
    """What single records do not say themselves.

    :param cgroup: path of a memory cgroup by its number; None if unknown.
    :param monotonic_s: Unix time when CLOCK_MONOTONIC was 0.
    :param wall_clock: lines have the time of day instead of CLOCK_MONOTONIC.
    """

    session: Session
    cgroup: Callable[[int], str | None] = lambda number: None
    monotonic_s: float = 0.0
    wall_clock: bool = False

    @functools.cached_property
    def scans_known(self) -> bool:
        """Whether a probe counts scanned pages."""
        return "scanned_file_pages" not in self.session.unknown

    @functools.lru_cache(maxsize=1024)  # noqa: B019, one object per run
    def gfp(self, flags: int) -> str:
        """Flags by name, as the kernel prints them."""
        return "|".join(gfp_names(flags, self.session.gfp_flags))


def _columns(records: Records) -> Iterator[dict[str, Any]]:
    """Column by column, because numpy is slow at single records. Each name is cleaned once: tasks repeat."""
    names = records.dtype.names or ()
    comms = {comm: decode(comm) for comm in set(records["comm"].tolist())}
    for values in zip(*(records[name].tolist() for name in names)):
        record = dict(zip(names, values))
        record["comm"] = comms[record["comm"]]
        yield record


def trace_lines(records: Records, tracing: Tracing) -> list[str]:
    """``TASK-PID [CPU] TIMESTAMP: EVENT: path=… nid=… scanned=… reclaimed=… priority=…`` for each record, in order.

    PID is the thread's, as in ftrace; TIMESTAMP is CLOCK_MONOTONIC in seconds, or the time of day. ``?`` is unknown:
    kswapd asks for no number of pages, and a reclaim that found nothing to scan has no priority. The cgroup comes last,
    because its name may hold blanks.
    """
    lines = []
    for record in _columns(records):
        kind, node, priority = record["kind"], record["node"], record["priority"]
        line = (
            f"{field(record['comm'], _COMM_CELLS)}-{record['tid'] or '?':<7} [{record['cpu']:03}] "
            f"{_time(record['time_ns'], tracing)}: {_KINDS.get(kind, '?')}: path={_PATHS.get(record['path'], '?')} "
            f"nid={node if node != NODE_UNKNOWN else '?'}"
        )
        if kind == RECLAIM:
            line += f" asked={record['asked_pages'] or '?'}"
        line += f" scanned={record['scanned_pages'] if tracing.scans_known else '?'}"
        line += f" reclaimed={record['reclaimed_pages']} priority={priority if priority != PRIORITY_UNKNOWN else '?'}"
        if kind == RECLAIM:
            line += f" order={record['order']} gfp={tracing.gfp(record['gfp_flags'])}"
        line += f" file={record['file']}" if kind == BATCH else f" stall_us={record['duration_ns'] // 1000}"
        cgroup = tracing.cgroup(record["cgroup_id"])
        lines.append(f"{line} cgroup={'?' if cgroup is None else clean(cgroup)}")
    return lines


def _time(time_ns: int, tracing: Tracing) -> str:
    if tracing.wall_clock:
        return datetime.fromtimestamp(tracing.monotonic_s + time_ns / NS_PER_S).isoformat(timespec="microseconds")
    us = time_ns // 1000
    return f"{us // 1_000_000:5}.{us % 1_000_000:06}"


def trace_json(records: Records, tracing: Tracing) -> list[str]:
    """One JSON object per record. Numbers are integers in base units; unknown is null."""
    found = []
    for record in _columns(records):
        kind = record["kind"]
        made = {
            "kind": _KINDS.get(kind),
            "time_s": round(tracing.monotonic_s + record["time_ns"] / NS_PER_S, 6),
            "time_ns": record["time_ns"],
            "tgid": record["tgid"] or None,
            "tid": record["tid"] or None,
            "comm": record["comm"],
            "cgroup": tracing.cgroup(record["cgroup_id"]),
            "cpu": record["cpu"],
            "path": _PATHS.get(record["path"]),
            "node": record["node"] if record["node"] != NODE_UNKNOWN else None,
            "scanned_pages": record["scanned_pages"] if tracing.scans_known else None,
            "reclaimed_pages": record["reclaimed_pages"],
            "priority": record["priority"] if record["priority"] != PRIORITY_UNKNOWN else None,
        }
        if kind == RECLAIM:
            made["asked_pages"] = record["asked_pages"] or None
            made["order"], made["gfp_flags"] = record["order"], record["gfp_flags"]
            made["gfp"] = tracing.gfp(record["gfp_flags"])
        if kind == BATCH:
            made["file"] = bool(record["file"])
        else:
            made["duration_ns"] = record["duration_ns"]
        found.append(json.dumps(made, allow_nan=False))
    return found
