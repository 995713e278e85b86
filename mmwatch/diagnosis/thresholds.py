"""The numbers that several rules share with the colours of the screen, each with its reason.

A rule's own thresholds stand beside the rule.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Threshold:
    """A number that a rule compares with.

    :param unit: ``ratio``, ``ns``, ``pages``, ``1/s``, ``percent`` or ``count``.
    :param what: what is compared with it.
    :param reason: why this number.
    """

    value: float
    unit: str
    what: str
    reason: str


HARM = Threshold(
    0.05,
    "ratio",
    "time that tasks lost, added up, as a share of the time observed",
    "below a twentieth of one task's time, nobody notices; many short reclaims are how the kernel is meant to work",
)
LONG = Threshold(
    100_000_000,
    "ns",
    "the longest single reclaim",
    "a tenth of a second is a request that a user notices, however rare it is",
)
COST_MIN = Threshold(
    0.01,
    "ratio",
    "time lost, if only single reclaims are long",
    "one long reclaim in a long quiet time is an incident that is over",
)
LOST_MAX = Threshold(
    0.05,
    "ratio",
    "events that are known to be missing, as a share of all reclaims",
    "with more than that lost, what was not seen may be the trouble",
)
PRIORITY_LOW = Threshold(
    2,
    "count",
    "the lowest scan priority",
    "at this priority and below, a pass scans a quarter of each list or more",
)
OVERSHOOT = Threshold(
    8.0,
    "ratio",
    "pages freed for each page asked for",
    "two batches of 32 pages for one that was asked for happen in ordinary reclaim; eight do not",
)
FULL = Threshold(
    0.97,
    "ratio",
    "usage of a cgroup as a share of its limit",
    "reclaim keeps a full cgroup a little below its limit",
)
PRESSURE = Threshold(
    10.0,
    "percent",
    "share of the time in which some task waited for memory (PSI)",
    "a tenth of the time is harm, whoever waited; PSI alone never makes a finding",
)
SPARE = Threshold(
    0.02,
    "ratio",
    "free memory of the other node above its high watermark, as a share of its memory",
    "less would be gone in a moment",
)
UNEXPLAINED = Threshold(
    0.2,
    "ratio",
    "time in reclaim that no finding explains",
    "with more than a fifth unexplained, the findings may miss the point",
)
