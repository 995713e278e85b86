"""A recording over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
