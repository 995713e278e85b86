"""The steady beat of an observation: when each interval ends."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORTEST = 0.2
"""If less than this share of an interval remains at the end of a limited time, the last interval is extended by it."""


class Beat:
    """Readings every ``interval_s`` from the start, without drift. A late reading delays the ones after it; there is no
    catching up.

    :param duration_s: length of the whole observation; the last reading is at its end.
    :param first_s: length of the first interval, if it differs.
    :param clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        interval_s: float,
        duration_s: float = float("inf"),
        first_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._last_s = clock()
        self._end_s = self._last_s + duration_s
        self._next_s = self._at(self._last_s + (interval_s if first_s is None else min(first_s, interval_s)))

    def _at(self, time_s: float) -> float:
        return time_s if self._end_s - time_s >= SHORTEST * self._interval_s else self._end_s

    def left_s(self) -> float:
        """Time to the next reading; 0 once it is due."""
        return max(0.0, self._next_s - self._clock())

    def due(self) -> bool:
        """Whether it is time for the next reading."""
        return self._clock() >= self._next_s

    def over(self) -> bool:
        """Whether the duration is over."""
        return self._clock() >= self._end_s

    def advance(self) -> None:
        """Set the time of the reading after the one that was due."""
        now_s = self._clock()
        self._last_s = max(self._next_s, now_s - self._interval_s)
        self._next_s = self._at(self._last_s + self._interval_s)

    def change(self, interval_s: float) -> None:
        """Use this interval from now on. The next reading ends a whole one."""
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._next_s = self._at(max(self._last_s, self._clock()) + interval_s)
