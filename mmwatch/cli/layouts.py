"""The saved layout of the screen: where it is, reading and writing it.

mmwatch runs as root, and sudo may keep the environment: the directory may belong to another user, who can put anything
there. So the file is read with bounds and never through a link, and nothing is written where another user could move
it or has the say.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from mmwatch import units
from mmwatch.errors import MmwatchError, NoPermissionError

if TYPE_CHECKING:
    from mmwatch.display.screen.layout import Layout

BYTES_MAX = 65536
_LOOK = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


def layout_file() -> Path:
    """``$XDG_CONFIG_HOME/mmwatch/layout.json``, or the same in ``~/.config`` if that is not an absolute path."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(home if os.path.isabs(home) else os.path.expanduser("~/.config"), "mmwatch", "layout.json")


def save_layout(layout: Layout) -> str:
    """Save the layout.

    :returns: a message for the user.
    """
    path = layout_file()
    try:
        _write(path, (json.dumps(layout.to_json(), indent=2) + "\n").encode())
    except (OSError, MmwatchError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return units.clean(f"cannot save the layout to {path}: {why}")
    return units.clean(f"saved to {path}")


def _write(path: Path, content: bytes) -> None:
    """Replace a file as a whole. The new one has a name that nobody can foresee.

    :raises NoPermissionError: another user has the say in its directory.
    """
    folder = _own_directory(path.parent)
    try:
        temporary = f".{path.name}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            with open(file, "wb") as stream:
                stream.write(content)
            os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
    finally:
        os.close(folder)


def _own_directory(path: Path) -> int:
    """A descriptor of a directory, which is made if it is missing.

    It is reached step by step, and no step may be a link or belong to another user: its owner could replace what is
    below it. Links that exist now are resolved first, because root may have made them.

    :raises NoPermissionError: a directory belongs to another user, or all users may write to it.
    """
    folder = os.open("/", _LOOK | os.O_DIRECTORY)
    try:
        for name in Path(os.path.realpath(path)).parts[1:]:
            _check_owner(folder, path)
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            below = os.open(name, _LOOK | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = below
        _check_owner(folder, path)
    except BaseException:
        os.close(folder)
        raise
    return folder


def _check_owner(folder: int, path: Path) -> None:
    found = os.fstat(folder)
    open_to_all = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    if found.st_uid not in (0, os.geteuid()) or open_to_all:
        raise NoPermissionError(f"another user may change {path}; set XDG_CONFIG_HOME to a directory of your own")


def _read(path: Path) -> bytes:
    file = os.open(path, _LOOK | os.O_NONBLOCK)  # a FIFO must not hold up the start
    with open(file, "rb") as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        content = stream.read(BYTES_MAX + 1)
    if len(content) > BYTES_MAX:
        raise OSError(errno.EFBIG, f"longer than {BYTES_MAX} bytes")
    return content


def arranged(arguments: argparse.Namespace) -> tuple[Layout, list[str]]:
    """The saved layout with the command line's options applied, and what is wrong with the file, if anything."""
    from mmwatch.cli.tables import check_columns, find_column
    from mmwatch.display.screen.layout import Layout

    problems = []
    path = layout_file()
    try:
        layout = Layout.from_json(json.loads(_read(path)))
    except FileNotFoundError:
        layout = Layout()
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        problems.append(units.clean(f"{path} is ignored: {why}; W saves a new one"))
        layout = Layout()
    given: frozenset[str] = getattr(arguments, "given", frozenset())
    if "by" in given:
        layout.by = arguments.by
    if "sort" in given:
        layout.sort, layout.reverse = find_column(arguments.sort).key, False
    if "interval" in given:
        layout.interval_s = None
    layout.reverse = arguments.reverse or layout.reverse
    if arguments.columns is not None:
        arguments.by = layout.by
        layout.columns[layout.by] = [column.key for column in check_columns(arguments)]
    return layout, problems
