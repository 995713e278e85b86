"""Reading a recording, also one that was cut off, is still being written, or was written by another mmwatch."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.errors import MmwatchError, NoPermissionError, UsageError
from mmwatch.model.interval import ROW_DTYPE, Cost, Interval, Loss, Node, Probe, Process, Rows, Session, Stretch
from mmwatch.model.measures import BY_NAME as MEASURE
from mmwatch.model.measures import PATHS, Fold
from mmwatch.model.snapshot import SUMS
from mmwatch.recording.pack import RawNames, dense, text
from mmwatch.recording.schema import APPLICATION_ID, KINDS, NULL_FOR, RECORD_DTYPE, TABLES, VERSION
from mmwatch.units import clean

BATCH_ROWS = 4096
BATCH_INTERVALS = 512
RECORDS_PER_CHUNK = 8192
LOOKED_BACK = 200_000

_LOGS = ("-wal", "-journal")
_MAGIC = b"SQLite format 3\0"
_BUSY_S = 30
_NOT_THE_FILE = ("unable to open", "I/O", "locked", "full", "readonly", "out of memory")
"""In SQLite's words for what is not the recording's fault."""
_COPY_AGAIN = "copy it again from where it was recorded, with the -wal file beside it if there is one"


class Reader:
    """A recording; a context manager.

    :raises UsageError: the path is a directory or a device.
    :raises NoPermissionError: it may not be read.
    :raises MmwatchError: there is none, it is no recording, it is damaged, or of a newer schema. All methods
        raise it when they meet damage.
    """

    session: Session

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names = RawNames()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        _check_file(path)
        with self._damage():
            self._db = self._open()
        try:
            self._check_schema()
            with self._damage():
                self._columns = {
                    table.name: [row[1] for row in self._db.execute(f'PRAGMA table_info("{table.name}")')]
                    for table in TABLES
                }
                self._paths = self._read_paths()
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
        self._db.close()
        if self._copy is not None:
            self._copy.cleanup()

    @property
    def ended_cleanly(self) -> bool:
        """Whether the recorder came to its end; not while it runs."""
        return self._session_value("end_s") is not None

    @property
    def cut_off(self) -> str:
        """What to tell the user when it did not end cleanly, else empty."""
        if self.ended_cleanly:
            return ""
        return (
            f"{self.path}: the recording was cut off, or is still being written; its "
            f"{self.interval_count} complete intervals are here"
        )

    @property
    def start_monotonic_ns(self) -> int | None:
        """CLOCK_MONOTONIC at ``session.start_s``: places ``time_ns`` of the records. None if not known."""
        value = self._session_value("start_monotonic_ns")
        return None if value is None else int(value)

    @property
    def interval_count(self) -> int:
        with self._damage():
            return int(self._db.execute("SELECT count(*) FROM intervals").fetchone()[0])

    def record_counts(self) -> dict[str, int]:
        """Single records by kind."""
        with self._damage():
            counts = {name: int(count) for name, count in self._db.execute("SELECT name, records FROM kinds")}
        return {kind: counts.get(kind, 0) for kind in KINDS}

    def intervals(
        self, begin_s: float | None = None, end_s: float | None = None, *, names: bool = True
    ) -> Iterator[Interval]:
        """The intervals in their order, read as they are asked for.

        :param begin_s: Unix time; from the one in which this lies.
        :param end_s: Unix time; up to the one in which this lies.
        :param names: with processes and paths of control groups.
        """
        with self._damage():
            span = self._range(begin_s, end_s)
        yield from self.between(*span, names=names)

    def timeline(
        self, begin_s: float | None = None, end_s: float | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Of all intervals in this time, as :meth:`intervals` takes it: number, ``end_s`` and ``duration_ns``."""
        query = "SELECT interval, end_s, duration_ns FROM intervals WHERE interval BETWEEN ? AND ? ORDER BY interval"
        with self._damage():
            found = self._db.execute(query, self._range(begin_s, end_s)).fetchall()
            numbers, ends_s, durations_ns = zip(*found) if found else ((), (), ())
            return np.array(numbers, np.int64), np.array(ends_s, np.float64), np.array(durations_ns, np.int64)

    def stall_ns(self, first: int, last: int) -> npt.NDArray[np.float64]:
        """Time in reclaim of all tasks in each interval from one number to another. ``(intervals,)``."""
        query = (
            "SELECT total(stall_ns) FROM intervals LEFT JOIN rows USING (interval) WHERE interval BETWEEN ? AND ? "
            "GROUP BY interval ORDER BY interval"
        )
        with self._damage():
            return np.array([ns for (ns,) in self._db.execute(query, (first, last))], np.float64)

    def between(
        self, first: int, last: int, *, names: bool = True, only: Collection[str] | None = None
    ) -> Iterator[Interval]:
        """The intervals from one number to another, both included, read as they are asked for.

        :param names: as for :meth:`intervals`.
        :param only: of the rows, these fields are filled in, which saves most of the time; all by default.
        """
        with self._damage():
            for batch in self._batches(first, last):
                yield from self._load(batch, names, only)

    def latest_reclaims(self, tgid: int, time_ns: int, count: int) -> npt.NDArray[np.void]:
        """The last ``count`` single reclaims of a process up to a time (CLOCK_MONOTONIC), in their order.

        None is looked for further back than :data:`LOOKED_BACK` records of all processes.
        """
        names = [name for name in RECORD_DTYPE.names or () if name in self._columns["records"]]
        select = f"SELECT record, {_select(names)} FROM records WHERE record > ? AND record <= ? "
        select += "AND kind = 0 AND tgid = ? AND time_ns <= ? ORDER BY record DESC LIMIT ?"
        with self._damage():
            # They come in the order of time but for a few beside each other, from different CPUs.
            low, high = 0, self._db.execute("SELECT max(record) FROM records").fetchone()[0] or 0
            while high - low > LOOKED_BACK // 2:
                middle = (low + high) // 2
                at = self._db.execute("SELECT time_ns FROM records WHERE record = ?", (middle,)).fetchone()
                low, high = (middle, high) if at is not None and at[0] <= time_ns else (low, middle)
            span = (max(0, low - LOOKED_BACK // 2), high)
            found = self._db.execute(select, (*span, tgid, time_ns, count)).fetchall()
            return self._array(RECORD_DTYPE, ["record", *names], found[::-1])

    def records(self, kind: str | None = None, chunk: int = RECORDS_PER_CHUNK) -> Iterator[npt.NDArray[np.void]]:
        """Single records as they came, arrays of :data:`mmwatch.recording.schema.RECORD_DTYPE`.

        :param kind: one of :data:`mmwatch.recording.KINDS`; all by default.
        :raises ValueError: no such kind.
        """
        only = f"AND kind = {KINDS.index(kind)}" if kind is not None else ""
        fields_ = [name for name in RECORD_DTYPE.names or () if name in self._columns["records"]]
        select = f"SELECT record, {_select(fields_)} FROM records WHERE record > ? AND record <= ? {only}"
        select += f" ORDER BY record LIMIT {chunk}"
        with self._damage():
            # What comes in while we read is not waited for, and no chunk holds up a writer.
            last = self._db.execute("SELECT max(record) FROM records").fetchone()[0] or 0
            done = 0
            while found := self._db.execute(select, (done, last)).fetchall():
                done = found[-1][0]
                yield self._array(RECORD_DTYPE, ["record", *fields_], found)

    def cgroup_paths(self, numbers: Collection[int]) -> dict[int, str]:
        """The paths that are known of these control groups."""
        found: dict[int, str] = {}
        wanted = [int(np.uint64(number).view(np.int64)) for number in numbers if number]
        with self._damage():
            for begin in range(0, len(wanted), 500):  # SQLite takes 999 variables
                part = wanted[begin : begin + 500]
                query = f"SELECT cgroup_id, path FROM cgroups WHERE cgroup_id IN ({', '.join('?' * len(part))})"
                for number, path in self._db.execute(query, part):
                    found[int(np.int64(number).view(np.uint64))] = text(path)
        return found

    def process_totals(
        self, tgids: Collection[int], begin_s: float | None = None, end_s: float | None = None
    ) -> dict[int, Process]:
        """These processes with their times summed up, as :func:`mmwatch.model.snapshot.merge` does it, by SQL."""
        first, last = self._range(begin_s, end_s)
        span = "interval BETWEEN ? AND ?"
        sums = (
            "SELECT tgid, sum(system_time_us), sum(freepages_delay_ns) "
            f"FROM process_times JOIN processes USING (process) WHERE {span} GROUP BY tgid"
        )
        who = (
            "SELECT tgid, ppid, comm, cmdline FROM processes WHERE process IN "
            f"(SELECT process FROM process_times WHERE {span}) ORDER BY process"
        )
        found: dict[int, Process] = {}
        with self._damage():
            times = {row[0]: row[1:] for row in self._db.execute(sums, (first, last)) if row[0] in tgids}
            for tgid, ppid, comm, cmdline in self._db.execute(who, (first, last)):
                if tgid in times:
                    before = found.get(tgid)
                    cmdline = text(cmdline) or (before.cmdline if before else "")
                    found[tgid] = Process(tgid, text(comm), cmdline, ppid, *times[tgid])
        return found

    def course(self, parts: int = 60) -> list[Stretch]:
        """The recording over time, in at most so many stretches of equally many intervals, from first to last."""
        taken = SUMS["reclaimed_pages"]
        known = not self.session.unknown.intersection(taken)
        query = (
            f"SELECT end_s, duration_ns, {f'total({taken[0]} + {taken[1]})' if known else 'NULL'}, total(stall_ns) "
            "FROM intervals LEFT JOIN rows USING (interval) GROUP BY interval ORDER BY interval"
        )
        with self._damage():
            found = self._db.execute(query).fetchall()
            each = max(-(-len(found) // parts), 1)
            return [
                Stretch(
                    begin_s=some[0][0] - some[0][1] / 1e9,
                    duration_s=sum(duration_ns for _, duration_ns, _, _ in some) / 1e9,
                    reclaimed_pages=sum(int(pages) for _, _, pages, _ in some) if known else None,
                    stall_ns=sum(int(ns) for _, _, _, ns in some),
                )
                for some in (found[begin : begin + each] for begin in range(0, len(found), each))
            ]

    # ---- opening ----

    def _open(self) -> sqlite3.Connection:
        """Without changing the file. A log of a recorder that was killed is read where it lies, where SQLite can keep
        its index beside it; else file and log are copied to where it can."""
        if not any(os.path.exists(f"{self.path}{end}") for end in _LOGS):
            # Nobody writes: then SQLite needs neither locks nor a directory it may write to.
            db = _connect(self.path, "mode=ro&immutable=1")
            pages, page_bytes = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
            if self.path.stat().st_size < max(pages * page_bytes, 512):  # it takes part of a page for a whole one
                db.close()
                raise sqlite3.DatabaseError("truncated")
            return db
        try:
            return _connect(self.path, "mode=ro")
        except sqlite3.OperationalError:
            return _connect(self._copied(), "mode=rw")

    def _copied(self) -> Path:
        try:
            self._copy = tempfile.TemporaryDirectory(prefix="mmwatch-")
            copy = Path(self._copy.name) / "recording.mmw"
            for end in ("", *_LOGS):
                if os.path.exists(f"{self.path}{end}"):
                    shutil.copyfile(f"{self.path}{end}", f"{copy}{end}")
        except OSError as error:
            raise MmwatchError(
                f"cannot copy {self.path} to {tempfile.gettempdir()} to complete it from its log: {error.strerror}",
                "set TMPDIR to a directory with room for it",
            ) from error
        return copy

    def _check_schema(self) -> None:
        with self._damage():
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise MmwatchError(f"{self.path} is a SQLite file, but no recording of mmwatch", _NAME_ONE)
        if version > VERSION:
            by = ""
            with contextlib.suppress(sqlite3.Error, TypeError):
                by = f" by mmwatch {clean(str(self._db.execute('SELECT version FROM session').fetchone()[0]))}"
            raise MmwatchError(
                f"{self.path} was recorded{by} with schema {version}; this mmwatch reads schemas up to {VERSION}",
                "update mmwatch, or report where it was recorded",
            )

    def _unreadable(self, error: Exception) -> MmwatchError:
        """What is the matter with a file that SQLite gives up on."""
        try:
            with self.path.open("rb") as file:
                header = file.read(100)
                size = os.fstat(file.fileno()).st_size
        except OSError as problem:
            return MmwatchError(f"cannot read {self.path}: {problem.strerror}")
        if header[:16] != _MAGIC[: len(header)]:
            return MmwatchError(f"{self.path} is no recording of mmwatch", _NAME_ONE)
        page_bytes = int.from_bytes(header[16:18], "big")
        whole = (65536 if page_bytes == 1 else page_bytes) * int.from_bytes(header[28:32], "big")
        if len(header) < 100 or size < whole:
            of = f" of {whole}" if len(header) == 100 else ""
            return MmwatchError(f"{self.path} is truncated: {size}{of} bytes are there", _COPY_AGAIN)
        if any(words in str(error) for words in _NOT_THE_FILE):
            return MmwatchError(f"cannot read {self.path}: {error}", "try again, or copy it to another file system")
        return MmwatchError(f"{self.path} is damaged: {error}", _COPY_AGAIN)

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        """The file may be anybody's, and broken in any way: wrong types and values are damage, not bugs."""
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, KeyError, OverflowError) as error:
            raise self._unreadable(error) from error

    # ---- what is in it ----

    def _session_value(self, name: str) -> Any:
        with self._damage():
            if name not in self._columns["session"]:
                return None
            return self._db.execute(f'SELECT "{name}" FROM session').fetchone()[0]

    def _read_session(self) -> Session:
        (found,) = self._dicts("SELECT * FROM session LIMIT 1")
        missing = {name for name in MEASURE if name not in self._columns["rows"]}
        return Session(
            start_s=float(found["start_s"]),
            **{name: text(found[name]) for name in ("kernel", "hostname", "version", "incomparable") if name in found},
            page_size=int(found.get("page_size", 4096)),
            interval_s=float(found.get("interval_s", 1.0)),
            filter=_from_json(found.get("filter")),
            unknown=frozenset(map(text, json.loads(found.get("unknown", "[]")))) | missing,
            settings=_from_json(found.get("settings")),
            gfp_flags={clean(name): int(bits) for name, bits in _from_json(found.get("gfp_flags")).items()},
            probes=tuple(
                Probe(*map(text, row)) for row in self._db.execute("SELECT need, probe, state, reason FROM probes")
            ),
        )

    def _row_columns(self) -> list[str]:
        """Those of table rows that have something in them we know."""
        unused = {name for (name,) in self._db.execute("SELECT name FROM measures WHERE used = 0")}
        left_out = self.session.unknown | unused
        return [name for name in ROW_DTYPE.names or () if name in self._columns["rows"] and name not in left_out]

    def _read_paths(self) -> npt.NDArray[np.uint32]:
        """The file's number of a path to ours; what we have no word for is other."""
        named = dict(self._db.execute("SELECT path, name FROM paths WHERE path BETWEEN 0 AND 255").fetchall())
        return np.array([PATHS.index(named[n]) if named.get(n) in PATHS else 0 for n in range(256)], np.uint32)

    def _dicts(self, query: str, *values: Any) -> Iterator[dict[str, Any]]:
        cursor = self._db.execute(query, values)
        names = [column[0] for column in cursor.description]
        return (dict(zip(names, row)) for row in cursor.fetchall())

    def _range(self, begin_s: float | None, end_s: float | None) -> tuple[int, int]:
        """First and last interval; ``(1, 0)`` for none."""
        query = "SELECT min(interval), max(interval) FROM intervals"
        query += " WHERE end_s > ? AND end_s - duration_ns / 1e9 < ?"
        infinity = float("inf")
        values = (-infinity if begin_s is None else begin_s, infinity if end_s is None else end_s)
        first, last = self._db.execute(query, values).fetchone()
        return (1, 0) if first is None else (int(first), int(last))

    def _batches(self, first: int, last: int) -> Iterator[list[dict[str, Any]]]:
        """Intervals, as many at a time as have a handful of rows: one query for many small ones."""
        while found := list(
            self._dicts(
                f"SELECT * FROM intervals WHERE interval BETWEEN ? AND ? ORDER BY interval LIMIT {BATCH_INTERVALS}",
                first,
                last,
            )
        ):
            rows, many = 0, 0
            while many < len(found) and (not many or rows + found[many]["rows"] <= BATCH_ROWS):
                rows += found[many]["rows"]
                many += 1
            first = found[many - 1]["interval"] + 1
            yield found[:many]

    def _load(self, batch: list[dict[str, Any]], names: bool, only: Collection[str] | None) -> Iterator[Interval]:
        span = batch[0]["interval"], batch[-1]["interval"]
        rows, numbers = self._rows(*span, only)
        nodes: dict[int, list[Node]] = {}
        known = [field.name for field in fields(Node) if field.name in self._columns["nodes"]]
        select = (
            f"SELECT interval, {', '.join(known)} FROM nodes WHERE interval BETWEEN ? AND ? ORDER BY interval, node"
        )
        for number, *values in self._db.execute(select, span):
            nodes.setdefault(number, []).append(Node(**dict(zip(known, values))))
        processes = self._processes(*span) if names else {}
        paths = self.cgroup_paths(np.unique(rows["cgroup_id"]).tolist()) if names else {}
        for found in batch:
            number = found["interval"]
            begin, end = np.searchsorted(numbers, [number, number + 1])
            own = rows[begin:end]
            yield _interval(
                found,
                rows=own,
                nodes=tuple(nodes.get(number, ())),
                cgroups={cgroup: paths[cgroup] for cgroup in np.unique(own["cgroup_id"]).tolist() if cgroup in paths}
                if names
                else {},
                processes=processes.get(number, {}),
            )

    def _rows(self, first: int, last: int, only: Collection[str] | None) -> tuple[Rows, npt.NDArray[np.int64]]:
        """Rows of these intervals, and of each its interval, growing. Shapes ``(rows,)``."""
        names = [name for name in self._fetched if only is None or name in only]
        columns = _select(["interval", *names])
        query = f"SELECT {columns} FROM rows WHERE interval BETWEEN ? AND ? ORDER BY interval, row"
        found = self._db.execute(query, (first, last)).fetchall()
        numbers = np.array([row[0] for row in found], np.int64)
        return self._array(ROW_DTYPE, ["interval", *names], found), numbers

    def _array(self, dtype: np.dtype[np.void], names: list[str], found: list[tuple[Any, ...]]) -> npt.NDArray[np.void]:
        array = np.zeros(len(found), dtype)
        for name, values in zip(names, zip(*found)):
            if name == "comm":
                array[name] = [self._names[value] for value in values]
            elif name == "path":
                array[name] = self._paths[np.clip(np.fromiter(values, np.int64, len(values)), 0, 255)]
            elif name in MEASURE and MEASURE[name].fold is Fold.HISTOGRAM:
                array[name] = dense(values, MEASURE[name].length)
            elif name in (dtype.names or ()):
                array[name] = np.fromiter(values, np.int64, len(values))
        return array

    def _processes(self, first: int, last: int) -> dict[int, dict[int, Process]]:
        found: dict[int, dict[int, Process]] = {}
        query = (
            "SELECT interval, tgid, comm, cmdline, ppid, system_time_us, freepages_delay_ns "
            "FROM process_times JOIN processes USING (process) WHERE interval BETWEEN ? AND ?"
        )
        for number, tgid, comm, cmdline, *rest in self._db.execute(query, (first, last)):
            found.setdefault(number, {})[tgid] = Process(tgid, text(comm), text(cmdline), *rest)
        return found


_NAME_ONE = "name a file that mmwatch record wrote"


def _connect(path: Path, how: str) -> sqlite3.Connection:
    """:raises sqlite3.Error: SQLite cannot make sense of it."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, timeout=_BUSY_S)
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _check_file(path: Path) -> None:
    """Everything that can be told without SQLite, which has one message for it all."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise MmwatchError(f"there is no {path}", _NAME_ONE) from None
    except PermissionError as error:
        raise NoPermissionError(f"cannot read {path}: {error.strerror}", "ask root, or its owner") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise MmwatchError(f"cannot read {clean(str(path))}: {getattr(error, 'strerror', error)}", _NAME_ONE) from error
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path} is a directory", _NAME_ONE)
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} is no plain file", _NAME_ONE)
    if not os.access(path, os.R_OK):
        raise NoPermissionError(
            f"cannot read {path}: Permission denied", "a recording is for its owner alone: be that user, or root"
        )
    if not found.st_size:
        raise MmwatchError(f"{path} is empty", _NAME_ONE)


def _select(names: list[str]) -> str:
    return ", ".join(f'ifnull("{name}", {NULL_FOR[name]})' if name in NULL_FOR else f'"{name}"' for name in names)


def _from_json(source: str | None) -> dict[str, Any]:
    value = json.loads(source or "{}")
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _interval(found: dict[str, Any], **rest: Any) -> Interval:
    return Interval(
        end_s=float(found["end_s"]),
        duration_ns=int(found["duration_ns"]),
        edge_begin_pages=int(found.get("edge_begin_pages") or 0),
        edge_end_pages=int(found.get("edge_end_pages") or 0),
        vmstat=_from_json(found.get("vmstat")),
        pressure=_from_json(found.get("pressure")),
        settings=_from_json(found.get("settings")),
        kswapd={int(node): text(state) for node, state in _from_json(found.get("kswapd")).items()},
        loss=Loss(
            lost=_from_json(found.get("lost")),
            suppressed=_from_json(found.get("suppressed")),
            **{
                name: found[name]
                for name in ("missed_runs", "unmatched_begin", "unmatched_end", "table_full")
                if name in found
            },
        ),
        cost=Cost(**{field.name: found.get(f"cost_{field.name}", 0) for field in fields(Cost)}),
        **rest,
    )
