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


@dataclass(frozen=True)
class Changes:
    """The changes since the previous reading.

    :param rows: ``(changed,)`` of ``struct row``. Counters hold their growth, ``stall_ns`` includes the time of a
        reclaim under way, and maxima are those since the previous reading (the same in all slots). Other members are
        as in the table.
    :param time_ns: CLOCK_MONOTONIC when the rows were read.
    :param freed: ``(freed,)`` indices of rows that are free again: their threads have ended and the rows were read.
    :param in_use: number of rows of threads that still exist.
    """

    rows: Array
    time_ns: int
    freed: Array
    in_use: int


class RowTable:
    """Reads a table of rows, over and over.

    :param rows: ``(entries,)`` of ``struct row``, as BCC lays it out. The reader clears rows that it frees.
    :param control: the single element of ``struct control``. The reader switches its epoch.
    :param clock: CLOCK_MONOTONIC in nanoseconds.
    :raises ValueError: the members are not laid out in whole words.
    """

    def __init__(self, rows: Array, control: Any, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.rows = rows
        self._control, self._clock = control, clock
        self._counters, self._others = _spans(rows.dtype)
        self._before = np.zeros(len(rows), rows.dtype)
        self._stall_before = np.zeros(len(rows), np.int64)
        self._touched = np.zeros(0, np.intp)  # rows with maxima of the reading before
        self._open = np.zeros(0, np.intp)  # rows that had a reclaim under way
        self._scan_to = min(_SCAN_STEP, len(rows))
        rows["path"][:SHARED_ROWS] = np.arange(SHARED_ROWS)
        rows["node"][:SHARED_ROWS] = rows["cpu_node"][:SHARED_ROWS] = NODE_UNKNOWN

    def read(self) -> Changes:
        """Changes since the last call. The caller may hand out the rows in ``freed`` again."""
        rows = self.rows
        slots = rows[_MAXIMA[0]].shape[1]
        slot = int(self._control["epoch"]) % slots
        for name in _MAXIMA:
            rows[name][self._touched, (slot + 1) % slots] = 0  # written from the switch on
        self._control["epoch"] += 1
        used, states = self._used()
        exited = states == _EXITED
        changed = rows["events"][used] != self._before["events"][used]
        changed |= (rows["open_since_ns"][used] != 0) | exited
        if len(self._open):
            changed |= np.isin(used, self._open)
        index = used[changed]
        now = _words(rows)[index]
        time_ns = self._clock()
        result = self._since_before(index, now)
        now_rows = now.view(rows.dtype)[:, 0]
        since = now_rows["open_since_ns"].astype(np.int64)
        under_way = np.where(since > 0, np.maximum(time_ns - since, 0), 0)
        stall = now_rows["stall_ns"].astype(np.int64) + under_way
        result["stall_ns"] = (stall - self._stall_before[index]).view(np.uint64)
        for name in _MAXIMA:
            result[name] = now_rows[name][:, slot, None]
        result["stall_max_ns"] = np.maximum(result["stall_max_ns"], under_way.astype(np.uint64)[:, None])
        self._stall_before[index] = stall
        self._touched = index
        self._open = index[since > 0]
        self._give_back(used[exited])
        return Changes(
            rows=result[(result["events"] > 0) | (result["stall_ns"] != 0)],
            time_ns=time_ns,
            freed=used[exited],
            in_use=len(used) - SHARED_ROWS - int(exited.sum()),
        )

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
