"""What a screen remembers, in bounded memory: sums since the start, recently active tasks, rates over time."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmwatch.model.accounting import Accounting, sum_accounts
from mmwatch.model.groupings import GROUPINGS
from mmwatch.model.interval import Interval, Process, Session
from mmwatch.model.measures import PATHS
from mmwatch.model.merge import THREAD_KEYS, Sums
from mmwatch.model.rows import ACTIVE, IDENTITY, ROW_DTYPE, Rows, active_rows
from mmwatch.model.snapshot import Snapshot, take

FADE_S = 10.0
"""How long a task is shown, faded, after its last reclaim."""
FADING_MAX = 1000
ROWS_MAX = 4096
"""Rows since the start that are kept separate, at 1.5 KB each."""
RATES_MAX = 600
_WAITING_ROWS = 2048

Rate = dict[str, float]
"""By path, for paths that were active."""


RATES_NEED = ("path", "stall_ns")
FADING_NEEDS = (*IDENTITY, *ACTIVE)
"""Fields of rows that rates need, and those that show who was active."""


@dataclass(frozen=True)
class Before:
    """What came before the first interval of a history that starts in the middle.

    :param lately: the intervals right before it, as many as rates go back, with :data:`RATES_NEED`. Those of the last
        :data:`FADE_S` seconds also have names and :data:`FADING_NEEDS`.
    :param total: the account up to that point.
    :param whole: computes everything up to that point as one interval.
    """

    lately: Sequence[Interval]
    total: Accounting | None
    whole: Callable[[], Interval | None]


def sums() -> Sums:
    """Everything since the start, as :meth:`History.since_start` has it."""
    return Sums(THREAD_KEYS, ROWS_MAX, _WAITING_ROWS)


@dataclass(frozen=True)
class Lasting:
    """Reclaim on a path that goes on, with pauses of at most :data:`FADE_S`.

    :param from_start: it was under way in the first interval, so it may have begun earlier.
    """

    since_s: float
    until_s: float
    from_start: bool


class History:
    """The intervals so far.

    :param latest: the newest one; ``by_path`` is a snapshot of it.
    :param total: the account since the start.
    :param cgroups_differ: tasks of more than one cgroup have reclaimed so far.
    :param rates: time in reclaim by path as a share of the interval (several threads add up), oldest first. Not
        pages: a reclaim storm that frees nothing must show.
    """

    def __init__(self, session: Session, before: Before | None = None) -> None:
        self.session = session
        self.latest: Interval | None = None
        self.by_path: Snapshot | None = None
        self.total: Accounting | None = before.total if before else None
        self.rates: deque[Rate] = deque(maxlen=RATES_MAX)
        self._sums = sums()
        self._fading: dict[tuple[object, ...], float] = {}
        self._names: dict[int, Process] = {}
        self._groups: dict[int, str] = {}
        self._earlier = before.whole if before else None
        self._elapsed_s = 0.0
        self._lasting: dict[str, Lasting] = {}
        self._some_cgroup = 0
        self.cgroups_differ = False
        for interval in before.lately if before else ():
            self._rate(interval)
            self._remember(interval)

    def add(self, interval: Interval) -> None:
        """Add the next interval."""
        self.latest = interval
        self.by_path = take(self.session, interval, "path")
        self.total = sum_accounts(self.total, self.by_path.accounting)
        self._rate(interval)
        self._remember(interval)
        self._sums.add(interval)

    def lasts_s(self, path: str) -> tuple[float, bool] | None:
        """How long reclaim on a path has gone on, and whether that is at least so long; None if it does not."""
        found = self._lasting.get(path)
        if found is None or self._elapsed_s - found.until_s > FADE_S:
            return None
        return self._elapsed_s - found.since_s, found.from_start

    def _rate(self, interval: Interval) -> None:
        rate = _rates(interval)
        first = not self.rates
        self.rates.append(rate)
        begin_s, self._elapsed_s = self._elapsed_s, self._elapsed_s + interval.duration_ns / 1e9
        for path in rate:
            known = self._lasting.get(path)
            goes_on = known is not None and begin_s - known.until_s <= FADE_S
            since_s, from_start = (known.since_s, known.from_start) if known and goes_on else (begin_s, first)
            self._lasting[path] = Lasting(since_s, self._elapsed_s, from_start)

    def frozen(self) -> History:
        """A copy that stays as it is now."""
        still = copy.copy(self)
        still._sums = self._sums.copy()
        for name in ("rates", "_fading", "_lasting"):
            setattr(still, name, copy.copy(getattr(self, name)))
        return still

    def since_start(self) -> Interval | None:
        """Everything as one interval. Beyond :data:`ROWS_MAX` rows, those with the least time are folded (tgid 0)."""
        if self._earlier is not None:
            earlier, self._earlier = self._earlier(), None
            later, self._sums = self._sums.whole(), sums()
            for interval in (earlier, later):
                if interval is not None:
                    self._sums.add(interval)
        return self._sums.whole()

    def with_fading(self, by: str) -> Interval | None:
        """The newest interval, plus rows of zeros for tasks that were active recently and no longer are."""
        latest = self.latest
        if latest is None or not self._fading:
            return latest
        fields = [IDENTITY.index(name) for name in GROUPINGS[by]]
        present = set(zip(*(latest.rows[name].tolist() for name in GROUPINGS[by])))
        absent = [key for key in self._fading if tuple(key[index] for index in fields) not in present]
        if not absent:
            return latest
        rows: Rows = np.zeros(len(absent), ROW_DTYPE)
        for name, values in zip(IDENTITY, zip(*absent)):
            rows[name] = values
        return replace(
            latest,
            rows=np.concatenate([latest.rows, rows]),
            processes={**self._names, **latest.processes},
            cgroups={**self._groups, **latest.cgroups},
        )

    def _remember(self, interval: Interval) -> None:
        rows = interval.rows[active_rows(interval.rows)]
        groups = np.unique(rows["cgroup_id"][rows["cgroup_id"] > 0]).tolist()
        self._some_cgroup = self._some_cgroup or next(iter(groups), 0)
        self.cgroups_differ |= any(group != self._some_cgroup for group in groups)
        if len(rows) > FADING_MAX:
            rows = rows[np.argsort(-rows["stall_ns"])[:FADING_MAX]]
        for key in zip(*(rows[name].tolist() for name in IDENTITY)):
            self._fading.pop(key, None)
            self._fading[key] = interval.end_s
        # Ordered by last activity: the first entries expire first.
        while self._fading:
            oldest = next(iter(self._fading))
            if len(self._fading) <= FADING_MAX and interval.end_s - self._fading[oldest] < FADE_S:
                break
            del self._fading[oldest]
        tgid, *which = (IDENTITY.index(name) for name in ("tgid", "cgroup_id", "target_id"))
        tgids, groups = {key[tgid] for key in self._fading}, {key[group] for key in self._fading for group in which}
        self._names = {n: p for n, p in {**self._names, **interval.processes}.items() if n in tgids}
        self._groups = {n: p for n, p in {**self._groups, **interval.cgroups}.items() if n in groups}


def _rates(interval: Interval) -> Rate:
    rows = interval.rows
    stall_ns = np.bincount(rows["path"], rows["stall_ns"], len(PATHS)).tolist()
    return {path: ns / max(interval.duration_ns, 1) for path, ns in zip(PATHS, stall_ns) if ns > 0}
