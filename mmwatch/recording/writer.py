"""Writing a recording as it happens.

Why a write-ahead log (WAL) with ``synchronous=NORMAL``:

- A commit appends to the log and does not wait for the disk; a rollback journal waits two or three times. The host is
  short of memory and its disks are busy: each wait may take seconds, and the recorder would miss its interval.
- A commit survives SIGKILL, because the kernel has the data. A crash of the host may lose the latest intervals, but
  the checksums of the log and the order of writes at a checkpoint keep the file intact.
- Readers and the writer never block each other.

The price is two more files while the recording runs. Closing it folds them into one; after SIGKILL,
:class:`mmwatch.recording.Reader` handles what is left.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.abi import RECORD_KINDS, THROTTLE_HELP
from mmwatch.errors import MmwatchError
from mmwatch.model.interval import Interval, Process, Session
from mmwatch.model.measures import BY_NAME as MEASURE
from mmwatch.model.measures import MEASURES, PATHS, Fold
from mmwatch.model.records import Records
from mmwatch.model.rows import Rows
from mmwatch.recording.files import identity, where
from mmwatch.recording.inserting import Insert, insert_many, insert_one
from mmwatch.recording.new import NewFile, write_error
from mmwatch.recording.pack import Names, integers, plain, sparse, to_json
from mmwatch.recording.schema import PROCESS_TIMES, TABLES, VIEWS
from mmwatch.units import NS_PER_S, clean

RECORDS_PER_COMMIT = 65536
_REMEMBERED = 65536


@dataclass(frozen=True)
class Summary:
    """The size of a finished recording.

    :param records: single records by kind.
    :param bytes: on disk.
    """

    path: Path
    intervals: int
    rows: int
    records: Mapping[str, int]
    bytes: int


class Writer:
    """A recording being written; a context manager.

    :param path: of the new file, or the file if it was created before. Only its owner can read it, from the start: it
        contains names and command lines.
    :param force: replace an existing recording.
    :raises MmwatchError: as :class:`mmwatch.recording.new.NewFile`.
    """

    def __init__(self, path: Path | NewFile, session: Session, *, force: bool = False) -> None:
        new = path if isinstance(path, NewFile) else NewFile(path, force)
        self.path = new.path
        self._intervals = self._rows = self._processes = 0
        self._records = dict.fromkeys(RECORD_KINDS, 0)
        self._buffer: list[Records] = []
        self._buffered = 0
        self._names = Names()
        self._known_processes: dict[int, tuple[int, Process]] = {}
        self._known_cgroups: dict[int, str] = {}
        self._used: set[str] = set()
        self._failed = self._told_place = False
        self._summary: Summary | None = None
        self._insert_row = Insert("rows", session.unknown)
        self._insert_record = Insert("records", frozenset({"record"}))  # NULL: SQLite assigns the next number
        self._new, self._db, self._identity = new, new.connection, new.identity
        try:
            with self._transaction():
                self._begin(session)
        except BaseException:
            new.discard()  # it is useless and would block the next attempt
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def size_bytes(self) -> int:
        """Size on disk so far."""
        total = 0
        for name in (self.path, *(Path(f"{self.path}{end}") for end in ("-wal", "-journal"))):
            with contextlib.suppress(OSError):
                total += name.stat().st_size
        return total

    def write(self, interval: Interval, records: Records | None = None) -> None:
        """Add an interval and the records received in it: all or nothing.

        :raises MmwatchError: the disk is full, or another write error. What was written before stays readable.
        """
        number = self._intervals + 1
        self._check_place()
        with self._transaction():
            self._add_interval(number, interval)
            self._add_rows(number, interval.rows)
            insert_many(self._db, "nodes", [(number, *astuple(node)) for node in interval.nodes])
            self._add_cgroups(interval.cgroups)
            numbers = integers(np.array(list(interval.cgroup_memory), np.uint64))
            memory = [
                (*astuple(one)[:-2], to_json(dict(one.grown)), to_json(dict(one.levels)))
                for one in interval.cgroup_memory.values()
            ]
            insert_many(self._db, "cgroup_memory", [(number, n, *one) for n, one in zip(numbers, memory)])
            self._add_processes(number, interval.processes)
            counts = self._add_records([*self._buffer, *([] if records is None else [records])])
        self._new.begun()
        self._intervals = number
        self._rows += len(interval.rows)
        self._count(counts)

    def write_records(self, records: Records) -> None:
        """Add single records. They are buffered until there are many, or until the next interval.

        :raises MmwatchError: as :meth:`write`.
        """
        self._buffer.append(records.copy())  # they may be a view of the ring buffer
        self._buffered += len(records)
        if self._buffered >= RECORDS_PER_COMMIT:
            with self._transaction():
                counts = self._add_records(self._buffer)
            self._count(counts)

    def close(self) -> Summary:
        """End the recording: write what is left, mark it complete, fold it into one file. A second call does nothing.

        :raises MmwatchError: as :meth:`write`, unless that has raised it already. The file is closed in any case.
        """
        if self._summary is not None:
            return self._summary
        path = self._place()
        self._new.begun()
        try:
            if not self._failed:
                with self._transaction():
                    counts = self._add_records(self._buffer)
                    self._db.execute("UPDATE session SET end_s = ?", (time.time(),))
                self._count(counts)
            # This fails while another process reads the file, or on a full disk. The reader handles what is left.
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA busy_timeout = 1000")
                self._db.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._db.close()
            self._summary = Summary(self.path, self._intervals, self._rows, dict(self._records), self.size_bytes)
            if path is None:
                self._summary = Summary(self.path, 0, 0, dict.fromkeys(RECORD_KINDS, 0), 0)
            elif path != self.path:
                self._summary = replace(self._summary, path=path, bytes=path.stat().st_size)
        if path != self.path and not self._told_place:
            raise self._displaced(path)
        return self._summary

    def _place(self) -> Path | None:
        """Where the file is now; None if it was removed."""
        return self.path if identity(self.path) == self._identity else where(self._identity or (0, 0))

    def _check_place(self) -> None:
        """:raises MmwatchError: the file is no longer where it was created."""
        path = self._place()
        if path != self.path:
            self._failed = path is None
            self._told_place = True
            raise self._displaced(path)

    def _displaced(self, path: Path | None) -> MmwatchError:
        if path is None:
            return MmwatchError(
                f"{self.path} was removed or replaced while it was written, and what it held is lost",
                "record again, to a place that nobody cleans up",
            )
        return MmwatchError(f"{self.path} was moved to {path} while it was written", f"mmwatch report {path}")

    def discard(self) -> None:
        """End the recording and remove it; what it was to replace comes back, unless an interval was written."""
        self._new.discard()
        self._summary = Summary(self.path, 0, 0, dict.fromkeys(RECORD_KINDS, 0), 0)

    def _begin(self, session: Session) -> None:
        db = self._db
        for made in (*TABLES, *VIEWS):
            db.execute(made.sql)
        now_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
        insert_one(
            db,
            "session",
            start_s=session.start_s,
            start_monotonic_ns=monotonic_ns - (now_ns - int(session.start_s * NS_PER_S)),
            end_s=None,
            kernel=clean(session.kernel),
            hostname=clean(session.hostname),
            version=session.version,
            page_size=session.page_size,
            interval_s=session.interval_s,
            incomparable=session.incomparable,
            filter=to_json(dict(session.filter)),
            settings=to_json(dict(session.settings)),
            gfp_flags=to_json(dict(session.gfp_flags)),
            unknown=to_json(sorted(session.unknown)),
            topology=to_json({node: astuple(place) for node, place in session.topology.items()}),
            since_boot=to_json(dict(session.since_boot)),
            uptime_s=session.uptime_s,
        )
        insert_many(db, "probes", [tuple(map(clean, astuple(probe))) for probe in session.probes])
        insert_many(db, "paths", list(enumerate(PATHS)))
        insert_many(db, "throttle_reasons", [(n, name, text) for n, (name, text) in enumerate(THROTTLE_HELP.items())])
        insert_many(db, "measures", [(measure.name, measure.fold.value, measure.help, 0) for measure in MEASURES])
        insert_many(db, "kinds", [(number, name, 0) for number, name in enumerate(RECORD_KINDS)])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; includes the records waiting in the buffer."""
        with self._errors():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # Names remembered as written were rolled back.
                self._known_processes.clear()
                self._known_cgroups.clear()
                self._used.clear()
                with contextlib.suppress(sqlite3.Error):
                    if self._db.in_transaction:  # SQLite may have rolled back itself
                        self._db.execute("ROLLBACK")
                raise
        self._failed = False
        self._buffer.clear()
        self._buffered = 0

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._failed = True
            raise self._error(error) from error

    def _add_interval(self, number: int, interval: Interval) -> None:
        loss, cost = interval.loss, interval.cost
        insert_one(
            self._db,
            "intervals",
            interval=number,
            begin_s=interval.end_s - interval.duration_ns / NS_PER_S,
            end_s=interval.end_s,
            duration_ns=interval.duration_ns,
            edge_begin_pages=interval.edge_begin_pages,
            edge_end_pages=interval.edge_end_pages,
            edge_begin_scanned_pages=interval.edge_begin_scanned_pages,
            edge_end_scanned_pages=interval.edge_end_scanned_pages,
            rows=len(interval.rows),
            vmstat=to_json(dict(interval.vmstat)),
            pressure=to_json(dict(interval.pressure)),
            settings=to_json(dict(interval.settings)),
            memory=to_json(dict(interval.memory)),
            kernel_log=to_json(list(map(clean, interval.kernel_log))),
            kswapd=to_json(dict(interval.kswapd)),
            inside=to_json([asdict(one) for one in interval.inside]),
            shrinkers=to_json([asdict(one) for one in interval.shrinkers]),
            lost=to_json(dict(loss.lost)),
            suppressed=to_json(dict(loss.suppressed)),
            missed_runs=loss.missed_runs,
            unmatched_begin=loss.unmatched_begin,
            unmatched_end=loss.unmatched_end,
            under_way=loss.under_way,
            table_full=loss.table_full,
            **{f"cost_{field.name}": getattr(cost, field.name) for field in fields(cost)},
        )

    def _add_rows(self, number: int, rows: Rows) -> None:
        columns: dict[str, list[Any]] = {
            "interval": [number] * len(rows),
            "row": list(range(len(rows))),
            "comm": self._clean(rows["comm"]),
        }
        for measure in MEASURES:
            if measure.fold is Fold.HISTOGRAM and measure.name in self._insert_row.names:
                columns[measure.name] = sparse(rows[measure.name])
        self._db.executemany(*self._insert_row.fill(rows, columns))
        # Readers skip measures that are 0 everywhere, which are often half of the file.
        new = [name for name in MEASURE if name not in self._used and rows[name].any()]
        self._used.update(new)
        self._db.executemany("UPDATE measures SET used = 1 WHERE name = ?", [(name,) for name in new])

    def _add_records(self, parts: list[Records]) -> list[int]:
        """:returns: the number of records by kind."""
        counts = np.zeros(len(RECORD_KINDS), np.int64)
        for part in parts:
            for begin in range(0, len(part), RECORDS_PER_COMMIT):  # bounds the memory for the lists
                records = part[begin : begin + RECORDS_PER_COMMIT]
                self._db.executemany(*self._insert_record.fill(records, {"comm": self._clean(records["comm"])}))
                counts += np.bincount(records["kind"], minlength=len(RECORD_KINDS))[: len(RECORD_KINDS)]
        for kind, count in enumerate(counts.tolist()):
            if count:
                self._db.execute("UPDATE kinds SET records = records + ? WHERE kind = ?", (count, kind))
        return counts.tolist()  # type: ignore[no-any-return]

    def _count(self, counts: list[int]) -> None:
        for kind, count in zip(RECORD_KINDS, counts):
            self._records[kind] += count

    def _clean(self, names: npt.NDArray[Any]) -> list[str]:
        return [self._names[name] for name in names.tolist()]

    def _add_cgroups(self, cgroups: Mapping[int, str]) -> None:
        known = self._known_cgroups
        new = {number: path for number, path in cgroups.items() if path and known.get(number) != path}
        if len(known) > _REMEMBERED:
            known.clear()
        known.update(new)
        self._db.executemany(
            "INSERT OR REPLACE INTO cgroups (cgroup_id, path) VALUES (?, ?)",
            zip(integers(np.array(list(new), np.uint64)), map(clean, new.values())),
        )

    def _add_processes(self, number: int, processes: Mapping[int, Process]) -> None:
        """Add each process once, and its times in every interval.

        Remembers the processes of this interval, and earlier ones if there is room. A forgotten process gets another
        row, which does no harm.
        """
        before = self._known_processes
        now: dict[int, tuple[int, Process]] = {}
        new, times = [], []
        for tgid, process in processes.items():
            key, known = before.pop(tgid, (0, process))
            if not key or (process.comm, process.cmdline, process.ppid) != (known.comm, known.cmdline, known.ppid):
                self._processes += 1
                key = self._processes
                who = (process.ppid, clean(process.comm), clean(process.cmdline))
                new.append((key, tgid, *who))
            now[tgid] = (key, process)
            figures = [plain(getattr(process, name)) for name in PROCESS_TIMES]
            times.append((number, key, *figures, clean(process.mems_allowed), clean(process.mempolicy)))
        if len(before) + len(now) <= _REMEMBERED:
            now = {**before, **now}
        self._known_processes = now
        insert_many(self._db, "processes", new)
        insert_many(self._db, "process_times", times)

    def _error(self, error: sqlite3.Error) -> MmwatchError:
        kept = f"; its {self._intervals} intervals up to here can be read" if self._intervals else ""
        return write_error(self.path, error, kept)
