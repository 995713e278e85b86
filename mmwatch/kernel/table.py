"""The table of rows as arrays: finds what changed from one reading to the next.

This module does not depend on BPF: the arrays may be mapped kernel memory or those of a test.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.abi import COUNTERS, NODE_UNKNOWN, PATHS, ROW, ROW_STATES, Fold

Array = npt.NDArray[Any]

SHARED_ROWS = len(PATHS)
"""The first rows of the table are the overflow rows, one per path, shared by threads that found no free row."""
_EXITED = ROW_STATES.index("exited")
_MAXIMA = tuple(member.name for member in ROW if member.fold is Fold.MAX)
_SCAN_STEP = 1024
INSIDE_MAX = 64
"""At most this many reclaims under way are told one by one, the oldest."""
HIGH_SLEEP_MAX_NS = 2_100_000_000
"""No sleep above memory.high takes longer (MEMCG_MAX_HIGH_DELAY_JIFFIES): else, its end was missed."""
ASKED_MAX = 256
"""In each reading, at most this many threads with a reclaim under way are asked for their CPU time, 15 us each."""


@dataclass(frozen=True)
class Changes:
    """The changes since the previous reading.

    :param rows: ``(changed,)`` of ``struct row``. Counters hold their growth, ``stall_ns`` includes the time of a
        reclaim under way, ``high_sleep_ns`` that of a sleep, and maxima are those since the previous reading (the same
        in all slots). Other members are as in the table.
    :param time_ns: CLOCK_MONOTONIC when the rows were read.
    :param freed: ``(freed,)`` indices of rows that are free again: their threads have ended and the rows were read.
    :param in_use: number of rows of threads that still exist.
    :param inside: ``(inside,)`` of ``struct row``, those with a reclaim under way, the oldest first, at most
        :data:`INSIDE_MAX`. All members are as in the table.
    """

    rows: Array
    time_ns: int
    freed: Array
    in_use: int
    inside: Array


@dataclass(frozen=True)
class Look:
    """The table at one moment. All arrays have one element per row that is of interest, unless they say otherwise.

    :param index: in the table: rows that changed, that have a reclaim or a sleep under way, or whose thread has ended.
    :param now: ``(rows, words)``, their content.
    :param exited: ``(exited,)``, indices of the rows whose threads have ended.
    :param pending_pages: pages scanned by batches that were under way, which no row counts yet.
    """

    index: Array
    now: Array
    exited: Array
    time_ns: int
    in_use: int
    pending_pages: int


class RowTable:
    """Reads a table of rows, over and over.

    :param rows: ``(entries,)`` of ``struct row``, as BCC lays it out. The reader clears rows that it frees.
    :param control: the single element of ``struct control``. The reader switches its epoch.
    :param clock: CLOCK_MONOTONIC in nanoseconds.
    :param runtime_of: CPU time of a thread so far, nanoseconds, by process and thread ID; None if it cannot be read.
    :raises ValueError: the members are not laid out in whole words.
    """

    def __init__(
        self,
        rows: Array,
        control: Any,
        clock: Callable[[], int] = time.monotonic_ns,
        runtime_of: Callable[[int, int], int | None] = lambda tgid, tid: None,
    ) -> None:
        self.rows = rows
        self._control, self._clock, self._runtime_of = control, clock, runtime_of
        self._slot = 0
        self._counters, self._others = _spans(rows.dtype)
        self._before = np.zeros(len(rows), rows.dtype)
        self._stall_before = np.zeros(len(rows), np.int64)
        self._cpu_before = np.zeros(len(rows), np.int64)
        self._slept_before = np.zeros(len(rows), np.int64)
        self._touched = np.zeros(0, np.intp)  # rows with maxima of the reading before
        self._open = np.zeros(0, np.intp)  # rows that had a reclaim or a sleep under way
        self._scan_to = min(_SCAN_STEP, len(rows))
        rows["path"][:SHARED_ROWS] = np.arange(SHARED_ROWS)
        rows["node"][:SHARED_ROWS] = rows["cpu_node"][:SHARED_ROWS] = NODE_UNKNOWN

    def begin(self) -> None:
        """Begin a reading: from now on, maxima belong to the next one."""
        rows = self.rows
        slots = rows[_MAXIMA[0]].shape[1]
        self._slot = int(self._control["epoch"]) % slots
        for name in _MAXIMA:
            rows[name][self._touched, (self._slot + 1) % slots] = 0  # written from the switch on
        self._control["epoch"] += 1

    def look(self) -> Look:
        """The table now. A reading may look several times, and take one of the looks."""
        rows = self.rows
        used, states = self._used()
        exited = states == _EXITED
        changed = rows["events"][used] != self._before["events"][used]
        changed |= (rows["open_since_ns"][used] != 0) | (rows["high_since_ns"][used] != 0) | exited
        if len(self._open):
            changed |= np.isin(used, self._open)
        index = used[changed]
        return Look(
            index=index,
            now=_words(rows)[index],
            exited=used[exited],
            time_ns=self._clock(),
            in_use=len(used) - SHARED_ROWS - int(exited.sum()),
            pending_pages=int(rows["pending_pages"][used].sum()),
        )

    def take(self, look: Look) -> Changes:
        """Changes since the last call, up to a look. The caller may hand out the rows in ``freed`` again."""
        index, now, time_ns = look.index, look.now, look.time_ns
        result = self._since_before(index, now)
        now_rows = now.view(self.rows.dtype)[:, 0]
        since = now_rows["open_since_ns"].astype(np.int64)
        under_way = np.where(since > 0, np.maximum(time_ns - since, 0), 0)
        stall = now_rows["stall_ns"].astype(np.int64) + under_way
        result["stall_ns"] = (stall - self._stall_before[index]).view(np.uint64)
        result["cpu_ns"] = self._cpu_times(index, now_rows, under_way, stall - self._stall_before[index])
        asleep_since = now_rows["high_since_ns"].astype(np.int64)
        asleep = np.where(asleep_since > 0, np.clip(time_ns - asleep_since, 0, HIGH_SLEEP_MAX_NS), 0)
        # The row may be read while it changes: what then seems to be less is not told twice.
        slept = np.maximum(now_rows["high_sleep_ns"].astype(np.int64) + asleep, self._slept_before[index])
        result["high_sleep_ns"] = (slept - self._slept_before[index]).view(np.uint64)
        self._slept_before[index] = slept
        for name in _MAXIMA:
            result[name] = now_rows[name][:, self._slot, None]
        result["stall_max_ns"] = np.maximum(result["stall_max_ns"], under_way.astype(np.uint64)[:, None])
        self._stall_before[index] = stall
        self._touched = index
        self._open = index[(since > 0) | (asleep_since > 0)]
        inside = np.flatnonzero(since > 0)
        inside = inside[np.argsort(now_rows["open_began_ns"][inside], kind="stable")[:INSIDE_MAX]]
        self._give_back(look.exited)
        return Changes(
            rows=result[(result["events"] > 0) | (result["stall_ns"] != 0) | (result["high_sleep_ns"] != 0)],
            time_ns=time_ns,
            freed=look.exited,
            in_use=look.in_use,
            inside=now_rows[inside],
        )

    def _cpu_times(self, index: Array, now: Array, under_way: Array, stall_ns: Array) -> Array:
        """CPU time in reclaim since the last reading, that of reclaims under way included.

        It is never more than the time in reclaim; what would be, because the scheduler's figure may lag by a tick,
        counts next time. For a reclaim under way whose thread was not asked, it counts when the reclaim ends.
        """
        total = now["cpu_ns"].astype(np.int64)
        longest = np.argsort(-under_way, kind="stable")[:ASKED_MAX]
        for place in longest[under_way[longest] > 0].tolist():
            row = now[place]
            runtime = self._runtime_of(int(row["tgid"]), int(row["tid"])) if row["tid"] else None
            if runtime is not None and row["open_runtime_ns"]:
                ran = min(max(runtime - int(row["open_runtime_ns"]), 0), int(under_way[place]))
                total[place] += ran
        grown = np.clip(total - self._cpu_before[index], 0, np.maximum(stall_ns, 0))
        self._cpu_before[index] += grown
        found: Array = grown.view(np.uint64)
        return found

    def _used(self) -> tuple[Array, Array]:
        """Indices of the overflow rows and of all rows that are not free, and the states of these rows.

        Indices are handed out in order, so the table is only scanned as far as it has ever been used.
        """
        state = self.rows["state"]
        while self._scan_to < len(state) and state[self._scan_to - _SCAN_STEP : self._scan_to].any():
            self._scan_to = min(self._scan_to + _SCAN_STEP, len(state))
        states = np.array(state[: self._scan_to])
        used = np.flatnonzero(states)
        used = np.concatenate([np.arange(SHARED_ROWS), used[used >= SHARED_ROWS]])
        return used, states[used]

    def _since_before(self, index: Array, now: Array) -> Array:
        """Rows whose counters hold their growth. Keeps ``now`` for the next call."""
        kept = _words(self._before)
        grown = kept[index]
        kept[index] = now
        for kind, span in self._counters:
            np.subtract(now.view(kind)[:, span], grown.view(kind)[:, span], grown.view(kind)[:, span])
        for kind, span in self._others:
            grown.view(kind)[:, span] = now.view(kind)[:, span]
        return grown.view(self.rows.dtype)[:, 0]

    def _give_back(self, index: Array) -> None:
        """Clear rows of threads that have ended. They have been read, and nothing writes to them any more."""
        if not len(index):
            return
        self._before[index] = 0
        self._stall_before[index] = 0
        self._cpu_before[index] = 0
        self._slept_before[index] = 0
        self.rows[index] = np.zeros(1, self.rows.dtype)
        self._touched = np.setdiff1d(self._touched, index)


Span = tuple[type[np.unsignedinteger[Any]], slice]
"""Adjacent members of one width, as a slice of a row seen as words of that width."""


def _spans(dtype: np.dtype[Any]) -> tuple[list[Span], list[Span]]:
    """The slices with counters, which are subtracted, and the other slices. A few slices cover all members.

    ``events`` counts as a counter. Only rows in which it has grown have changed.
    """
    fields: Any = dtype.fields
    runs: list[list[Any]] = []  # counter or not, width, begin, end
    for member in ROW:
        kind, begin = fields[member.name][:2]
        width = min(kind.base.itemsize, 8) if member.type != "char" else 4
        counter = member.fold in COUNTERS or member.name == "events"
        if begin % width or kind.itemsize % width:
            raise ValueError(f"struct row is not laid out as the reader expects: {member.name}")
        if runs and runs[-1][:2] == [counter, width] and runs[-1][3] == begin:
            runs[-1][3] = begin + kind.itemsize
        else:
            runs.append([counter, width, begin, begin + kind.itemsize])
    spans: tuple[list[Span], list[Span]] = ([], [])
    for counter, width, begin, end in runs:
        spans[not counter].append(({4: np.uint32, 8: np.uint64}[width], slice(begin // width, end // width)))
    return spans


def _words(rows: Array) -> Array:
    """Rows as words, ``(len(rows), words)``."""
    return rows.view(np.uint64).reshape(len(rows), rows.itemsize // 8)
