"""Opens a recording without changing it, and explains what is wrong with a file that SQLite rejects."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mmwatch.errors import MmwatchError, NoPermissionError, UsageError
from mmwatch.recording.checks import Damage
from mmwatch.recording.files import HEADER_BYTES, MAGIC, SIDE_FILES
from mmwatch.recording.schema import APPLICATION_ID, BY_NAME, VERSION
from mmwatch.units import clean

_LOGS = ("-wal", "-journal")
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""Begins a rollback journal, and ends one that names a super-journal (SQLite: src/pager.c, readSuperJournal)."""
_BUSY_S = 5
_NOT_THE_FILE = ("unable to open", "I/O", "locked", "full", "readonly", "out of memory")
"""Parts of SQLite's messages for errors that are not the recording's fault."""
_REFUSED = re.compile("not authorized|access to .* is prohibited$")
"""SQLite's message after an authorizer that does not allow something (src/auth.c)."""
_COPY_AGAIN = "copy it again from where it was recorded, with the -wal file beside it if there is one"
_NAME_ONE = "name a file that mmwatch record wrote"
_VALUE_BYTES_MAX = 1 << 20
"""Of a row, too. mmwatch writes a few kilobytes."""
_LIMIT_LENGTH = 0
_HEAP_BYTES_MAX = 128 << 20
_STEPS = 100_000
"""SQLite looks for a signal after so many instructions of its virtual machine: some milliseconds."""
_READ, _PRAGMA, _SELECT, _FUNCTION = 20, 19, 21, 31
"""Action codes of an authorizer (sqlite3.h); the module has names for them only since Python 3.11."""
_FUNCTIONS = frozenset(("count", "ifnull", "max", "min", "sum", "total"))
_PRAGMAS = frozenset(("application_id", "page_count", "page_size", "table_xinfo", "user_version"))
_TABLES = frozenset((*BY_NAME, "sqlite_master", "pragma_table_xinfo"))


class Database:
    """The SQLite file of a recording, opened read-only. If the recording was cut off, it is completed from its log.

    :ivar columns: of each table of :mod:`mmwatch.recording.schema`, as the file has them.

    :raises UsageError: the path is a directory or a device.
    :raises NoPermissionError: the user may not read it.
    :raises MmwatchError: there is no such file, or it is not a recording, is damaged, or has a newer schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: dict[str, list[str]] = {}
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._denied = False
        _check_file(path)
        self._place = Path(os.path.realpath(path))
        """Not a link: SQLite's other files are beside what it leads to."""
        _check_side_files(self._place)
        with self.damage():
            self.connection = self._open()
        try:
            self._check_schema()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, and remove the copy if one was needed."""
        self.connection.close()
        if self._copy is not None:
            self._copy.cleanup()

    @contextlib.contextmanager
    def damage(self) -> Iterator[None]:
        """Report wrong types and values as damage, not as bugs: the file is untrusted and may be broken in any way.

        :raises MmwatchError: in place of whatever SQLite, json or numpy raised.
        """
        try:
            yield
        except sqlite3.DatabaseError as error:
            # A signal may come in the progress handler, or in the authorizer, which SQLite then takes for a refusal.
            if str(error) == "interrupted" or (_REFUSED.match(str(error)) and not self._denied):
                raise KeyboardInterrupt from error
            raise self._unreadable(error) from error
        except (sqlite3.Error, ValueError, TypeError, KeyError, OverflowError, MemoryError, RecursionError) as error:
            raise self._unreadable(error) from error

    def _open(self) -> sqlite3.Connection:
        """Open the file in place, together with the log that a killed recorder left. If SQLite cannot create the log's
        index next to it, open a copy of both elsewhere."""
        if not any(os.path.lexists(f"{self._place}{end}") for end in _LOGS):
            # No process is writing, so SQLite needs neither locks nor a writable directory.
            db = self._connect(self._place, "mode=ro&immutable=1")
            pages, page_bytes = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
            if self._place.stat().st_size < max(pages * page_bytes, 512):  # SQLite accepts a partial last page
                db.close()
                raise sqlite3.DatabaseError("truncated")
            return db
        try:
            return self._connect(self._place, "mode=ro")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):  # a copy of what is being written may be half old and half new
                raise
            return self._connect(self._copied(), "mode=rw")

    def _connect(self, path: Path, how: str) -> sqlite3.Connection:
        """Connect so that the file cannot make SQLite do more than read a few plain tables.

        A signal handler of Python runs between two instructions of Python. While SQLite works there are none, unless it
        calls a progress handler. What the handler raises, SQLite turns into the error *interrupted*.

        :raises sqlite3.Error: SQLite rejects the file.
        """
        db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, timeout=_BUSY_S)
        try:
            if hasattr(db, "setlimit"):  # Python 3.11
                db.setlimit(_LIMIT_LENGTH, _VALUE_BYTES_MAX)
            else:
                db.text_factory = _text
            for setting in (
                "trusted_schema = OFF",
                "cell_size_check = ON",
                "mmap_size = 0",
                f"hard_heap_limit = {_HEAP_BYTES_MAX}",
            ):
                db.execute(f"PRAGMA {setting}").fetchall()
            db.set_progress_handler(lambda: 0, _STEPS)
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            db.set_authorizer(self._authorize)
        except BaseException:
            db.close()
            raise
        return db

    def _authorize(
        self, action: int, first: str | None, second: str | None, _database: str | None, _by: str | None
    ) -> int:
        allowed = (
            action == _SELECT
            or (action == _READ and first in _TABLES)
            or (action == _FUNCTION and second in _FUNCTIONS)
            or (action == _PRAGMA and first in _PRAGMAS)
        )
        self._denied = self._denied or not allowed
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    def _copied(self) -> Path:
        try:
            self._copy = tempfile.TemporaryDirectory(prefix="mmwatch-")
            copy = Path(self._copy.name) / "recording.mmw"
            found = [end for end in ("", *_LOGS) if os.path.lexists(f"{self._place}{end}")]
            if sum(os.stat(f"{self._place}{end}").st_size for end in found) > shutil.disk_usage(copy.parent).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            for end in found:
                shutil.copyfile(f"{self._place}{end}", f"{copy}{end}", follow_symlinks=False)
        except OSError as error:
            raise MmwatchError(
                f"cannot copy {self.path} to {tempfile.gettempdir()} to complete it from its log: {error.strerror}",
                "set TMPDIR to a directory with room for it",
            ) from error
        _check_journal(Path(f"{copy}-journal"))
        return copy

    def _check_schema(self) -> None:
        with self.damage():
            (application,) = self.connection.execute("PRAGMA application_id").fetchone()
            (version,) = self.connection.execute("PRAGMA user_version").fetchone()
            if application == APPLICATION_ID:
                self.columns = _plain_columns(self.connection)
        if application != APPLICATION_ID:
            raise MmwatchError(f"{self.path} is a SQLite file, but not an mmwatch recording", _NAME_ONE)
        if version > VERSION:
            by = ""
            with contextlib.suppress(sqlite3.Error, TypeError):
                by = f" by mmwatch {clean(str(self.connection.execute('SELECT version FROM session').fetchone()[0]))}"
            raise MmwatchError(
                f"{self.path} was recorded{by} with schema {version}; this mmwatch reads schemas up to {VERSION}",
                "update mmwatch, or run the report on the host that recorded it",
            )

    def _unreadable(self, error: Exception) -> MmwatchError:
        """The error for a file that SQLite rejects."""
        try:
            with self.path.open("rb") as file:
                header = file.read(HEADER_BYTES)
                size = os.fstat(file.fileno()).st_size
        except OSError as problem:
            return MmwatchError(f"cannot read {self.path}: {problem.strerror}")
        if header[:16] != MAGIC[: len(header)]:
            return MmwatchError(f"{self.path} is not an mmwatch recording", _NAME_ONE)
        page_bytes = int.from_bytes(header[16:18], "big")
        whole = (65536 if page_bytes == 1 else page_bytes) * int.from_bytes(header[28:32], "big")
        if len(header) < HEADER_BYTES or size < whole:
            of = f" of {whole}" if len(header) == HEADER_BYTES else ""
            return MmwatchError(f"{self.path} is truncated: it has {size}{of} bytes", _COPY_AGAIN)
        if isinstance(error, MemoryError) or "too big" in str(error):  # the heap and values have limits
            error = Damage("a value is far too long")
        elif isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error):  # sqlite3 quotes the text
            column = re.search(r"column '(\w+)'", str(error))
            error = Damage(f"column {column[1]}: not UTF-8" if column else "a text is not UTF-8")
        if not isinstance(error, Damage) and any(words in str(error) for words in _NOT_THE_FILE):
            hint = "try again, or copy it to another file system"
            if "locked" in str(error):
                hint = "another process is writing it, on a file system without shared memory: wait until it has ended"
            return MmwatchError(f"cannot read {self.path}: {error}", hint)
        return MmwatchError(f"{self.path} is damaged: {error}", _COPY_AGAIN)


def _text(raw: bytes) -> str:
    if len(raw) > _VALUE_BYTES_MAX:
        raise Damage("a text is far too long")
    return raw.decode()


def _plain_columns(db: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns that mmwatch knows of each of its tables; none if the table is missing.

    Refuses anything but plain tables where mmwatch reads: a view or a generated column can compute without end, a
    virtual table runs code, a default makes much out of little, and no recording has a trigger. Without its key, a
    table may have a number twice, and a join takes the square of the time.

    :raises Damage: the file has one.
    """
    for kind, name, root in db.execute("SELECT type, name, rootpage FROM sqlite_master"):
        if kind == "trigger":
            raise Damage("it has a trigger")
        if str(name).lower() in BY_NAME and (kind != "table" or not root):
            raise Damage(f"{name} is not a plain table")
    columns: dict[str, list[str]] = {table: [] for table in BY_NAME}
    for table, names in columns.items():
        known = {column.name for column in BY_NAME[table].columns}
        key: dict[int, str] = {}
        for _, name, _, _, default, place, hidden in db.execute(f'PRAGMA table_xinfo("{table}")'):
            if name not in known:
                continue
            if hidden or default is not None:
                raise Damage(f"table {table}, column {name}: not a plain column")
            names.append(name)
            if place:
                key[place] = name
        if names and tuple(key[place] for place in sorted(key)) != BY_NAME[table].primary_key:
            raise Damage(f"table {table} lacks its primary key")
    return columns


def _check_side_files(path: Path) -> None:
    """Whoever made the recording may have put a FIFO there, which SQLite would read without end, or a link.

    :raises MmwatchError: a file beside the recording is not a regular one.
    """
    for end in SIDE_FILES:
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(os.lstat(f"{path}{end}").st_mode):
                raise MmwatchError(f"{path}{end} is not a regular file", "remove it: no recording has such a file")


def _check_journal(path: Path) -> None:
    """SQLite removes the super-journal that a journal names, whatever file that is. mmwatch's journals name none.

    :raises Damage: this one does.
    """
    with contextlib.suppress(FileNotFoundError), path.open("rb") as journal:
        journal.seek(-min(path.stat().st_size, len(_JOURNAL_MAGIC)), os.SEEK_END)
        if journal.read() == _JOURNAL_MAGIC:
            raise Damage("its journal names another file")


def _check_file(path: Path) -> None:
    """Check everything that needs no SQLite, which has a single message for all of these errors.

    :raises MmwatchError: the file cannot be a recording, or cannot be read.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise MmwatchError(f"{path} does not exist", _NAME_ONE) from None
    except PermissionError as error:
        raise NoPermissionError(f"cannot read {path}: {error.strerror}", "ask root, or its owner") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise MmwatchError(f"cannot read {clean(str(path))}: {getattr(error, 'strerror', error)}", _NAME_ONE) from error
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{path} is a directory", _NAME_ONE)
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} is not a regular file", _NAME_ONE)
    if not os.access(path, os.R_OK):
        raise NoPermissionError(
            f"cannot read {path}: Permission denied", "only its owner and root can read a recording"
        )
    if not found.st_size:
        raise MmwatchError(f"{path} is empty", _NAME_ONE)
