"""A whole recording, or a part of it, as one interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import Interval
from mmwatch.model.merge import Sums
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
