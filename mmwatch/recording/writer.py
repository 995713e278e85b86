"""Writing a recording while it happens.

Why a write-ahead log (WAL) with ``synchronous=NORMAL``:

- A commit appends to the log and waits for no disk, where a rollback journal waits two or three times. The host is
  short of memory and its disks are busy: each wait may take seconds, and the recorder would miss its interval.
- What is committed survives SIGKILL, as it is with the kernel then. A crash of the host may lose the latest
  intervals, but the checksums of the log and the order of writes at a checkpoint keep the file whole.
- Readers never hold up the writer, nor it them.

The price is a second and third file while it runs. The orderly end folds them into the one; after SIGKILL
:class:`mmwatch.recording.Reader` copes with what is left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from mmwatch.errors import MmwatchError, NoPermissionError, UsageError
from mmwatch.model.interval import Interval, Process, Session
from mmwatch.model.measures import BY_NAME as MEASURE
from mmwatch.model.measures import MEASURES, PATHS, Fold
from mmwatch.recording.pack import Names, integers, plain, sparse, to_json
from mmwatch.recording.schema import APPLICATION_ID, BY_NAME, KINDS, NULL_FOR, TABLES, VERSION
from mmwatch.units import NS_PER_S, clean

Records = npt.NDArray[np.void]
"""A structured array with the members of ``struct record``, as the kernel side gives it."""

RECORDS_PER_COMMIT = 65536
_REMEMBERED = 65536
_BUSY_S = 30
"""How long a reader may hold up the writer; only where the file system cannot do WAL does it at all."""

SIDE_FILES = ("-wal", "-shm", "-journal")
_LOCKED_BYTES = (510, 0x40000002)  # length and start of SQLite's lock on a file in use, sqlite3 os_unix.c

_ELSEWHERE = "record to another place with -o"


@dataclass(frozen=True)
class Summary:
    """What a recording holds.

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

    :param path: of the file to make. It is for its owner alone from the start: names and command lines are in it.
    :param force: replace a file of that name.
    :raises UsageError: the path cannot be meant (a directory, a device).
    :raises NoPermissionError: the file may not be made there.
    :raises MmwatchError: there is such a file already, or it cannot be made.
    """

    def __init__(self, path: Path, session: Session, *, force: bool = False) -> None:
        self.path = path
        self._intervals = self._rows = self._processes = 0
        self._records = dict.fromkeys(KINDS, 0)
        self._buffer: list[Records] = []
        self._buffered = 0
        self._names = Names()
        self._known_processes: dict[int, tuple[int, Process]] = {}
        self._known_cgroups: dict[int, str] = {}
        self._used: set[str] = set()
        self._failed = False
        self._summary: Summary | None = None
        self._insert_row = _Insert("rows", session.unknown)
        self._insert_record = _Insert("records", frozenset({"record"}))  # NULL: SQLite counts it up
        _create(path, force)
        try:
            with self._errors():
                self._db = sqlite3.connect(
                    f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY_S
                )
                try:
                    with self._transaction():
                        self._begin(session)
                    self._set_journal()
                except BaseException:
                    self._db.close()
                    raise
        except BaseException:
            _remove(path)  # of no use, and in the way of the next attempt
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def size_bytes(self) -> int:
        """What the recording takes on disk so far."""
        total = 0
        for name in (self.path, *(Path(f"{self.path}{end}") for end in ("-wal", "-journal"))):
            with contextlib.suppress(OSError):
                total += name.stat().st_size
        return total

    def write(self, interval: Interval, records: Records | None = None) -> None:
        """Add an interval, and the records received in it: all of it or nothing.

        :raises MmwatchError: the disk is full, or the like. What was written before stays, and is readable.
        """
        number = self._intervals + 1
        with self._transaction():
            self._add_interval(number, interval)
            self._add_rows(number, interval.rows)
            _executemany(self._db, "nodes", [(number, *astuple(node)) for node in interval.nodes])
            self._add_cgroups(interval.cgroups)
            self._add_processes(number, interval.processes)
            counts = self._add_records([*self._buffer, *([] if records is None else [records])])
        self._intervals = number
        self._rows += len(interval.rows)
        self._count(counts)

    def write_records(self, records: Records) -> None:
        """Add single records. They are kept in memory until there are many of them or the next interval comes.

        :raises MmwatchError: as :meth:`write`.
        """
        self._buffer.append(records.copy())  # it may be a view of a ring buffer
        self._buffered += len(records)
        if self._buffered >= RECORDS_PER_COMMIT:
            with self._transaction():
                counts = self._add_records(self._buffer)
            self._count(counts)

    def close(self) -> Summary:
        """End the recording: write what is left, mark it complete and make it a single file. Again: nothing more.

        :raises MmwatchError: as :meth:`write`, unless that has said so already. The file is closed all the same.
        """
        if self._summary is not None:
            return self._summary
        try:
            if not self._failed:
                with self._transaction():
                    counts = self._add_records(self._buffer)
                    self._db.execute("UPDATE session SET end_s = ?", (time.time(),))
                self._count(counts)
            # Not while somebody reads, nor on a full disk; the reader copes.
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA busy_timeout = 1000")
                self._db.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._db.close()
            self._summary = Summary(self.path, self._intervals, self._rows, dict(self._records), self.size_bytes)
        return self._summary

    def _begin(self, session: Session) -> None:
        db = self._db
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")
        for table in TABLES:
            db.execute(table.sql)
        now_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
        _insert_one(
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
        )
        _executemany(db, "probes", [tuple(map(clean, astuple(probe))) for probe in session.probes])
        _executemany(db, "paths", list(enumerate(PATHS)))
        _executemany(db, "measures", [(measure.name, measure.fold.value, measure.help, 0) for measure in MEASURES])
        _executemany(db, "kinds", [(number, name, 0) for number, name in enumerate(KINDS)])

    def _set_journal(self) -> None:
        """WAL, or where the file system has no shared memory mappings (some network ones) the next best."""
        db = self._db
        mode = None
        with contextlib.suppress(sqlite3.OperationalError):
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode == "wal":
            db.execute("PRAGMA synchronous = NORMAL")
        else:  # where NORMAL could corrupt the file when the host crashes
            db.execute("PRAGMA journal_mode = TRUNCATE")
            db.execute("PRAGMA synchronous = FULL")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing; what waits in the buffer has to be part of it."""
        with self._errors():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # What was remembered as written is not.
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
        _insert_one(
            self._db,
            "intervals",
            interval=number,
            end_s=interval.end_s,
            duration_ns=interval.duration_ns,
            edge_begin_pages=interval.edge_begin_pages,
            edge_end_pages=interval.edge_end_pages,
            rows=len(interval.rows),
            vmstat=to_json(dict(interval.vmstat)),
            pressure=to_json(dict(interval.pressure)),
            settings=to_json(dict(interval.settings)),
            kswapd=to_json(dict(interval.kswapd)),
            lost=to_json(dict(loss.lost)),
            suppressed=to_json(dict(loss.suppressed)),
            missed_runs=loss.missed_runs,
            unmatched_begin=loss.unmatched_begin,
            unmatched_end=loss.unmatched_end,
            table_full=loss.table_full,
            **{f"cost_{field.name}": getattr(cost, field.name) for field in fields(cost)},
        )

    def _add_rows(self, number: int, rows: npt.NDArray[np.void]) -> None:
        columns: dict[str, list[Any]] = {
            "interval": [number] * len(rows),
            "row": list(range(len(rows))),
            "comm": self._clean(rows["comm"]),
        }
        for measure in MEASURES:
            if measure.fold is Fold.HISTOGRAM and measure.name in self._insert_row.names:
                columns[measure.name] = sparse(rows[measure.name])
        self._db.executemany(*self._insert_row.fill(rows, columns))
        # A reader need not fetch what is 0 everywhere, often half of the file.
        new = [name for name in MEASURE if name not in self._used and rows[name].any()]
        self._used.update(new)
        self._db.executemany("UPDATE measures SET used = 1 WHERE name = ?", [(name,) for name in new])

    def _add_records(self, parts: list[Records]) -> list[int]:
        """:returns: how many there were, by kind."""
        counts = np.zeros(len(KINDS), np.int64)
        for part in parts:
            for begin in range(0, len(part), RECORDS_PER_COMMIT):  # bounds the memory for the lists
                records = part[begin : begin + RECORDS_PER_COMMIT]
                self._db.executemany(*self._insert_record.fill(records, {"comm": self._clean(records["comm"])}))
                counts += np.bincount(records["kind"], minlength=len(KINDS))[: len(KINDS)]
        for kind, count in enumerate(counts.tolist()):
            if count:
                self._db.execute("UPDATE kinds SET records = records + ? WHERE kind = ?", (count, kind))
        return counts.tolist()  # type: ignore[no-any-return]

    def _count(self, counts: list[int]) -> None:
        for kind, count in zip(KINDS, counts):
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
        """Who they are once, their times in every interval.

        Those of this interval are remembered, and of those before as many as there is room for; one that was forgotten
        gets another row, which harms nobody.
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
            times.append((number, key, plain(process.system_time_us), plain(process.freepages_delay_ns)))
        if len(before) + len(now) <= _REMEMBERED:
            now = {**before, **now}
        self._known_processes = now
        _executemany(self._db, "processes", new)
        _executemany(self._db, "process_times", times)

    def _error(self, error: sqlite3.Error) -> MmwatchError:
        folder = self.path.absolute().parent
        number = errno.ENOSPC if "full" in str(error) else _refusal(folder)
        reason = os.strerror(number) if number else str(error)
        kept = f"; its {self._intervals} intervals up to here can be read" if self._intervals else ""
        hints = {
            errno.ENOSPC: f"make room (df -h {folder}), or {_ELSEWHERE}",
            errno.EDQUOT: f"make room within the quota (quota -v), or {_ELSEWHERE}",
        }
        return MmwatchError(
            f"cannot write {self.path}: {reason}{kept}", hints.get(number, f"see dmesg for errors, or {_ELSEWHERE}")
        )


class _Insert:
    """INSERT for many rows of a table, most of whose columns come straight from a structured array.

    :param null: columns that get NULL.
    """

    def __init__(self, table: str, null: frozenset[str]) -> None:
        names = [column.name for column in BY_NAME[table].columns]
        self.names = [name for name in names if name not in null]
        values = ["NULL" if name in null else self._value(name) for name in names]
        self.sql = f'INSERT INTO "{table}" VALUES ({", ".join(values)})'

    @staticmethod
    def _value(name: str) -> str:
        return f"nullif(?, {NULL_FOR[name]})" if name in NULL_FOR else "?"

    def fill(
        self, array: npt.NDArray[np.void], lists: Mapping[str, list[Any]]
    ) -> tuple[str, Iterator[tuple[Any, ...]]]:
        """Arguments of ``executemany``; a column that ``lists`` does not have is a field of ``array``."""
        return self.sql, zip(*[lists[name] if name in lists else integers(array[name]) for name in self.names])


def _insert_one(db: sqlite3.Connection, table: str, **values: Any) -> None:
    names = [column.name for column in BY_NAME[table].columns]
    assert set(names) == set(values), (table, set(names) ^ set(values))
    db.execute(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(names))})', [plain(values[name]) for name in names])


def _executemany(db: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    db.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(BY_NAME[table].columns))})', rows)


def _create(path: Path, force: bool) -> None:
    """An empty file for its owner alone, whatever the umask; no instant as anything else."""
    try:
        if force:
            _make_way(path)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except FileExistsError:
        if path.is_dir():
            raise _a_directory(path) from None
        raise MmwatchError(
            f"{path} exists, and is not overwritten", "--force replaces it; or give another name with -o"
        ) from None
    except IsADirectoryError:
        raise _a_directory(path) from None
    except FileNotFoundError:
        if path.parent.is_dir():  # below /proc, say
            raise MmwatchError(f"cannot create {path}: {path.parent} takes no files", _ELSEWHERE) from None
        raise MmwatchError(f"cannot create {path}: no directory {path.parent}", f"mkdir -p {path.parent}") from None
    except PermissionError as error:
        raise NoPermissionError(f"cannot create {path}: {error.strerror}", _ELSEWHERE) from error
    except OSError as error:
        raise MmwatchError(f"cannot create {path}: {error.strerror}", _ELSEWHERE) from error


def _a_directory(path: Path) -> UsageError:
    return UsageError(f"{path} is a directory", f"name a file: -o {path / 'recording.mmw'}")


def _make_way(path: Path) -> None:
    """Remove a recording of that name, and nothing that is no plain file or in use.

    A writer that is at work would at its end delete the log of the new file, as it has the same name.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(kind):
        raise _a_directory(path) if stat.S_ISDIR(kind) else UsageError(f"{path} is no plain file", _ELSEWHERE)
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *_LOCKED_BYTES)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise MmwatchError(f"{path} is being written or read by another process", _ELSEWHERE) from None
    _remove(path)


def _remove(path: Path) -> None:
    for name in (str(path), *(f"{path}{end}" for end in SIDE_FILES)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _refusal(folder: Path) -> int:
    """The errno the file system itself has for a few pages more: to SQLite all but a full disk is *disk I/O error*.

    :returns: 0 when it has no objection (any more).
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(65536))
            file.flush()
    except OSError as error:
        return error.errno or 0
    return 0
