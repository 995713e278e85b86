"""A whole recording, or a part of it, as one interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import Interval
from mmwatch.model.merge import PROCESS_KEYS, Sums, lighten
from mmwatch.model.rows import ROW_DTYPE, cgroups_of
from mmwatch.recording.reader import Reader
from mmwatch.recording.timeline import ALL, Span

GROUPS_MAX = 16384
"""If there are more groups than this, the rest are folded. A row takes 1.5 KB, and nobody reads a longer table."""
WAITING_ROWS = 8192


def fold(
    reader: Reader,
    by: str,
    span: Span = ALL,
    *,
    groups_max: int = GROUPS_MAX,
) -> Interval:
    """A span of intervals as one, for :func:`mmwatch.model.snapshot.take` with the same grouping.

    Memory does not grow with the recording: see :class:`mmwatch.model.merge.Sums`.

    :param by: one of :data:`mmwatch.model.groupings.GROUPINGS`.
    :raises KeyError: no such grouping.
    :raises MmwatchError: the recording is damaged.
    """
    keys = _keys(by)
    sums = Sums(keys, groups_max, WAITING_ROWS)
    for block in reader.blocks(span):
        sums.add(block)
    whole = sums.whole()
    if whole is None:
        return Interval(end_s=reader.session.start_s, duration_ns=0, rows=np.zeros(0, ROW_DTYPE))
    tgids = set(np.unique(whole.rows["tgid"]).tolist()) if "tgid" in keys else set()
    memory = reader.cgroup_memory(span)
    return replace(
        whole,
        cgroups=reader.cgroup_paths({*cgroups_of(whole.rows), *memory}),
        cgroup_memory=memory,
        processes=reader.process_totals(tgids, span) if tgids else {},
    )


def _keys(by: str) -> list[str]:
    """The grouping's keys, and those that a snapshot needs to describe a group: paths, nodes, cgroups, names."""
    keys = GROUPINGS[by]
    more = ("path", "node", "cpu_node", "cgroup_id", "target_id") + (("comm",) if "tgid" in keys else ())
    return [*keys, *(key for key in more if key not in keys)]


SERIES_MAX = 120
SERIES_ROWS_MAX = 2048


def series(reader: Reader, span: Span = ALL, *, most: int = SERIES_MAX) -> list[Interval]:
    """A span of intervals in order, for a diagnosis: neighbours become one if there are more than ``most``.

    Memory does not grow with the recording: each has about :data:`SERIES_ROWS_MAX` rows at most.

    :raises MmwatchError: the recording is damaged.
    """
    each = max(1, -(-len(reader.timeline(span).numbers) // most))
    found: list[Interval] = []
    sums, count = None, 0
    for interval in reader.intervals(span):
        if each == 1:
            found.append(lighten(interval, SERIES_ROWS_MAX))
            continue
        sums = sums or Sums(PROCESS_KEYS, SERIES_ROWS_MAX, WAITING_ROWS)
        sums.add(interval)
        count += 1
        if count == each:
            found += filter(None, [sums.whole()])
            sums, count = None, 0
    return [*found, *filter(None, [sums.whole() if sums else None])]
