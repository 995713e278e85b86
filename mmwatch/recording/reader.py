"""Reads a recording, even if it was cut off, is still being written, or comes from another version of mmwatch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.abi import RECORD_KINDS
from mmwatch.model.course import Stretch
from mmwatch.model.interval import CgroupMemory, Interval, Node, Process, Session
from mmwatch.model.measures import BY_NAME as MEASURE
from mmwatch.model.records import RECORD_DTYPE
from mmwatch.model.rows import ROW_DTYPE, SUMS, Rows, cgroups_of
from mmwatch.recording import checks, values
from mmwatch.recording.blocks import joined
from mmwatch.recording.checks import Place, integer, maybe
from mmwatch.recording.opening import Database
from mmwatch.recording.schema import PROCESS_TIMES
from mmwatch.recording.timeline import ALL, Span, Timeline
from mmwatch.units import NS_PER_S

BATCH_ROWS = 4096
BATCH_INTERVALS = 512
RECORDS_PER_CHUNK = 8192
LOOKED_BACK = 200_000


class Reader:
    """A recording; a context manager.

    :raises UsageError: the path is a directory or a device.
    :raises NoPermissionError: the user may not read it.
    :raises MmwatchError: there is no such file, or it is not a recording, is damaged, or has a newer schema. All
        methods raise it if they find damage.
    """

    session: Session

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = Database(path)
        self._db, self._damage = self._file.connection, self._file.damage
        try:
            with self._damage():
                self._columns = self._file.columns
                named = self._db.execute("SELECT path, name FROM paths WHERE path BETWEEN 0 AND 255")
                self._arrays = values.Arrays(dict(named.fetchall()))
                self.session = self._read_session()
                self._fetched = self._row_columns()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def ended_cleanly(self) -> bool:
        """Whether the recording was closed properly; False while it is being written."""
        return self._session_value("end_s") is not None

    @property
    def cut_off(self) -> str:
        """A message for the user if the recording was not closed properly, else empty."""
        if self.ended_cleanly:
            return ""
        return (
            f"{self.path}: the recording was cut off, or is still being written; "
            f"showing its {self.interval_count} complete intervals"
        )

    @property
    def start_monotonic_ns(self) -> int | None:
        """CLOCK_MONOTONIC at ``session.start_s``, to convert ``time_ns`` of the records; None if unknown."""
        with self._damage():
            value = self._session_value("start_monotonic_ns")
            found: int | None = maybe(integer, Place("session", "start_monotonic_ns"), value)
            return found

    @property
    def interval_count(self) -> int:
        with self._damage():
            return int(self._db.execute("SELECT count(*) FROM intervals").fetchone()[0])

    def record_counts(self) -> dict[str, int]:
        """Number of single records by kind."""
        with self._damage():
            counts = {
                name: integer(Place("kinds", "records", kind), count)
                for kind, name, count in self._db.execute("SELECT kind, name, records FROM kinds")
            }
        return {kind: counts.get(kind, 0) for kind in RECORD_KINDS}

    def timeline(self, span: Span = ALL) -> Timeline:
        """When the intervals of a span were."""
        query = "SELECT interval, end_s, duration_ns FROM intervals WHERE interval BETWEEN ? AND ? ORDER BY interval"
        with self._damage():
            found = self._db.execute(query, span).fetchall()
            numbers, ends_s, durations_ns = zip(*found) if found else ((), (), ())
            return Timeline(
                checks.integers("intervals", "interval", numbers, numbers),
                checks.times_s("intervals", "end_s", ends_s, numbers),
                checks.integers("intervals", "duration_ns", durations_ns, numbers),
            )

    def intervals(
        self, span: Span = ALL, *, names: bool = True, only: Collection[str] | None = None
    ) -> Iterator[Interval]:
        """The intervals in order, read as they are consumed.

        :param names: with processes and paths of cgroups.
        :param only: fields of the rows to fill in, which saves most of the time; all by default.
        """
        with self._damage():
            for batch in self._batches(span):
                yield from self._load(batch, names, only)

    def blocks(self, span: Span = ALL) -> Iterator[Interval]:
        """The intervals of a span, many at a time as one, with their rows side by side and without names.

        Faster than :meth:`intervals` by an order of magnitude where only the sum matters.
        """
        with self._damage():
            one_node = self._db.execute("SELECT min(node) = max(node) FROM nodes").fetchone()[0] == 1
            for batch in self._batches(span):
                rows, numbers = self._rows(batch, None)
                yield joined(batch, rows, numbers, self._nodes(batch[-1:] if one_node else batch))

    def latest_reclaims(self, tgid: int, time_ns: int, count: int) -> npt.NDArray[np.void]:
        """The last ``count`` single reclaims of a process up to a time (CLOCK_MONOTONIC), oldest first.

        Searches back through at most :data:`LOOKED_BACK` records of all processes.
        """
        names = [name for name in RECORD_DTYPE.names or () if name in self._columns["records"]]
        select = f"SELECT record, {values.select(names)} FROM records WHERE record > ? AND record <= ? "
        select += "AND kind = 0 AND tgid = ? AND time_ns <= ? ORDER BY record DESC LIMIT ?"
        with self._damage():
            # Records are in order of time, except that records of different CPUs close in time may be swapped.
            low, high = 0, self._last_record()
            while high - low > LOOKED_BACK // 2:
                middle = (low + high) // 2
                at = self._db.execute("SELECT time_ns FROM records WHERE record = ?", (middle,)).fetchone()
                before = at is not None and integer(Place("records", "time_ns", middle), at[0]) <= time_ns
                low, high = (middle, high) if before else (low, middle)
            span = (max(0, low - LOOKED_BACK // 2), high)
            found = self._db.execute(select, (*span, tgid, time_ns, count)).fetchall()
            return self._arrays.array("records", RECORD_DTYPE, names, found[::-1])

    def records(self, kind: str | None = None, chunk: int = RECORDS_PER_CHUNK) -> Iterator[npt.NDArray[np.void]]:
        """Single records in the order they arrived, as arrays of :data:`mmwatch.model.records.RECORD_DTYPE`.

        :param kind: one of :data:`mmwatch.abi.RECORD_KINDS`; all by default.
        :raises ValueError: no such kind.
        """
        only = f"AND kind = {RECORD_KINDS.index(kind)}" if kind is not None else ""
        fields_ = [name for name in RECORD_DTYPE.names or () if name in self._columns["records"]]
        select = f"SELECT record, {values.select(fields_)} FROM records WHERE record > ? AND record <= ? {only}"
        select += f" ORDER BY record LIMIT {chunk}"
        with self._damage():
            # Ignore records that arrive from now on. Reading in chunks does not block a writer.
            last = self._last_record()
            done = 0
            while found := self._db.execute(select, (done, last)).fetchall():
                done = found[-1][0]
                yield self._arrays.array("records", RECORD_DTYPE, fields_, found)

    def _last_record(self) -> int:
        return integer(
            Place("records", "record"), self._db.execute("SELECT max(record) FROM records").fetchone()[0] or 0
        )

    def cgroup_paths(self, numbers: Collection[int]) -> dict[int, str]:
        """The known paths of these cgroups."""
        found: dict[int, str] = {}
        wanted = [int(np.uint64(number).view(np.int64)) for number in numbers if number]
        with self._damage():
            for begin in range(0, len(wanted), 500):  # SQLite takes 999 variables
                part = wanted[begin : begin + 500]
                query = f"SELECT cgroup_id, path FROM cgroups WHERE cgroup_id IN ({', '.join('?' * len(part))})"
                for number, path in self._db.execute(query, part):
                    found[int(np.int64(number).view(np.uint64))] = checks.text(Place("cgroups", "path", number), path)
        return found

    def process_totals(self, tgids: Collection[int], span: Span = ALL) -> dict[int, Process]:
        """These processes with their times summed by SQL, as :func:`mmwatch.model.merge.merge` sums them."""
        within = "interval BETWEEN ? AND ?"
        sums = (
            f"SELECT tgid, {self._times('sum({})', 'max({})')} "
            f"FROM process_times JOIN processes USING (process) WHERE {within} GROUP BY tgid"
        )
        who = (
            "SELECT process, tgid, comm, cmdline, ppid FROM processes WHERE process IN "
            f"(SELECT process FROM process_times WHERE {within}) ORDER BY process"
        )
        found: dict[int, Process] = {}
        with self._damage():
            times = {row[0]: row[1:] for row in self._db.execute(sums, span) if row[0] in tgids}
            for row in self._db.execute(who, span):
                if row[1] in times:
                    process = values.process(*row, *times[row[1]])
                    before = found.get(process.tgid)
                    if before and not process.cmdline:
                        process = replace(process, cmdline=before.cmdline)
                    found[process.tgid] = process
        return found

    def cgroup_memory(self, span: Span = ALL) -> dict[int, CgroupMemory]:
        """The latest known limits and usage of each cgroup."""
        return {
            number: memory for one in self._cgroup_memory(span, latest=True).values() for number, memory in one.items()
        }

    def stretches(self, span: Span = ALL) -> list[Stretch]:
        """One stretch per interval."""
        parts = SUMS["reclaimed_pages"]
        known = not self.session.unknown.intersection(parts)
        reclaimed = f"total({parts[0]} + {parts[1]})" if known else "NULL"
        query = (
            f"SELECT interval, end_s, duration_ns, {reclaimed}, total(stall_ns) "
            "FROM intervals LEFT JOIN rows USING (interval) WHERE interval BETWEEN ? AND ? "
            "GROUP BY interval ORDER BY interval"
        )
        with self._damage():
            found = self._db.execute(query, span).fetchall()
            numbers, ends_s, durations_ns, pages, stalls_ns = zip(*found) if found else ((),) * 5
            lengths_s = checks.integers("intervals", "duration_ns", durations_ns, numbers) / NS_PER_S
            begins_s = checks.times_s("intervals", "end_s", ends_s, numbers) - lengths_s
            return [
                Stretch(
                    begin_s, length_s, checks.total(number, some) if known else None, checks.total(number, stall_ns)
                )
                for number, begin_s, length_s, some, stall_ns in zip(
                    numbers, begins_s.tolist(), lengths_s.tolist(), pages, stalls_ns
                )
            ]

    # ---- reading tables ----

    def _session_value(self, name: str) -> Any:
        with self._damage():
            if name not in self._columns["session"]:
                return None
            return self._db.execute(f'SELECT "{name}" FROM session').fetchone()[0]

    def _read_session(self) -> Session:
        found = next(self._dicts(f"SELECT {self._all('session')} FROM session LIMIT 1"), None)
        if found is None:
            raise checks.Damage("table session has no row")
        missing = {name for name in (*MEASURE, "target_id") if name not in self._columns["rows"]}
        probes = self._db.execute("SELECT rowid, need, probe, state, reason FROM probes").fetchall()
        return values.session(found, missing, probes)

    def _row_columns(self) -> list[str]:
        """The known columns of table rows that hold any value."""
        unused = {name for (name,) in self._db.execute("SELECT name FROM measures WHERE used = 0")}
        left_out = self.session.unknown | unused
        return [name for name in ROW_DTYPE.names or () if name in self._columns["rows"] and name not in left_out]

    def _all(self, table: str) -> str:
        return ", ".join(f'"{name}"' for name in self._columns[table])

    def _dicts(self, query: str, *bound: Any) -> Iterator[dict[str, Any]]:
        cursor = self._db.execute(query, bound)
        names = [column[0] for column in cursor.description]
        return (dict(zip(names, row)) for row in cursor.fetchall())

    def _batches(self, span: Span) -> Iterator[list[dict[str, Any]]]:
        """Intervals in batches of some thousand rows: one query for many small intervals.

        Those that are written in the meantime are not waited for.
        """
        (newest,) = self._db.execute("SELECT max(interval) FROM intervals").fetchone()
        if newest is None:
            return
        first, last = span[0], min(span[1], integer(Place("intervals", "interval"), newest))
        while found := list(
            self._dicts(
                f"SELECT {self._all('intervals')} FROM intervals "
                f"WHERE interval BETWEEN ? AND ? ORDER BY interval LIMIT {BATCH_INTERVALS}",
                first,
                last,
            )
        ):
            at = [row["interval"] for row in found]
            numbers = checks.integers("intervals", "interval", at, at)
            if (np.diff(numbers) <= 0).any():
                raise checks.Damage("table intervals has a number twice")
            counts = checks.integers("intervals", "rows", [row["rows"] for row in found], at)
            many = max(1, int(np.searchsorted(np.cumsum(counts), BATCH_ROWS, "right")))
            first = int(numbers[many - 1]) + 1
            yield found[:many]

    def _load(self, batch: list[dict[str, Any]], names: bool, only: Collection[str] | None) -> Iterator[Interval]:
        span = batch[0]["interval"], batch[-1]["interval"]
        rows, numbers = self._rows(batch, only)
        nodes = self._nodes(batch)
        processes = self._processes(*span) if names else {}
        memory = self._cgroup_memory(span) if names else {}
        limited = {group for one in memory.values() for group in one}
        paths = self.cgroup_paths({*cgroups_of(rows), *limited}) if names else {}
        for found in batch:
            number = found["interval"]
            begin, end = np.searchsorted(numbers, [number, number + 1])
            own = rows[begin:end]
            yield values.interval(
                found,
                rows=own,
                nodes=tuple(nodes.get(number, ())),
                cgroups={
                    group: paths[group]
                    for group in dict.fromkeys((*cgroups_of(own), *memory.get(number, ())))
                    if group in paths
                }
                if names
                else {},
                cgroup_memory=memory.get(number, {}),
                processes=processes.get(number, {}),
            )

    def _rows(self, batch: list[dict[str, Any]], only: Collection[str] | None) -> tuple[Rows, npt.NDArray[np.int64]]:
        """Rows of these intervals, and the interval of each, ascending. Shapes ``(rows,)``."""
        names = [name for name in self._fetched if only is None or name in only]
        columns = values.select(["interval", *names])
        query = f"SELECT {columns} FROM rows WHERE interval BETWEEN ? AND ? ORDER BY interval, row"
        expected = sum(found["rows"] for found in batch)
        # No more than the intervals say they have: it bounds the memory.
        found = self._db.execute(query, (batch[0]["interval"], batch[-1]["interval"])).fetchmany(expected + 1)
        numbers = np.array([row[0] for row in found], np.int64)
        for interval in batch:
            begin, end = np.searchsorted(numbers, [interval["interval"], interval["interval"] + 1])
            if end - begin != interval["rows"]:
                Place("intervals", "rows", interval["interval"]).damaged("table rows has another number of them")
        return self._arrays.array("rows", ROW_DTYPE, names, found), numbers

    def _nodes(self, batch: list[dict[str, Any]]) -> dict[int, list[Node]]:
        """The nodes of these intervals, by interval."""
        known = self._columns["nodes"]
        names = ", ".join(f'"{field.name}"' if field.name in known else "NULL" for field in fields(Node))
        query = f"SELECT interval, {names} FROM nodes WHERE interval BETWEEN ? AND ? ORDER BY interval, node"
        return values.nodes(self._db.execute(query, (batch[0]["interval"], batch[-1]["interval"])).fetchall())

    def _cgroup_memory(self, span: Span, latest: bool = False) -> dict[int, dict[int, CgroupMemory]]:
        """By interval and cgroup.

        :param latest: only the newest row of each cgroup, without the growth in that interval; SQLite takes the other
            columns from the row of the maximum.
        """
        found: dict[int, dict[int, CgroupMemory]] = {}
        known = self._columns["cgroup_memory"]
        if "usage_bytes" not in known:  # before schema 2
            return found
        left_out = {"grown"} if latest else set()
        names = ", ".join(
            field.name if field.name in known and field.name not in left_out else "NULL"
            for field in fields(CgroupMemory)
        )
        query = f"SELECT {'max(interval)' if latest else 'interval'}, cgroup_id, {names} FROM cgroup_memory "
        query += "WHERE interval BETWEEN ? AND ? " + (
            "GROUP BY cgroup_id" if latest else "ORDER BY interval, cgroup_id"
        )
        with self._damage():
            for row in self._db.execute(query, span):
                number, memory = values.cgroup_memory(*row)
                found.setdefault(row[0], {})[number] = memory
        return found

    def _processes(self, first: int, last: int) -> dict[int, dict[int, Process]]:
        found: dict[int, dict[int, Process]] = {}
        query = (
            f"SELECT interval, process, tgid, comm, cmdline, ppid, {self._times()} "
            "FROM process_times JOIN processes USING (process) WHERE interval BETWEEN ? AND ?"
        )
        for number, *row in self._db.execute(query, (first, last)):
            process = values.process(*row)
            found.setdefault(number, {})[process.tgid] = process
        return found

    def _times(self, figure: str = "{}", text: str = "{}") -> str:
        """The columns that :func:`values.process` takes from table process_times."""
        known = self._columns["process_times"]
        shown = [(name, figure) for name in PROCESS_TIMES] + [(name, text) for name in ("mems_allowed", "mempolicy")]
        return ", ".join(form.format(f'"{name}"') if name in known else "NULL" for name, form in shown)
