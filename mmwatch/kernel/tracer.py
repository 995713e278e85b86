"""The driver: has attached what the plan says, and reads the tables."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.kernel import syscall
from mmwatch.kernel.builder import Attached, Builder, Table
from mmwatch.kernel.events import NEEDS
from mmwatch.kernel.plan import Choice, Plan
from mmwatch.kernel.program import RECORD_KINDS, Options
from mmwatch.kernel.ring import Ring

_PATHS = 7  # enum reclaim_path: the first rows of the table are overflow rows, one a path
_FREE, _LIVE, _EXITED = range(3)
_STATS = (
    *(f"lost_{kind}" for kind in RECORD_KINDS),
    *(f"suppressed_{kind}" for kind in RECORD_KINDS),
    "unmatched_begin",
    "unmatched_end",
    "table_full_rows",
    "table_full_threads",
)
_BY_ONE = len(_STATS)
_NO_COUNTERS = ("start_ns", "cgroup_id", "open_since_ns")  # the others that are none lie behind the counters
_MAXIMA = ("stall_max_ns", "reclaimed_max_pages")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reading:
    """What happened since the reading before.

    :param rows: of ``struct row``, only those that changed: counters hold what they grew by, ``stall_ns`` includes
        the time of a reclaim under way, maxima are of this stretch of time (both slots the same).
    :param time_ns: CLOCK_MONOTONIC, when the rows were read.
    :param stats: counts of ``enum stat`` that grew, by name.
    :param missed_runs: program runs the kernel skipped; None: this kernel does not count them.
    :param rows_in_use: of the table.
    """

    rows: Array
    time_ns: int
    stats: Mapping[str, int]
    missed_runs: int | None
    rows_in_use: int


class Tracer:
    """Programs attached and tables mapped, from construction to :meth:`close`.

    :param builder: that was told to compile the same plan and options, when that was done ahead.
    :raises NoPermissionError: the kernel refuses BPF to this user.
    :raises UnavailableError: nothing can be attached; says why.
    """

    def __init__(self, plan: Plan, options: Options | None = None, builder: Builder | None = None) -> None:
        self.options = options or Options()
        if builder is None:
            with Builder() as builder:
                builder.compile(plan, self.options)
                self._take_over(builder)
        else:
            self._take_over(builder)
        self.choices, self.unknown = _what_came_of(plan, self._attached)

    # ---- starting ----

    def _take_over(self, builder: Builder) -> None:
        self._tables = tables = builder.tables()
        self._map_tables(tables)
        self._ring: Ring | None = None
        if self.options.detail:
            records = tables["records"]
            self._ring = Ring(records.descriptor, records.entries, np.dtype(records.layout))
            self.set_quota(1 << 62)  # until somebody sets a limit
            self.control["detail"] = sum(1 << RECORD_KINDS.index(kind) for kind in self.options.detail)
        self._attached = builder.attach()
        self._descriptors = [table.descriptor for table in tables.values()]
        self._descriptors += [*self._attached.programs, *self._attached.links]

    def _map_tables(self, tables: Mapping[str, Table]) -> None:
        self._rows, stats, control = (_map(tables[name]) for name in ("rows", "stats", "control"))
        self._stats, self.control = stats[0]["count"], control[0]
        dtype = self._rows.dtype
        if dtype.fields is None or dtype.fields["gfp_flags"][1] <= dtype.fields["priority_histogram"][1]:
            raise ValueError("struct row is not laid out as the reader expects")
        # Wide counters first, then narrow ones: two subtractions over all rows, whatever the fields are called.
        self._wide = slice(0, dtype.fields["priority_histogram"][1] // 8)
        self._narrow = slice(dtype.fields["priority_histogram"][1] // 4, dtype.fields["gfp_flags"][1] // 4)
        self._identity = slice(dtype.fields["gfp_flags"][1] // 8, None)
        self._before = np.zeros(len(self._rows), dtype)
        self._stall_before = np.zeros(len(self._rows), np.int64)
        self._stats_before = np.zeros(len(self._stats), np.uint64)
        self._touched = np.zeros(0, np.intp)
        self._open = np.zeros(0, np.intp)
        self._scan_to = min(1024, len(self._rows))
        self._rows["path"][:_PATHS] = np.arange(_PATHS)
        self._rows["node"][:_PATHS] = self._rows["cpu_node"][:_PATHS] = -1
        self._free_rows = tables["free_rows"].descriptor
        # Indices are taken in this order, so the table is only looked at as far as it has been used.
        syscall.push(self._free_rows, range(_PATHS, len(self._rows)))
        syscall.push(tables["free_slots"].descriptor, range(len(self._rows)))
        for tgid in self.options.wanted.tgids:
            syscall.update(tables["watched_tgids"].descriptor, ctypes.c_uint32(tgid), ctypes.c_uint8(1))

    # ---- reading ----

    def read(self) -> Reading:
        """What changed since the last call. No system call but for threads that have ended and for ``missed_runs``."""
        rows = self._rows
        slot = int(self.control["epoch"]) & 1
        other = slot ^ 1
        for name in _MAXIMA:
            rows[name][self._touched, other] = 0
        self.control["epoch"] += 1
        states = self._states()
        used = np.flatnonzero(states)
        used = np.concatenate([np.arange(_PATHS), used[used >= _PATHS]])
        exited = states[used] == _EXITED
        changed = rows["events"][used] != self._before["events"][used]
        changed |= (rows["open_since_ns"][used] != 0) | exited
        if len(self._open):
            changed |= np.isin(used, self._open)
        index = used[changed]
        now = _words(rows, np.uint64)[index]
        time_ns = time.monotonic_ns()
        kept = _words(self._before, np.uint64)
        grown = kept[index]
        kept[index] = now
        # What was there before becomes what has been added since; only counters are numbers to subtract.
        for width, span in ((np.uint64, self._wide), (np.uint32, self._narrow)):
            np.subtract(now.view(width)[:, span], grown.view(width)[:, span], grown.view(width)[:, span])
        grown[:, self._identity] = now[:, self._identity]
        now_rows, result = (words.view(rows.dtype)[:, 0] for words in (now, grown))
        for name in _NO_COUNTERS:
            result[name] = now_rows[name]
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
        return Reading(
            rows=result[(result["events"] > 0) | (result["stall_ns"] != 0)],
            time_ns=time_ns,
            stats=self._read_stats(),
            missed_runs=self._missed_runs(),
            rows_in_use=len(used) - _PATHS - int(exited.sum()),
        )

    def _states(self) -> Array:
        """States of the rows up to the last one ever used: indices are handed out in order."""
        step = 1024
        while self._scan_to < len(self._rows) and self._rows["state"][self._scan_to - step : self._scan_to].any():
            self._scan_to = min(self._scan_to + step, len(self._rows))
        return np.array(self._rows["state"][: self._scan_to])

    def _give_back(self, index: Array) -> None:
        """Rows of threads that are gone: nobody writes them, they have been read, so they are free."""
        if not len(index):
            return
        self._before[index] = 0
        self._stall_before[index] = 0
        self._rows[index] = np.zeros(1, self._rows.dtype)
        self._touched = np.setdiff1d(self._touched, index)
        syscall.push(self._free_rows, index.tolist())

    def _read_stats(self) -> dict[str, int]:
        now = self._stats.copy()
        grown = now - self._stats_before
        self._stats_before = now
        return {name: int(grown[position]) for position, name in enumerate(_STATS)}

    _missed_before = 0
    _run_ns = _run_before_ns = 0

    def _missed_runs(self) -> int | None:
        """``recursion_misses`` of all programs since the last call (kernel: bpf_prog_show_fdinfo, 5.12)."""
        misses, run_ns = [], 0
        for program in self._attached.programs:
            text = Path(f"/proc/self/fdinfo/{program}").read_text()
            run_ns += int(text.partition("run_time_ns:")[2].split("\n", 1)[0] or 0)
            _, found, rest = text.partition("recursion_misses:")
            if not found:
                return None
            misses.append(int(rest.split("\n", 1)[0]))
        self._run_before_ns, self._run_ns = self._run_ns, run_ns
        total = seen_by_none(misses, self._attached.paired, int(self._stats[_BY_ONE]))
        missed = max(total - self._missed_before, 0)  # less than none, when some other program was not through yet
        self._missed_before += missed
        return missed

    def bpf_ns(self) -> int | None:
        """Run time of all programs between the last two readings; None: the kernel does not count it."""
        try:
            counted = Path("/proc/sys/kernel/bpf_stats_enabled").read_text().strip() == "1"  # 5.1
        except OSError:
            counted = False
        return self._run_ns - self._run_before_ns if counted or self._run_ns > self._run_before_ns else None

    def drain(self, at_most: int = 1 << 20) -> Array:
        """The detail records that have arrived, ``(records,)`` of ``struct record``, oldest first per CPU."""
        if self._ring is None:
            raise ValueError("no detail was asked for")
        return self._ring.drain(at_most)

    def lost_records(self) -> int:
        """Detail records dropped since the start because the ring buffer was full."""
        return int(self._stats[: len(RECORD_KINDS)].sum())

    def set_quota(self, records: int) -> None:
        """How many detail records may still be streamed; those beyond are counted as suppressed."""
        self.control["quota"] = records

    def set_lru_gen(self, enabled: bool) -> None:
        """Whether the multi-generational LRU is on: what ``pgscan`` counts differs."""
        self.control["lru_gen"] = int(enabled)

    def close(self) -> None:
        """Detach everything."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def seen_by_none(misses: Sequence[int], paired: int, by_one: int) -> int:
    """How many events no program has seen.

    :param misses: runs that each program missed, since it was attached.
    :param paired: so many of the programs, the first ones, are two each that see the same.
    :param by_one: events that one of two has missed and the other has seen.
    """
    return max(sum(misses[:paired]) - by_one, 0) // 2 + sum(misses[paired:])


def _what_came_of(plan: Plan, attached: Attached) -> tuple[tuple[Choice, ...], frozenset[str]]:
    """The plan's choices and what they leave unknown, now that the kernel has had its say."""
    choices, unknown = plan.choices, plan.unknown
    if attached.refusals:
        reason = f"refused: {'; '.join([*attached.refusals, *plan.passes_left_out])}"
        probe, state = "", "missing"
        if attached.passes:
            probe, state = f"{attached.passes.how} {attached.passes.symbol}", "attached"
        else:
            unknown |= measures_of({"passes": reason})
        choices = tuple(
            replace(choice, probe=probe, state=state, reason=reason) if choice.need == "passes" else choice
            for choice in choices
        )
    if attached.failures:
        choices = tuple(
            replace(choice, state="missing", reason=f"attaching failed: {attached.failures[choice.need]}", remedy="")
            if choice.need in attached.failures
            else choice
            for choice in choices
        )
        unknown |= measures_of(attached.failures)
    return choices, unknown


def _map(table: Table) -> Array:
    """All entries of a mappable array."""
    return np.frombuffer(table.map(), np.dtype(table.layout), table.entries)


def _words(rows: Array, kind: type[np.unsignedinteger[Any]]) -> Array:
    """Rows as numbers of one width, ``(len(rows), words)``."""
    return rows.view(kind).reshape(len(rows), rows.itemsize // np.dtype(kind).itemsize)


def measures_of(needs: Mapping[str, str]) -> frozenset[str]:
    """The measures that are unknown without ``needs``."""
    return frozenset(measure for need in NEEDS if need.name in needs for measure in need.measures)
