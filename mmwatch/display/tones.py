"""What is bad and what is worth a look: the thresholds behind every sign and colour of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmwatch.display.spans import Tone
from mmwatch.model.columns import Column

PRIORITY_BAD = 2
"""At this priority and below, a pass scans a quarter of each list or more."""
OVERSHOOT_WARN, OVERSHOOT_BAD = 3.0, 8.0
"""Pages freed for each page asked for."""
SHARE_WARN, SHARE_BAD = 0.1, 0.5
"""Share of the time, or of the reclaims."""
PRESSURE_WARN_PCT = 10.0
"""Percent of the last ten seconds in which some task waited for memory."""


def _at_least(warn: float, bad: float) -> Callable[[float], Tone]:
    return lambda value: Tone.BAD if value >= bad else Tone.WARN if value >= warn else Tone.PLAIN


_OF_COLUMN: dict[str, Callable[[float], Tone]] = {
    "priority": lambda value: Tone.BAD if value <= PRIORITY_BAD else Tone.PLAIN,
    "overshoot": _at_least(OVERSHOOT_WARN, OVERSHOOT_BAD),
    "stall": _at_least(SHARE_WARN, SHARE_BAD),
    "futile": _at_least(SHARE_WARN, SHARE_BAD),
    "throttled": _at_least(SHARE_WARN, SHARE_BAD),
}


def tone_of(column: Column, value: Any, softlimit: bool = False) -> Tone:
    """How bad a value of a column is.

    :param softlimit: the row is on path softlimit. Its reclaim starts at priority 0 (mm/vmscan.c,
        mem_cgroup_shrink_node), so the priority says nothing about pressure.
    """
    judge = _OF_COLUMN.get(column.key)
    if judge is None or value is None or value != value or (softlimit and column.key == "priority"):
        return Tone.PLAIN
    return judge(value)
