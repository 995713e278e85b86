"""The file of a recording that is about to begin: created, and known to take what will be written.

Not every file system can do what SQLite needs. A write-ahead log (WAL) has an index in memory that processes share by
mapping a file, which 9p, NFS, CIFS and some FUSE file systems refuse, and only when the first commit comes.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from mmwatch.errors import MmwatchError
from mmwatch.recording.files import ELSEWHERE, SIDE_FILES, create, identity, move, others_may_read, refusal, remove
from mmwatch.recording.schema import APPLICATION_ID, VERSION

_BUSY_S = 30
"""How long a reader may block the writer. That happens only on file systems without WAL."""
_WAYS = (
    ("WAL", "NORMAL", "NORMAL"),
    ("WAL", "EXCLUSIVE", "NORMAL"),  # the index of the log is in our own memory, so nobody else can read meanwhile
    ("TRUNCATE", "NORMAL", "FULL"),  # NORMAL could corrupt the file if the host crashes
)
"""Ways to write, the best first: journal_mode, locking_mode, synchronous."""


class NewFile:
    """An empty recording.

    :param force: replace an existing recording.
    :ivar connection: to its database.
    :ivar exclusive: no other process can read the file while this one writes it.
    :raises UsageError: the path is a directory or a device.
    :raises NoPermissionError: the file may not be created there.
    :raises MmwatchError: the file exists, cannot be created, or takes no data.
    """

    def __init__(self, path: Path, force: bool = False) -> None:
        self.path = path
        self._replaced = create(path, force)
        self.identity = identity(path)
        try:
            self.connection, self.exclusive = self._opened()
        except sqlite3.Error as error:
            self._undo()
            raise write_error(path, error) from error
        except BaseException:
            self._undo()
            raise

    def _opened(self) -> tuple[sqlite3.Connection, bool]:
        problem: sqlite3.Error | None = None
        for journal, locking, synchronous in _WAYS:
            os.truncate(self.path, 0)  # the attempt before may have left it half made
            for end in SIDE_FILES:
                Path(f"{self.path}{end}").unlink(missing_ok=True)
            db = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY_S
            )
            try:
                db.execute(f"PRAGMA locking_mode = {locking}")
                found = db.execute(f"PRAGMA journal_mode = {journal}").fetchone()
                if found[0].upper() == journal:
                    db.execute(f"PRAGMA synchronous = {synchronous}")
                    db.execute("BEGIN IMMEDIATE")
                    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    db.execute(f"PRAGMA user_version = {VERSION}")
                    db.execute("COMMIT")
                    return db, locking == "EXCLUSIVE"
            except sqlite3.OperationalError as error:
                problem = error
            except BaseException:
                db.close()
                raise
            db.close()
        raise problem or sqlite3.OperationalError("no way to write it")

    @property
    def notices(self) -> list[str]:
        """What the user should know of the file and does not expect."""
        found = []
        if self.exclusive:
            found.append(f"its file system shares no memory: {self.path} can be read once the recording has ended")
        if others_may_read(self.path):
            found.append(f"its file system lets other users read {self.path}, and the command lines in it")
        return found

    def begun(self) -> None:
        """The recording has begun: give up the one that it replaces."""
        if self._replaced is not None:
            remove(self._replaced)
            self._replaced = None

    def discard(self) -> None:
        """Remove it, and put back what it was to replace."""
        self.connection.close()
        self._undo()

    def _undo(self) -> None:
        remove(self.path)
        if self._replaced is not None:
            move(self._replaced, self.path)
            self._replaced = None


def write_error(path: Path, error: sqlite3.Error, kept: str = "") -> MmwatchError:
    """Why a recording cannot be written.

    :param kept: what can still be read.
    """
    folder = path.absolute().parent
    number = errno.ENOSPC if "full" in str(error) else refusal(folder)
    reason = os.strerror(number) if number else str(error)
    hints = {
        errno.ENOSPC: f"make room (df -h {folder}), or {ELSEWHERE}",
        errno.EDQUOT: f"make room within the quota (quota -v), or {ELSEWHERE}",
    }
    return MmwatchError(
        f"cannot write {path}: {reason}{kept}", hints.get(number, f"see dmesg for errors, or {ELSEWHERE}")
    )
