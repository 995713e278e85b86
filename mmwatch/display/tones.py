"""What is bad and what is worth a look: the signs and colours of a table, by the thresholds of the diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.diagnosis import thresholds
from mmwatch.display.spans import Tone
from mmwatch.model.columns import Column
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import Interval, Session
from mmwatch.model.measures import PATHS
from mmwatch.model.records import Recent
from mmwatch.model.snapshot import Snapshot

PRIORITY_BAD = thresholds.PRIORITY_LOW.value
OVERSHOOT_WARN, OVERSHOOT_BAD = 3.0, thresholds.OVERSHOOT.value
"""Pages freed for each page asked for."""
SHARE_WARN, SHARE_BAD = 0.1, 0.5
"""Share of the time, or of the reclaims."""
COST_MIN = thresholds.COST_MIN.value
"""Share of the time. Below it, a row is not marked."""
LONG_WARN_NS, LONG_BAD_NS = 1_000_000, thresholds.LONG.value
"""A shorter reclaim is not marked; a longer one is, whatever it freed."""
FULL_SHARE = thresholds.FULL.value
PRESSURE_WARN_PCT = thresholds.PRESSURE.value


def _at_least(warn: float, bad: float) -> Callable[[float], Tone]:
    return lambda value: Tone.BAD if value >= bad else Tone.WARN if value >= warn else Tone.PLAIN


_OF_COLUMN: dict[str, Callable[[float], Tone]] = {
    "priority": lambda value: Tone.BAD if value <= PRIORITY_BAD else Tone.PLAIN,
    "overshoot": _at_least(OVERSHOOT_WARN, OVERSHOOT_BAD),
    "stall": _at_least(SHARE_WARN, SHARE_BAD),
    "futile": _at_least(SHARE_WARN, SHARE_BAD),
    "throttled": _at_least(SHARE_WARN, SHARE_BAD),
}


def tones_of(column: Column, snapshot: Snapshot, values: Sequence[Any]) -> list[Tone]:
    """How bad each row's value of a column is. A row that hardly spends time in reclaim is no alarm.

    :param values: those of the column, one per row.
    """
    judge = _OF_COLUMN.get(column.key)
    if judge is None:
        return [Tone.PLAIN] * len(values)
    rows = snapshot.rows
    costs = np.maximum(rows["stall_ns"], 0) / max(snapshot.interval.duration_ns, 1)
    costly = costs >= COST_MIN if "stall_ns" not in snapshot.session.unknown else np.ones(len(rows), bool)
    exempt = _exempt(column.key, rows["path"]) if "path" in GROUPINGS[snapshot.by] else np.zeros(len(rows), bool)
    return [
        judge(value) if counts and value is not None and value == value else Tone.PLAIN
        for value, counts in zip(values, (costly & ~exempt).tolist())
    ]


def alarming(session: Session, interval: Interval) -> bool:
    """Whether the priorities of these rows are worth an alarm, by the same measure."""
    rows = interval.rows[~_exempt("priority", interval.rows["path"])]
    unknown = "stall_ns" in session.unknown
    return len(rows) > 0 and (unknown or rows["stall_ns"].sum() >= COST_MIN * interval.duration_ns)


def _exempt(key: str, path: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Rows whose value says nothing about trouble.

    Reclaim at a soft limit starts at priority 0 (mm/vmscan.c, mem_cgroup_shrink_node). Nobody waits for kswapd while it
    works.
    """
    other = {"priority": "softlimit", "stall": "kswapd"}.get(key)
    return np.asarray(path == PATHS.index(other)) if other else np.zeros(len(path), bool)


def tone_of_reclaim(one: Recent) -> Tone:
    """How bad a single reclaim is, by the same thresholds."""
    if one.stall_ns is not None and one.stall_ns < LONG_WARN_NS:
        return Tone.PLAIN
    asked, freed = one.asked_pages, one.reclaimed_pages
    over = asked is not None and freed is not None and freed >= OVERSHOOT_BAD * asked
    low = one.priority is not None and one.priority <= PRIORITY_BAD and one.path != "softlimit"
    long = one.stall_ns is not None and one.stall_ns >= LONG_BAD_NS and one.path != "kswapd"
    return Tone.BAD if over or low or long else Tone.PLAIN
