"""A recording over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Stretch(NamedTuple):
    """One interval, or several consecutive ones.

    :param begin_s: Unix time.
    :param reclaimed_pages: None without a probe.
    """

    begin_s: float
    duration_s: float
    reclaimed_pages: int | None
    stall_ns: int

    @property
    def end_s(self) -> float:
        """Unix time, unless the clock was set in between."""
        return self.begin_s + self.duration_s


@dataclass(frozen=True)
class Position:
    """Where a playback is: the interval shown, and how many there are.

    :param share: of the time that is over when this interval ends, between 0 and 1, by CLOCK_MONOTONIC.
    :param begin_s: Unix time of the beginning of the first interval; ``now_s`` and ``end_s`` are ends.
    """

    index: int
    count: int
    share: float
    begin_s: float
    now_s: float
    end_s: float


def course(stretches: Sequence[Stretch], parts: int = 60) -> list[Stretch]:
    """The same time in at most ``parts`` stretches, each of the same number of intervals."""
    each = max(-(-len(stretches) // parts), 1)
    return [_joined(stretches[begin : begin + each]) for begin in range(0, len(stretches), each)]


def _joined(stretches: Sequence[Stretch]) -> Stretch:
    pages = [stretch.reclaimed_pages for stretch in stretches]
    return Stretch(
        begin_s=stretches[0].begin_s,
        duration_s=math.fsum(stretch.duration_s for stretch in stretches),
        reclaimed_pages=None if None in pages else sum(known or 0 for known in pages),
        stall_ns=sum(stretch.stall_ns for stretch in stretches),
    )
