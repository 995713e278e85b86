"""The file of a recording: creating it for its owner only, replacing one, and finding out why a write failed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import tempfile
from pathlib import Path

from mmwatch.errors import MmwatchError, NoPermissionError, UsageError
from mmwatch.recording.schema import APPLICATION_ID

SIDE_FILES = ("-wal", "-shm", "-journal")
NAME_BYTES_MAX = 255 - len("-journal")
"""Linux's NAME_MAX (include/uapi/linux/limits.h), less what SQLite adds for the file beside it."""
ELSEWHERE = "record to another place with -o"
MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
_LOCKED_BYTES = (510, 0x40000002)  # length and start of SQLite's lock on a file in use, sqlite3 os_unix.c


def create(path: Path, force: bool) -> Path | None:
    """Create an empty file that only its owner can open, from the first moment and regardless of the umask.

    :param force: replace a recording of that name.
    :returns: where the recording is that had this name: whoever replaces it removes it, or moves it back.
    :raises UsageError: the path is a directory or a device.
    :raises NoPermissionError: the file may not be created there.
    :raises MmwatchError: it exists, or cannot be created.
    """
    if len(os.fsencode(path.name)) > NAME_BYTES_MAX:
        raise MmwatchError(
            f"cannot create {path}: File name too long",
            f"use at most {NAME_BYTES_MAX} bytes: SQLite needs the rest for a file beside it",
        )
    aside = None
    try:
        if force:
            aside = _make_way(path)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except BaseException:
            if aside is not None:
                move(aside, path)
            raise
        with contextlib.suppress(OSError):  # a file system without permissions: see others_may_read
            os.fchmod(handle, 0o600)
        os.close(handle)
        return aside
    except FileExistsError:
        if path.is_dir():
            raise _a_directory(path) from None
        raise MmwatchError(f"{path} exists", "use --force to replace it, or name another file with -o") from None
    except IsADirectoryError:
        raise _a_directory(path) from None
    except FileNotFoundError:
        if path.parent.is_dir():  # below /proc, say
            raise MmwatchError(f"cannot create {path}: no files can be created in {path.parent}", ELSEWHERE) from None
        raise MmwatchError(f"cannot create {path}: no directory {path.parent}", f"mkdir -p {path.parent}") from None
    except PermissionError as error:
        raise NoPermissionError(f"cannot create {path}: {error.strerror}", ELSEWHERE) from error
    except OSError as error:
        raise MmwatchError(f"cannot create {path}: {error.strerror}", ELSEWHERE) from error


def _a_directory(path: Path) -> UsageError:
    return UsageError(f"{path} is a directory", f"name a file: -o {path / 'recording.mmw'}")


def _make_way(path: Path) -> Path | None:
    """Move the recording of that name aside, but refuse if it is not a regular file or is in use.

    A writer still using the old file would, when it ends, delete the new file's log, which has the same name.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(kind):
        raise _a_directory(path) if stat.S_ISDIR(kind) else UsageError(f"{path} is not a regular file", ELSEWHERE)
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *_LOCKED_BYTES)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise MmwatchError(f"{path} is being written or read by another process", ELSEWHERE) from None
        head = file.read(HEADER_BYTES)
        if head and not is_recording(head):
            raise MmwatchError(f"{path} is not an mmwatch recording, so it is not replaced", ELSEWHERE)
    aside = path.with_name(f".mmwatch-{secrets.token_hex(8)}")
    move(path, aside)
    return aside


def move(path: Path, to: Path) -> None:
    """Move a recording and its side files within a directory."""
    for end in ("", *SIDE_FILES):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{end}", f"{to}{end}")


def is_recording(head: bytes) -> bool:
    """Whether a file that begins like this is a recording of mmwatch, whatever its schema."""
    return head.startswith(MAGIC) and head[68:72] == APPLICATION_ID.to_bytes(4, "big")  # sqlite.org/fileformat.html


def remove(path: Path) -> None:
    """Remove a recording and its side files."""
    for name in (str(path), *(f"{path}{end}" for end in SIDE_FILES)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def refusal(folder: Path) -> int:
    """Try to write a few more pages, because SQLite reports everything but a full disk as *disk I/O error*.

    :returns: the errno, or 0 if the file system accepts them.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(65536))
            file.flush()
    except OSError as error:
        return error.errno or 0
    return 0


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def others_may_read(path: Path) -> bool:
    """Whether the file system let others read a file that was created for its owner: vfat and some of FUSE do."""
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def where(wanted: tuple[int, int]) -> Path | None:
    """Where a file is now that this process has open; None if it was removed."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            link = Path("/proc/self/fd") / name
            if identity(link) == wanted:
                now = Path(os.readlink(link))
                return now if identity(now) == wanted else None
    return None
