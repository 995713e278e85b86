"""Gathers the intervals of an observation as they come."""

from __future__ import annotations

from dataclasses import replace

from mmwatch.diagnosis.observation import ROWS_MAX, Observation, observe
from mmwatch.model.interval import Interval, Session
from mmwatch.model.merge import THREAD_KEYS, Sums, lighten
from mmwatch.units import NS_PER_S


class Gathering:
    """Gathers intervals as they come, and sums them up at once, so that the verdict does not wait for it.

    :param keep_s: judge only so much time up to the newest interval; by default all of it.
    """

    def __init__(self, keep_s: float = float("inf")) -> None:
        self._keep_s = keep_s
        self.intervals: list[Interval] = []
        self._sums = Sums(THREAD_KEYS, ROWS_MAX, 0)

    def add(self, interval: Interval) -> None:
        """Add the next interval."""
        self.intervals.append(lighten(interval, ROWS_MAX))
        if self._keep_s == float("inf"):
            self._sums.add(self.intervals[-1])
            return
        while sum(one.duration_ns for one in self.intervals[1:]) >= self._keep_s * NS_PER_S:
            del self.intervals[0]

    def observation(self, session: Session, traced: bool = True) -> Observation:
        """What was gathered.

        :raises ValueError: there is no interval.
        """
        summed = self._sums.whole() if self._keep_s == float("inf") else None
        return replace(observe(session, self.intervals, traced), summed=summed)
