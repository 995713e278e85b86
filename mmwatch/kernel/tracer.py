"""The driver: has the plan's probes attached, and reads the tables."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.abi import RECORD_KINDS, STATS
from mmwatch.kernel import syscall
from mmwatch.kernel.builder import Attached, Builder, Table
from mmwatch.kernel.builder_process import Options
from mmwatch.kernel.files import read_text
from mmwatch.kernel.plan import Choice, Plan, measures_of
from mmwatch.kernel.ring import Ring
from mmwatch.kernel.table import SHARED_ROWS, Look, RowTable

_PAIR_SEEN_ONCE = STATS.index("pair_seen_once")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reading:
    """What happened since the previous reading.

    :param rows: the rows that changed, see :class:`mmwatch.kernel.table.Changes`.
    :param time_ns: CLOCK_MONOTONIC when the rows were read.
    :param stats: growth of each counter of ``enum stat``, by name.
    :param missed_runs: program runs the kernel skipped; None: this kernel does not count them.
    :param rows_in_use: rows of the table that are in use.
    :param inside: rows with a reclaim under way, likewise.
    :param shrinkers: ``(used,)`` of ``struct shrinker_work``: the entries in which calls were counted. Counters hold
        their growth.
    :param pending_pages: pages scanned by batches that were under way: no row counts them yet.
    """

    rows: Array
    time_ns: int
    stats: Mapping[str, int]
    missed_runs: int | None
    rows_in_use: int
    inside: Array
    shrinkers: Array
    pending_pages: int = 0


class Tracer:
    """Programs attached and tables mapped, from construction to :meth:`close`.

    :param builder: a builder that is already compiling the same plan and options.
    :param runtime_of: as for :class:`mmwatch.kernel.table.RowTable`.
    :raises NoPermissionError: the kernel refuses BPF to this user.
    :raises UnavailableError: nothing can be attached. The message says why.
    """

    def __init__(
        self,
        plan: Plan,
        options: Options | None = None,
        builder: Builder | None = None,
        runtime_of: Callable[[int, int], int | None] = lambda tgid, tid: None,
    ) -> None:
        self.options = options or Options()
        self._runtime_of = runtime_of
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
        names = ("rows", "stats", "control", "shrinkers")
        rows, stats, control, self._shrinkers = (_map(tables[name]) for name in names)
        self._stats, self.control = stats[0]["count"], control[0]
        self._table = RowTable(rows, self.control, runtime_of=self._runtime_of)
        self._stats_before = np.zeros(len(self._stats), np.uint64)
        self._shrinkers_before = np.zeros_like(self._shrinkers)
        self._free_rows = tables["free_rows"].descriptor
        # The kernel side takes them in this order, so read() scans the table only as far as it has been used.
        syscall.push(self._free_rows, range(SHARED_ROWS, len(rows)))
        syscall.push(tables["free_slots"].descriptor, range(len(rows)))
        syscall.push(tables["free_shrinkers"].descriptor, range(1, len(self._shrinkers)))
        for tgid in self.options.wanted.tgids:
            syscall.update(tables["watched_tgids"].descriptor, ctypes.c_uint32(tgid), ctypes.c_uint8(1))

    # ---- reading ----

    def begin(self) -> None:
        """Begin a reading: :meth:`look` once or several times, then :meth:`take` one of the looks."""
        self._table.begin()

    def look(self) -> tuple[Look, Array, Array]:
        """Rows, statistics and shrinkers as they are now."""
        return self._table.look(), self._stats.copy(), self._shrinkers.copy()

    def take(self, look: tuple[Look, Array, Array]) -> Reading:
        """Changes since the last call, up to a look.

        Makes system calls only for threads that have ended or have a reclaim under way, and for ``missed_runs``.
        """
        rows, stats, shrinkers = look
        changes = self._table.take(rows)
        syscall.push(self._free_rows, changes.freed.tolist())
        return Reading(
            changes.rows,
            changes.time_ns,
            self._grown(stats),
            self._missed_runs(),
            changes.in_use,
            changes.inside,
            self._shrunk(shrinkers),
            rows.pending_pages,
        )

    def read(self) -> Reading:
        """A reading of one look."""
        self.begin()
        return self.take(self.look())

    def _grown(self, now: Array) -> dict[str, int]:
        grown = now - self._stats_before
        self._stats_before = now
        return {name: int(grown[position]) for position, name in enumerate(STATS)}

    def _shrunk(self, now: Array) -> Array:
        grown = now.copy()
        for name in ("calls", "objects", "shrinker_ns"):
            grown[name] -= self._shrinkers_before[name]
        self._shrinkers_before = now
        found: Array = grown[grown["calls"] > 0]
        return found

    _missed_before = 0
    _run_ns = _run_before_ns = 0

    def _missed_runs(self) -> int | None:
        """``recursion_misses`` of all programs since the last call (kernel: bpf_prog_show_fdinfo, 5.12)."""
        misses, run_ns = [], 0
        for program in self._attached.programs:
            text = read_text(Path(f"/proc/self/fdinfo/{program}")) or ""
            run_ns += int(text.partition("run_time_ns:")[2].split("\n", 1)[0] or 0)
            _, found, rest = text.partition("recursion_misses:")
            if not found:
                return None
            misses.append(int(rest.split("\n", 1)[0]))
        self._run_before_ns, self._run_ns = self._run_ns, run_ns
        total = missed_by_all(misses, self._attached.paired, int(self._stats[_PAIR_SEEN_ONCE]))
        missed = max(total - self._missed_before, 0)  # negative if the other program of a pair had not finished
        self._missed_before += missed
        return missed

    def bpf_ns(self) -> int | None:
        """Run time of all programs between the last two readings; None: the kernel does not count it."""
        counted = (read_text(Path("/proc/sys/kernel/bpf_stats_enabled")) or "").strip() == "1"  # 5.1
        return self._run_ns - self._run_before_ns if counted or self._run_ns > self._run_before_ns else None

    def drain(self, at_most: int = 1 << 20) -> Array:
        """Take the detail records that have arrived: ``(records,)`` of ``struct record``, oldest first on each CPU."""
        if self._ring is None:
            raise ValueError("no detail was asked for")
        return self._ring.drain(at_most)

    def lost_records(self) -> int:
        """Detail records dropped since the start because the ring buffer was full."""
        return sum(int(self._stats[STATS.index(f"lost_{kind}")]) for kind in RECORD_KINDS)

    def set_quota(self, records: int) -> None:
        """Set how many more detail records may be streamed. The rest count as suppressed."""
        self.control["quota"] = records

    def set_lru_gen(self, enabled: bool) -> None:
        """Set whether the multi-generational LRU is on, because ``pgscan`` then counts different pages."""
        self.control["lru_gen"] = int(enabled)

    def close(self) -> None:
        """Detach everything."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def missed_by_all(misses: Sequence[int], paired: int, seen_once: int) -> int:
    """How many events no program counted.

    :param misses: for each program, the runs that it missed since it was attached.
    :param paired: how many of the programs are in pairs; those come first.
    :param seen_once: events that one program of a pair missed and the other counted.
    """
    return max(sum(misses[:paired]) - seen_once, 0) // 2 + sum(misses[paired:])


def _what_came_of(plan: Plan, attached: Attached) -> tuple[tuple[Choice, ...], frozenset[str]]:
    """The plan's choices and the measures they leave unknown, corrected for probes that the kernel refused."""
    choices, unknown = plan.choices, plan.unknown
    for need, refusals in attached.refusals.items():
        reason = f"refused: {'; '.join([*refusals, *plan.left_out])}"
        probe = attached.probes.get(need)
        changed = {"probe": str(probe or ""), "state": "attached" if probe else "missing", "reason": reason}
        # Another need may rely on the same probe.
        first = next((str(ways[0]) for ways in plan.probes.values() if ways and ways[0].function.need == need), "-")
        served = {need, *(choice.need for choice in plan.choices if choice.probe == first)}
        choices = tuple(replace(choice, **changed) if choice.need in served else choice for choice in choices)
        if probe is None:
            unknown |= measures_of(served)
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
