"""What a screen remembers: all since it was started, who was active lately, and rates over time. All of it bounded."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmwatch.model.columns import ACTIVE, active_rows
from mmwatch.model.interval import IDENTITY, ROW_DTYPE, Interval, Process, Rows, Session, fold_rows, limit_rows
from mmwatch.model.measures import PATHS
from mmwatch.model.nodes import elsewhere
from mmwatch.model.snapshot import GROUPINGS, Accounting, Snapshot, merge, take

FADE_S = 10.0
"""So long after its last reclaim a task is still shown, faded."""
FADING_MAX = 1000
ROWS_MAX = 4096
"""Rows kept apart since the start; a row takes 1.5 KB."""
RATES_MAX = 600
_PENDING_ROWS = 8192
_PENDING_MAX = 32
_KEYS = ["tgid", "tid", "start_ns", "path", "node", "cpu_node"]
_NO_ROWS: Rows = np.zeros(0, ROW_DTYPE)

Rate = dict[str, float]
"""By path; only those that did anything."""


RATES_NEED = ("path", "stall_ns")
FADING_NEEDS = (*IDENTITY, *ACTIVE)
"""Fields of rows that rates are made of, and that tell who was active."""


@dataclass(frozen=True)
class Before:
    """What was before the first interval of a history that does not begin at the beginning.

    :param lately: the intervals right before, as many as rates go back; with :data:`RATES_NEED`, and those of the
        last :data:`FADE_S` seconds also with names and :data:`FADING_NEEDS`.
    :param total: the account up to there.
    :param whole: all of it as one interval, when somebody asks.
    """

    lately: Sequence[Interval]
    total: Accounting | None
    whole: Callable[[], Interval | None]


class History:
    """Intervals, as they come.

    :param latest: the newest one; ``by_path`` is a snapshot of it.
    :param total: the account since the start.
    :param rates: time in reclaim by path, as a share of the interval (several threads add up), oldest first. Not
        pages: a storm that frees nothing has to show.
    """

    def __init__(self, session: Session, before: Before | None = None) -> None:
        self.session = session
        self.latest: Interval | None = None
        self.by_path: Snapshot | None = None
        self.total: Accounting | None = before.total if before else None
        self.rates: deque[Rate] = deque(maxlen=RATES_MAX)
        self._whole: Interval | None = None
        self._pending: list[Interval] = []
        self._fading: dict[tuple[object, ...], float] = {}
        self._names: dict[int, Process] = {}
        self._groups: dict[int, str] = {}
        self._earlier = before.whole if before else None
        for interval in before.lately if before else ():
            self.rates.append(_rates(interval))
            self._remember(interval)

    def add(self, interval: Interval) -> None:
        """The next one."""
        self.latest = interval
        self.by_path = take(self.session, interval, "path")
        counts = self.by_path.accounting
        self.total = self.total.then(counts) if self.total else counts
        self.rates.append(_rates(interval))
        self._remember(interval)
        self.gather(interval)

    def frozen(self) -> History:
        """As it is now, whatever is added to this one later."""
        still = copy.copy(self)
        for name in ("rates", "_pending", "_fading"):
            setattr(still, name, copy.copy(getattr(self, name)))
        return still

    def gather(self, interval: Interval) -> None:
        """Into :meth:`since_start`, and nothing else of :meth:`add`."""
        self._pending.append(interval)
        if len(self._pending) > _PENDING_MAX or sum(len(one.rows) for one in self._pending) > _PENDING_ROWS:
            self._fold()

    def since_start(self) -> Interval | None:
        """Everything as one interval; with more than :data:`ROWS_MAX` rows, the least of them as one of tgid 0."""
        if self._earlier is not None:
            earlier, self._earlier = self._earlier(), None
            self._fold()
            self._pending = [interval for interval in (earlier, self._whole) if interval is not None]
            self._whole = None
        self._fold()
        return self._whole

    def _fold(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        # All rows at once: each merge goes through everything there is.
        parts = [*([self._whole] if self._whole else []), *pending]
        whole = replace(parts[0], rows=_NO_ROWS, elsewhere=elsewhere(parts[0]))
        for part in parts[1:]:
            whole = merge(whole, replace(part, rows=_NO_ROWS, elsewhere=elsewhere(part)))
        rows, _, _ = fold_rows(np.concatenate([part.rows for part in parts]), _KEYS)
        if len(rows) > 2 * ROWS_MAX:
            rows = limit_rows(rows, ROWS_MAX)
        tgids, groups = set(np.unique(rows["tgid"]).tolist()), set(np.unique(rows["cgroup_id"]).tolist())
        self._whole = replace(
            whole,
            rows=rows,
            processes={tgid: process for tgid, process in whole.processes.items() if tgid in tgids},
            cgroups={number: path for number, path in whole.cgroups.items() if number in groups},
        )

    def with_fading(self, by: str) -> Interval | None:
        """The newest interval, and rows of zeros for what was active a short while ago and is not now."""
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
        if len(rows) > FADING_MAX:
            rows = rows[np.argsort(-rows["stall_ns"])[:FADING_MAX]]
        for key in zip(*(rows[name].tolist() for name in IDENTITY)):
            self._fading.pop(key, None)
            self._fading[key] = interval.end_s
        # In the order of their last activity: what is to go comes first.
        while self._fading:
            oldest = next(iter(self._fading))
            if len(self._fading) <= FADING_MAX and interval.end_s - self._fading[oldest] < FADE_S:
                break
            del self._fading[oldest]
        tgid, group = IDENTITY.index("tgid"), IDENTITY.index("cgroup_id")
        tgids, groups = {key[tgid] for key in self._fading}, {key[group] for key in self._fading}
        self._names = {n: p for n, p in {**self._names, **interval.processes}.items() if n in tgids}
        self._groups = {n: p for n, p in {**self._groups, **interval.cgroups}.items() if n in groups}


def _rates(interval: Interval) -> Rate:
    rows = interval.rows
    sums = np.bincount(rows["path"], rows["stall_ns"], len(PATHS))
    return {path: value / max(interval.duration_ns, 1) for path, value in zip(PATHS, sums.tolist()) if value > 0}
