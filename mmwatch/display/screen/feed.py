"""Where a screen gets its intervals from: a live session, or a recording that is played again."""

from __future__ import annotations

from typing import Protocol

from mmwatch.model.interval import Interval, Session


class Feed(Protocol):
    """Intervals, one after the other, from whoever reads them: usually another thread.

    Nothing here waits, and nothing is lost: what the screen did not take comes merged with what follows.
    """

    @property
    def session(self) -> Session | None:
        """None until everything is attached."""

    @property
    def problem(self) -> BaseException | None:
        """Why it ended early."""

    @property
    def ended(self) -> bool:
        """There will be no other interval."""

    def take(self) -> Interval | None:
        """The newest that was not taken yet, with those before it that were not (:func:`mmwatch.model.snapshot.merge`)."""

    def set_interval_s(self, seconds: float) -> None:
        """From now on, so long between two intervals."""


class Controls(Protocol):
    """What a recording can do and a live session cannot."""

    paused: bool
    speed: float
    """Seconds of the recording in a second."""

    def position(self) -> tuple[int, int, float, float, float]:
        """``(index, count, begin_s, now_s, end_s)``: the interval shown, of how many, and Unix times."""

    def step(self, n: int) -> None:
        """So many intervals on, or back, and pause there."""

    def jump_s(self, seconds: float) -> None:
        """So many seconds on, or back."""

    def seek(self, fraction: float) -> None:
        """To a place between 0, the beginning, and 1, the end."""
