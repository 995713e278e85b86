"""What the rules say of the last seconds, for a display that goes on."""

from __future__ import annotations

from mmwatch.diagnosis.gathering import Gathering
from mmwatch.diagnosis.judge import judge
from mmwatch.diagnosis.observation import Observation
from mmwatch.diagnosis.verdict import Verdict
from mmwatch.model.interval import Interval, Session
from mmwatch.units import NS_PER_S

KEEP_S = 10.0
"""As long as a diagnosis looks."""
AGAIN_S = 5.0
"""A verdict holds for so long: judging takes some ten milliseconds."""


class Lately:
    """Judges the newest intervals now and then."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._gathering = Gathering(KEEP_S)
        self._passed_ns = 0
        self._judged: tuple[Verdict, Observation] | None = None

    def add(self, interval: Interval) -> None:
        """Add the next interval."""
        self._gathering.add(interval)
        self._passed_ns += interval.duration_ns

    def verdict(self, now: bool = False) -> tuple[Verdict, Observation] | None:
        """The verdict, and what it was made of; None before the first interval.

        :param now: of all intervals so far; else it may be :data:`AGAIN_S` old.
        """
        due = now or self._judged is None or self._passed_ns >= AGAIN_S * NS_PER_S
        if due and self._gathering.intervals and self._passed_ns:
            observation = self._gathering.observation(self._session)
            self._judged = (judge(observation), observation)
            self._passed_ns = 0
        return self._judged
