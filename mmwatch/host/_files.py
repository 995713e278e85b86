"""Reading and writing the small files of /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

from mmwatch.errors import MmwatchError, NoPermissionError, UnavailableError

ROOT = Path("/")


def read_text(path: Path) -> str | None:
    """The stripped text of a file, or None if it is missing or not readable."""
    lines = read_lines(path)
    return "\n".join(lines).strip() if lines is not None else None


def read_lines(path: Path) -> list[str] | None:
    """The lines of a file, or None if it is missing or not readable.

    Only a newline ends a line: names may hold any other byte, and the kernel escapes few of them. Text mode would turn
    a carriage return into a newline.
    """
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return None


def read_int(path: Path, base: int = 10) -> int | None:
    """The number a file holds, or None."""
    text = read_text(path)
    try:
        return int(text, base) if text and "_" not in text else None
    except ValueError:
        return None


def write_existing(path: Path, text: str) -> None:
    """Write to a control file. It must exist: in /sys and /proc, creating a file is always a mistake.

    :raises OSError: the kernel's error.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def error_for(error: OSError, doing: str, hint: str) -> MmwatchError:
    """The MmwatchError for a kernel error: no permission, or not available here."""
    kind = NoPermissionError if isinstance(error, PermissionError) else UnavailableError
    return kind(f"{doing}: {error.strerror or error}", hint)


class KeptFile:
    """A file of /proc that is opened once and read many times.

    While the fd is open, the kernel keeps the buffer that it had to grow for the text (seq_file). Opening is also most
    of the cost of a short read.

    :raises NoPermissionError: the file may not be read.
    :raises UnavailableError: the file is missing.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise error_for(error, f"cannot read {path}", "mmwatch needs /proc of the host; run it as root") from error
        self._buffer = bytearray(32768)

    def read(self) -> bytes:
        """The whole current text. seq_file returns it in pieces, so one read is not enough."""
        length = 0
        while True:
            # Reuse one buffer: a large temporary would be mapped each time and, with locked memory, faulted in as well.
            count = os.preadv(self._fd, [memoryview(self._buffer)[length:]], length)
            length += count
            if not count:
                return bytes(memoryview(self._buffer)[:length])
            if length == len(self._buffer):
                self._buffer.extend(bytes(length))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
