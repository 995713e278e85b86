"""A recording played back: at its own speed or another, with pause, steps, rewind and fast-forward."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from mmwatch.model.accounting import Accounting, accounting, sum_accounts
from mmwatch.model.course import Position
from mmwatch.model.history import FADE_S, FADING_NEEDS, RATES_MAX, RATES_NEED, Before, sums
from mmwatch.model.interval import Interval, Session
from mmwatch.model.records import Recent, recents
from mmwatch.model.rows import SUMS
from mmwatch.recording import ALL, Moment, Reader, Span
from mmwatch.units import NS_PER_S

RECENT_MAX = 50
BEHIND_MAX_S = 1.0
"""A host that is too slow for the requested speed plays slower instead of trying to catch up."""
JITTER_S = 0.005
"""A reading is never exactly on the beat: a minute after an interval is not in the one after the sixtieth."""
STRIDE_MIN = 64
STRIDES_MAX = 32
"""The sum of all intervals up to a position is cached for at most this many positions, to continue from the nearest."""
KEPT_BYTES_MAX = 64 << 20
_ACCOUNTED = [name for parts in SUMS.values() for name in parts]


class Playback:
    """The feed of a recording, and the controls to move in it.

    Intervals are read on demand, in a few milliseconds each. The display at a position does not depend on how the user
    got there: after a jump, :meth:`before` returns what playing up to there would have gathered.

    Jumps and speed follow CLOCK_MONOTONIC, whatever was done to the wall clock meanwhile.

    :param span: the intervals to play. There must be one.
    :param speed: seconds of the recording per second.
    :raises MmwatchError: the recording is damaged. All methods that read may raise it.
    """

    problem: BaseException | None = None

    def __init__(
        self,
        reader: Reader,
        span: Span = ALL,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session: Session = reader.session
        self.speed = speed
        self._reader, self._clock = reader, clock
        self._timeline = reader.timeline(span)
        self._numbers, self._durations_ns = self._timeline.numbers, self._timeline.durations_ns
        self._elapsed_s = self._timeline.elapsed_s
        self._begin_s = float(reader.timeline((0, int(self._numbers[0]) - 1)).durations_ns.sum()) / NS_PER_S
        self._paused = False
        self._at = 0
        self._given = -1
        self._given_s = clock()
        self._stride = max(STRIDE_MIN, -(-len(self._numbers) // STRIDES_MAX))
        self._totals: dict[int, Accounting] = {}
        self._wholes: dict[int, Interval] = {}
        self._worst: list[int] | None = None
        self._worst_at = -1
        self._watched: int | None = None
        self._recent: tuple[tuple[int, int | None], Sequence[Recent]] = ((-1, None), ())

    # ---- the feed ----

    @property
    def ended(self) -> bool:
        """The last interval has been taken."""
        return self._given == self._at == len(self._numbers) - 1

    def take(self) -> Interval | None:
        """The next interval if it is due, or the one jumped to. Pauses at the end."""
        if self._at == self._given and not self._due():
            return None
        (interval,) = self._read(self._at, self._at + 1)
        self._given = self._at
        if self.ended:
            self._paused = True
        return interval

    def _due(self) -> bool:
        """Move to the next interval if its time has come."""
        if self._paused or self._at + 1 >= len(self._numbers):
            return False
        due_s = self._given_s + float(self._durations_ns[self._at + 1]) / NS_PER_S / self.speed
        now_s = self._clock()
        if now_s < due_s:
            return False
        self._given_s = max(due_s, now_s - BEHIND_MAX_S)
        self._at += 1
        return True

    def set_interval_s(self, seconds: float) -> None:
        """Ignored: intervals are as recorded."""

    # ---- the controls ----

    @property
    def paused(self) -> bool:
        """Whether playing has stopped."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._paused = paused
        self._given_s = self._clock()
        if not paused and self.ended:
            self._go(0)  # nothing is left to play

    def position(self) -> Position:
        """Where the playback is."""
        ends_s = self._timeline.ends_s
        return Position(
            index=self._at,
            count=len(self._numbers),
            share=float(self._elapsed_s[self._at] / max(self._elapsed_s[-1], 1e-9)),
            begin_s=float(self._timeline.begins_s[0]),
            now_s=float(ends_s[self._at]),
            end_s=float(ends_s[-1]),
        )

    def step(self, n: int) -> None:
        """Move by ``n`` intervals and pause."""
        self._paused = True
        self._go(self._at + n)

    def jump_s(self, seconds: float) -> None:
        """Move by ``seconds``."""
        self._go_to(float(self._elapsed_s[self._at]) + seconds)

    def seek(self, fraction: float) -> None:
        """Move to a place between 0, the beginning, and 1, the end."""
        self._go_to(fraction * float(self._elapsed_s[-1]))

    def go_to_time(self, time_s: float) -> bool:
        """Move to the interval that contains this Unix time; False if none does."""
        index = self._timeline.index(Moment(time_s))
        if index is not None:
            self._go(index)
        return index is not None

    def worst(self) -> bool:
        """Pause at the interval with the largest share of time in reclaim. Called again there, go to the next largest.

        :returns: False if no task spent time in reclaim.
        """
        if self._worst is None:
            stretches = self._reader.stretches((int(self._numbers[0]), int(self._numbers[-1])))
            shares = np.array([stretch.stall_ns for stretch in stretches], float) / self._durations_ns
            order = np.argsort(-shares, kind="stable")
            self._worst = [int(index) for index in order if shares[index] > 0]
        if not self._worst:
            return False
        self._worst_at = (self._worst_at + 1) % len(self._worst) if self._worst[self._worst_at] == self._at else 0
        self._paused = True
        self._go(self._worst[self._worst_at])
        return True

    def _go_to(self, elapsed_s: float) -> None:
        """Move to the interval that contains this time."""
        self._go(int(np.searchsorted(self._elapsed_s, elapsed_s - JITTER_S)))

    def _go(self, index: int) -> None:
        self._at = min(max(index, 0), len(self._numbers) - 1)
        self._given_s = self._clock()

    def before(self) -> Before | None:
        """The history that playing up to here would have gathered; None unless there was a jump."""
        if self._at in (self._given, self._given + 1):
            return None
        at = self._at
        first = max(0, at - RATES_MAX)
        near = max(first, min(at, int(np.searchsorted(self._elapsed_s, self._elapsed_s[max(at - 1, 0)] - FADE_S))))
        lately = [
            *self._read(first, near, names=False, only=RATES_NEED),
            *self._read(near, at, only={*RATES_NEED, *FADING_NEEDS}),
        ]
        return Before(lately, self._total(at), lambda: self._whole(at))

    # ---- single reclaims ----

    def watch(self, tgid: int | None) -> None:
        """Choose the process whose reclaims :meth:`recent` returns; None: no process."""
        self._watched = tgid

    def recent(self) -> Sequence[Recent]:
        """The latest reclaims of the watched process, up to the end of the interval shown."""
        start_ns, wanted = self._reader.start_monotonic_ns, (self._given, self._watched)
        if self._watched is None or start_ns is None or self._given < 0:
            return ()
        if self._recent[0] != wanted:
            time_ns = start_ns + int((self._begin_s + float(self._elapsed_s[self._given])) * NS_PER_S)
            wall_s = float(self._timeline.ends_s[self._given])
            found = recents(
                self._reader.latest_reclaims(self._watched, time_ns, RECENT_MAX), wall_s - time_ns / NS_PER_S
            )
            self._recent = (wanted, found)
        return self._recent[1]

    # ---- reading ----

    def _read(
        self, begin: int, end: int, *, names: bool = True, only: Collection[str] | None = None
    ) -> Iterator[Interval]:
        """The intervals from index ``begin`` up to, not including, ``end``."""
        if begin < end:
            first, last = int(self._numbers[begin]), int(self._numbers[end - 1])
            yield from self._reader.intervals((first, last), names=names, only=only)

    def _total(self, end: int) -> Accounting | None:
        """The account of everything before this index."""
        begin = max((index for index in self._totals if index <= end), default=0)
        total = self._totals.get(begin)
        for index, interval in enumerate(self._read(begin, end, names=False, only=_ACCOUNTED), begin + 1):
            total = sum_accounts(total, accounting(self.session, interval))
            if index % self._stride == 0:
                self._totals[index] = total
        return total

    def _whole(self, end: int) -> Interval | None:
        """Everything before this index as one interval."""
        begin = max((index for index in self._wholes if index <= end), default=0)
        gathered = sums()
        if begin in self._wholes:
            gathered.add(self._wholes[begin])
        for index, interval in enumerate(self._read(begin, end), begin + 1):
            gathered.add(interval)
            if index % self._stride == 0 and (whole := gathered.whole()) is not None:
                self._wholes[index] = whole
        while len(self._wholes) > 1 and sum(whole.rows.nbytes for whole in self._wholes.values()) > KEPT_BYTES_MAX:
            self._wholes = dict(sorted(self._wholes.items())[1::2])
        return gathered.whole()
