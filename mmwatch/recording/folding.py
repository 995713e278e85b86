"""A whole recording, or a stretch of it, as one interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmwatch.model.interval import ROW_DTYPE, Interval, Rows, fold_rows, limit_rows
from mmwatch.model.nodes import elsewhere
from mmwatch.model.snapshot import GROUPINGS, merge
from mmwatch.recording.reader import Reader

GROUPS_MAX = 16384
"""Groups kept apart when there are too many; a row takes 1.5 KB, and nobody reads a table of more lines."""

_BATCH_ROWS = 8192
_NO_ROWS = np.zeros(0, ROW_DTYPE)
_BARE = np.zeros(0, "V1")
"""No rows and no fields either: numpy takes 50 us to put two empty arrays of ROW_DTYPE together."""


def fold(
    reader: Reader,
    by: str,
    begin_s: float | None = None,
    end_s: float | None = None,
    *,
    groups_max: int = GROUPS_MAX,
) -> Interval:
    """Everything between as one interval, for :func:`mmwatch.model.snapshot.take` with the same grouping.

    Memory does not grow with the recording. When more than twice ``groups_max`` groups have come together, all but the
    ``groups_max`` that spent most time in reclaim become one row for each path and node, of tgid 0, as when a table
    is full in the kernel: attribution degrades, totals do not.

    :param by: one of :data:`mmwatch.model.snapshot.GROUPINGS`.
    :param begin_s: Unix time, as :meth:`Reader.intervals` takes it.
    :raises KeyError: no such grouping.
    :raises MmwatchError: the recording is damaged.
    """
    keys = _keys(by)
    whole = None
    rows, waiting, count = _NO_ROWS, [], 0
    for interval in reader.intervals(begin_s, end_s, names=False):
        waiting.append(interval.rows)
        count += len(interval.rows)
        # Each merge goes through all groups, so the more there are the more rows it takes at once.
        if count >= max(_BATCH_ROWS, len(rows) // 2):
            rows, waiting, count = _merged([rows, *waiting], keys, groups_max), [], 0
        bare = replace(interval, rows=_BARE, elsewhere=elsewhere(interval))
        whole = bare if whole is None else merge(whole, bare)
    if whole is None:
        return Interval(end_s=reader.session.start_s, duration_ns=0, rows=_NO_ROWS)
    rows = _merged([rows, *waiting], keys, groups_max)
    tgids = set(np.unique(rows["tgid"]).tolist()) if "tgid" in keys else set()
    return replace(
        whole,
        rows=rows,
        cgroups=reader.cgroup_paths(np.unique(rows["cgroup_id"]).tolist()),
        processes=reader.process_totals(tgids, begin_s, end_s) if tgids else {},
    )


def _keys(by: str) -> list[str]:
    """The grouping's and those that a snapshot of it tells about its members: their paths, nodes, cgroups, names."""
    keys = GROUPINGS[by]
    more = ("path", "node", "cpu_node", "cgroup_id") + (("comm",) if "tgid" in keys else ())
    return [*keys, *(key for key in more if key not in keys)]


def _merged(parts: list[Rows], keys: list[str], groups_max: int) -> Rows:
    rows, _, _ = fold_rows(np.concatenate(parts), keys)
    return rows if len(rows) <= 2 * groups_max else limit_rows(rows, groups_max)
