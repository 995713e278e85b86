"""When the intervals of a recording were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmwatch.units import NS_PER_S

Span = tuple[int, int]
"""The numbers of the first and the last interval, both included."""
ALL: Span = (0, 1 << 62)


@dataclass(frozen=True)
class Moment:
    """A time in a recording.

    :param seconds: Unix time, or, if ``elapsed``, the time since the recording began.
    """

    seconds: float
    elapsed: bool = False


@dataclass(frozen=True)
class Timeline:
    """Intervals in order, each beginning where the one before it ended. All arrays are ``(intervals,)``.

    An interval is named by its end. It contains its end, but not its beginning.

    :param numbers: as in table intervals.
    :param ends_s: Unix time. The clock may have been set in between, so these need not grow.
    :param durations_ns: by CLOCK_MONOTONIC.
    """

    numbers: npt.NDArray[np.int64]
    ends_s: npt.NDArray[np.float64]
    durations_ns: npt.NDArray[np.int64]

    @property
    def begins_s(self) -> npt.NDArray[np.float64]:
        """Unix times."""
        return self.ends_s - self.durations_ns / NS_PER_S

    @property
    def elapsed_s(self) -> npt.NDArray[np.float64]:
        """From the beginning to the end of each interval, by CLOCK_MONOTONIC."""
        return np.cumsum(self.durations_ns / NS_PER_S)

    def span(self, begin: Moment | None = None, end: Moment | None = None) -> Span | None:
        """The intervals from the one that contains ``begin`` to the one that contains ``end``; None if there is none.

        If the clock was set back, a Unix time may occur twice: from its first to its last occurrence.
        """
        wanted = np.ones(len(self.numbers), bool)
        if begin is not None:
            wanted &= (self.elapsed_s if begin.elapsed else self.ends_s) >= begin.seconds
        if end is not None:
            begins_s = self.elapsed_s - self.durations_ns / NS_PER_S if end.elapsed else self.begins_s
            wanted &= begins_s < end.seconds
        found = self.numbers[wanted]
        return (int(found[0]), int(found[-1])) if len(found) else None

    def index(self, moment: Moment) -> int | None:
        """Index of the interval that contains a moment; None if none does."""
        elapsed_s = self.elapsed_s
        ends_s = elapsed_s if moment.elapsed else self.ends_s
        begins_s = elapsed_s - self.durations_ns / NS_PER_S if moment.elapsed else self.begins_s
        # The user types whole seconds, and the recording began within one.
        found = np.flatnonzero((np.floor(begins_s) <= moment.seconds) & (moment.seconds <= ends_s))
        return int(found[0]) if len(found) else None
