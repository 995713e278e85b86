"""Memory cgroups: where they are mounted, which id has which name, and one of our own to work in.

A cgroup's id is the 64-bit kernfs id, which is what BPF reads from ``cgroup->kn->id``; on a 64-bit kernel from 5.5 on
it is also the inode number of the cgroup's directory. Version 1 and version 2 hierarchies number their cgroups apart:
an id means something only together with the hierarchy it came from.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mmwatch.errors import MmwatchError, UnavailableError, UsageError
from mmwatch.host._files import ROOT, error_for, read_text, write_existing
from mmwatch.units import clean, pages_text

_NAMES_KEPT = 65536


@dataclass(frozen=True)
class CgroupMount:
    """A mounted cgroup hierarchy that has the memory controller.

    :ivar path: the mount point as this process sees it.
    :ivar version: 1 or 2.
    """

    path: Path
    version: int


def memory_mount(root: Path = ROOT) -> CgroupMount | None:
    """Where the memory controller is mounted; None where it is not (no CONFIG_MEMCG, cgroup_disable=memory).

    On a hybrid host a controller belongs to one hierarchy: where version 1 has memory mounted, version 2 has not.
    """
    second = None
    for line in (read_text(root / "proc/self/mountinfo") or "").splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        point = root / re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields.split(" ")[4]).lstrip("/")
        if kind == "cgroup" and "memory" in options.split(","):
            return CgroupMount(point, 1)
        if kind == "cgroup2" and "memory" in (read_text(point / "cgroup.controllers") or "").split():
            second = second or CgroupMount(point, 2)
    return second


def resolve(mount: CgroupMount | None, typed: str) -> tuple[Path, int]:
    """The cgroup a user named: a path under the mount point, or one from its top, with or without leading slash.

    :return: its directory and its id.
    :raises UsageError: there is no such cgroup.
    :raises NoPermissionError: it may not be looked up.
    :raises UnavailableError: the memory controller is not mounted.
    """
    mount = _need(mount)
    # normpath of an absolute path cannot climb above its top.
    wanted = posixpath.normpath("/" + typed.strip().lstrip("/"))
    top = str(mount.path)
    if wanted == top or wanted.startswith(top.rstrip("/") + "/"):
        wanted = wanted[len(top) :]
    path = mount.path / wanted.lstrip("/")
    try:
        # Every cgroup directory has this file, and nothing else beside them has it.
        os.stat(path / "cgroup.procs")
        return path, os.stat(path).st_ino
    except PermissionError as error:
        raise error_for(error, f"cannot look up cgroup {clean(typed)!r}", "run mmwatch as root") from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no cgroup {clean(typed)!r} under {clean(top)}", f"list them: find {clean(top)} -type d"
        ) from error


_LIMITS = {
    1: ("memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.usage_in_bytes", "memory.failcnt"),
    2: ("memory.max", "memory.high", "memory.low", "memory.min", "memory.current", "memory.events"),
}
"""What to read of a cgroup, by version, in the order it is shown."""
_BYTES_UNLIMITED = 1 << 62
"""Version 1 has no word for no limit: LONG_MAX rounded down to a page (mm/page_counter.h, PAGE_COUNTER_MAX)."""


def limits(mount: CgroupMount | None, name: str) -> dict[str, str]:
    """The limits of a cgroup, what it holds and what that led to, as text by file: ``memory.max`` -> ``64M``.

    ``none`` is no limit (of protections, low and min: none is given); of memory.events only what happened. Where the
    cgroup, the controller or a file is missing there is no entry: the top has no limits.

    :param name: from the top of the hierarchy, as :class:`CgroupNames` gives it; one with characters that had to be
        made visible there is not found here.
    """
    found: dict[str, str] = {}
    if mount is None or ".." in name.split("/"):
        return found
    folder = mount.path / name.lstrip("/")
    for file in _LIMITS[mount.version]:
        text = read_text(folder / file)
        if text:
            found[file] = _limit_text(file, text)
    return found


def _limit_text(file: str, text: str) -> str:
    if file == "memory.events":
        counts = [line.split() for line in text.splitlines()]
        return (
            ", ".join(f"{clean(words[0])} {clean(words[1])}" for words in counts if words[1:] not in ([], ["0"]))
            or "none"
        )
    if not text.isdecimal():
        return "none" if text == "max" else clean(text)
    value = int(text)
    if file == "memory.failcnt":
        return str(value)
    protects = file in ("memory.low", "memory.min")
    return "none" if value >= _BYTES_UNLIMITED or (protects and not value) else pages_text(value, 1)


class CgroupNames:
    """id -> name, by walking the tree when an id turns up that is not known.

    A name is the path from the top of the hierarchy (``/``, ``/user.slice/...``), cleaned for printing. A cgroup
    that is gone keeps its name.

    :param rescan_s: an unknown id causes a walk at most this often (0: always); in between it stays unknown. A walk
        that took long (hosts with many thousands of cgroups) is not repeated before a hundred times as long.
    """

    def __init__(
        self, mount: CgroupMount | None, rescan_s: float = 0.2, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._mount = mount
        self._rescan_s = rescan_s
        self._clock = clock
        self._next_scan = float("-inf")
        self._names: dict[int, str] = {}

    def get(self, cgroup_id: int) -> str | None:
        """The name, or None when no such cgroup was ever seen here."""
        name = self._names.get(cgroup_id)
        if name is None and self._mount is not None and self._clock() >= self._next_scan:
            began_s = self._clock()
            self._scan(self._mount.path)
            ended_s = self._clock()
            self._next_scan = ended_s + max(self._rescan_s, 100 * (ended_s - began_s) if self._rescan_s else 0)
            name = self._names.get(cgroup_id)
        return name

    def _scan(self, top: Path) -> None:
        try:
            live = {os.stat(top).st_ino: "/"}
        except OSError:
            return
        todo = [""]
        while todo:
            parent = todo.pop()
            try:
                with os.scandir(f"{top}{parent}") as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            path = f"{parent}/{entry.name}"
                            live[entry.inode()] = clean(path)
                            todo.append(path)
            except OSError:  # removed meanwhile
                continue
        gone = [known for known in self._names if known not in live]
        for known in gone[: max(0, len(gone) + len(live) - _NAMES_KEPT)]:
            del self._names[known]
        self._names.update(live)


class OwnCgroup:
    """A memory cgroup of our own with a limit, for ``mmwatch demo`` and the tests; a context manager.

    It is made at the top of the hierarchy and removed at the end, and what had to be switched on for it is switched
    off again. It kills nothing and moves nothing: whoever puts processes in must see to their end.

    :ivar path: its directory.
    :ivar cgroup_id: its id.
    """

    def __init__(self, mount: CgroupMount, path: Path, enabled_controller: bool) -> None:
        self._mount = mount
        self._enabled_controller = enabled_controller
        self.path = path
        self.cgroup_id = os.stat(path).st_ino

    @classmethod
    def create(cls, mount: CgroupMount | None, name: str, limit_bytes: int) -> OwnCgroup:
        """Make ``name`` with a memory limit (v1 memory.limit_in_bytes, v2 memory.max; swap is not limited).

        :raises NoPermissionError: it takes root, and a cgroup file system that is mounted read-write.
        :raises UnavailableError: the memory controller is not mounted, or cannot be enabled here.
        :raises MmwatchError: there is a cgroup of that name.
        """
        mount = _need(mount)
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            raise ValueError(f"not a name for a cgroup: {name!r}")
        path = mount.path / name
        enabled = False
        try:
            control = mount.path / "cgroup.subtree_control"
            if mount.version == 2 and "memory" not in (read_text(control) or "").split():
                write_existing(control, "+memory")
                enabled = True
            path.mkdir()
        except OSError as error:
            if enabled:
                _disable_controller(mount)
            if isinstance(error, FileExistsError):
                raise MmwatchError(f"cgroup {path} exists already", f"if nobody uses it: rmdir {path}") from error
            raise error_for(error, f"cannot make cgroup {path}", "run as root where cgroups are writable") from error
        own = cls(mount, path, enabled)
        try:
            write_existing(path / ("memory.limit_in_bytes" if mount.version == 1 else "memory.max"), str(limit_bytes))
        except BaseException as error:
            own.remove()
            if isinstance(error, OSError):
                raise error_for(error, f"cannot limit cgroup {path}", "run as root") from error
            raise
        return own

    def add(self, pid: int) -> None:
        """Move a process in, all its threads with it; 0 is the caller. Memory it has already stays where it is
        charged.

        :raises MmwatchError: the kernel refused, or there is no such process.
        """
        try:
            write_existing(self.path / "cgroup.procs", str(pid))
        except OSError as error:
            raise error_for(error, f"cannot move process {pid} into {self.path}", "is it still running?") from error

    def remove(self, timeout_s: float = 2.0) -> None:
        """Remove it; nothing happens when it is gone already. Tries for a while, for a process that is dead may
        still hold its cgroup until it is reaped.

        :raises MmwatchError: there are processes in it still.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.path.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError as error:
                if time.monotonic() >= deadline:
                    pids = " ".join((read_text(self.path / "cgroup.procs") or "none seen").split())
                    raise MmwatchError(
                        f"cannot remove cgroup {self.path}: {error.strerror}; processes in it: {pids}",
                        f"end them, then: rmdir {self.path}",
                    ) from error
                time.sleep(0.02)
        if self._enabled_controller:
            self._enabled_controller = False
            _disable_controller(self._mount)

    def __enter__(self) -> OwnCgroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.remove()
        except MmwatchError:
            if error is None:  # else what went wrong inside is the better story
                raise


def _need(mount: CgroupMount | None) -> CgroupMount:
    if mount is None:
        raise UnavailableError(
            "no memory cgroups here: the memory controller is not mounted",
            "see /proc/cgroups; the kernel may have been booted with cgroup_disable=memory",
        )
    return mount


def _disable_controller(mount: CgroupMount) -> None:
    """Take +memory back, unless another cgroup has begun to rely on it: its limit would be lost silently."""
    limits = [*mount.path.glob("*/memory.max"), *mount.path.glob("*/memory.high")]
    if all(read_text(limit) in ("max", None) for limit in limits):
        with contextlib.suppress(OSError):  # EBUSY: a child has passed it on to its own children
            write_existing(mount.path / "cgroup.subtree_control", "-memory")
