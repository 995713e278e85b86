"""Memory cgroups: where they are mounted, which id has which name, and creating a temporary one.

A cgroup's id is the 64-bit kernfs id that BPF reads from ``cgroup->kn->id``. On 64-bit kernels from 5.5 on it is also
the inode number of the cgroup's directory. Each hierarchy numbers its cgroups separately, so an id is meaningful only
together with its hierarchy.
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

from mmwatch.errors import MmwatchError, UnavailableError
from mmwatch.host._files import ROOT, error_for, read_lines, read_text, write_existing
from mmwatch.units import clean, unescape

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
    """Where the memory controller is mounted; None if it is not (no CONFIG_MEMCG, cgroup_disable=memory).

    On a hybrid host a controller belongs to one hierarchy: if version 1 has memory mounted, version 2 does not.
    """
    second = None
    for line in read_lines(root / "proc/self/mountinfo") or ():
        fields, _, tail = line.partition(" - ")
        places = fields.split(" ")
        if not tail or len(places) < 5:
            continue
        kind, options = tail.split(" ", 1)[0], tail.rpartition(" ")[2]
        point = root / unescape(places[4]).lstrip("/")
        if kind == "cgroup" and "memory" in options.split(","):
            return CgroupMount(point, 1)
        if kind == "cgroup2" and "memory" in (read_text(point / "cgroup.controllers") or "").split():
            second = second or CgroupMount(point, 2)
    return second


def of_process(mount: CgroupMount, tgid: int, root: Path = ROOT) -> str | None:
    """The path of a process's memory cgroup from the root of the hierarchy, as the file system has it."""
    for line in read_lines(root / f"proc/{tgid}/cgroup") or ():
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "")
        if ("memory" in controllers.split(",")) if mount.version == 1 else (path and not controllers):
            return path
    return None


def resolve(mount: CgroupMount | None, typed: str) -> tuple[Path, int]:
    """The cgroup a user named: a full path, or one from the root of the hierarchy, with or without a leading slash.

    :return: its directory and its id.
    :raises MmwatchError: there is no such cgroup.
    :raises NoPermissionError: no permission to look it up.
    :raises UnavailableError: the memory controller is not mounted.
    """
    mount = _need(mount)
    # normpath of an absolute path cannot climb above the root.
    wanted = posixpath.normpath("/" + typed.lstrip("/"))
    top = str(mount.path)
    if wanted == top or wanted.startswith(top.rstrip("/") + "/"):
        wanted = wanted[len(top) :]
    path = mount.path / wanted.lstrip("/")
    try:
        # Only cgroup directories have this file, and all of them do.
        os.stat(path / "cgroup.procs")
        return path, os.stat(path).st_ino
    except PermissionError as error:
        raise error_for(error, f"cannot look up cgroup {clean(typed)!r}", "run mmwatch as root") from error
    except (OSError, ValueError) as error:
        raise MmwatchError(
            f"no cgroup {clean(typed)!r} under {clean(top)}", f"list them: find {clean(top)} -type d"
        ) from error


class CgroupNames:
    """Maps id to name. Looking up an unknown id walks the tree.

    A name is the path from the root of the hierarchy (``/``, ``/user.slice/...``), cleaned for printing. A cgroup
    that is gone keeps its name.

    :param rescan_s: minimum time between two walks (0: none). Until the next walk, an unknown id stays unknown. After a
        slow walk (hosts with many thousands of cgroups), the wait is a hundred times as long as the walk took.
    """

    def __init__(
        self, mount: CgroupMount | None, rescan_s: float = 0.2, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._mount = mount
        self._rescan_s = rescan_s
        self._clock = clock
        self._next_scan = float("-inf")
        self._paths: dict[int, str] = {}
        self._numbers: dict[str, int] = {}

    def get(self, cgroup_id: int) -> str | None:
        """The name, or None if no such cgroup was ever seen."""
        path = self.path(cgroup_id)
        return None if path is None else clean(path)

    def number(self, path: str) -> int | None:
        """The id of the cgroup at this path when the tree was last walked."""
        return self._numbers.get(path)

    def known(self) -> list[tuple[int, str]]:
        """Id and path of each cgroup when the tree was last walked, without the root; those near the root first."""
        found = [(number, path) for path, number in self._numbers.items() if path != "/"]
        return sorted(found, key=lambda one: one[1].count("/"))

    def path(self, cgroup_id: int) -> str | None:
        """The name as the file system has it: bytes that are not UTF-8 are surrogates."""
        name = self._paths.get(cgroup_id)
        if name is None and self._mount is not None and self._clock() >= self._next_scan:
            began_s = self._clock()
            self._scan(self._mount.path)
            ended_s = self._clock()
            self._next_scan = ended_s + max(self._rescan_s, 100 * (ended_s - began_s) if self._rescan_s else 0)
            name = self._paths.get(cgroup_id)
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
                            live[entry.inode()] = path
                            todo.append(path)
            except OSError:  # removed in the meantime
                continue
        gone = [known for known in self._paths if known not in live]
        for known in gone[: max(0, len(gone) + len(live) - _NAMES_KEPT)]:
            del self._paths[known]
        self._paths.update(live)
        self._numbers = {path: number for number, path in live.items()}


class OwnCgroup:
    """A temporary memory cgroup with a limit, for ``mmwatch demo`` and the tests. A context manager.

    It is created at the root of the hierarchy and removed at the end. A controller enabled for it is disabled again.
    It does not kill or move processes: whoever puts processes into it must end them.

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
        """Create ``name`` with a memory limit (v1 memory.limit_in_bytes, v2 memory.max; swap is not limited).

        :raises NoPermissionError: not root, or the cgroup file system is mounted read-only.
        :raises UnavailableError: the memory controller is not mounted, or cannot be enabled here.
        :raises MmwatchError: a cgroup of that name exists already.
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
                raise MmwatchError(f"cgroup {path} exists already", f"if it is unused: rmdir {path}") from error
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
        """Move a process in, with all its threads; 0 is the caller. Memory it already has stays charged where it is.

        :raises MmwatchError: the kernel refused, or there is no such process.
        """
        try:
            write_existing(self.path / "cgroup.procs", str(pid))
        except OSError as error:
            raise error_for(error, f"cannot move process {pid} into {self.path}", "is it still running?") from error

    def remove(self, timeout_s: float = 2.0) -> None:
        """Remove the cgroup, if it is still there. Retries for a while, because a dead process may hold its cgroup
        until it is reaped.

        :raises MmwatchError: there are still processes in it.
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
            if error is None:  # an error from the body matters more
                raise


def _need(mount: CgroupMount | None) -> CgroupMount:
    if mount is None:
        raise UnavailableError(
            "no memory cgroups here: the memory controller is not mounted",
            "see /proc/cgroups; perhaps the kernel was booted with cgroup_disable=memory",
        )
    return mount


def _disable_controller(mount: CgroupMount) -> None:
    """Undo +memory, unless another cgroup relies on it by now: that cgroup would silently lose its limit."""
    limits = [*mount.path.glob("*/memory.max"), *mount.path.glob("*/memory.high")]
    if all(read_text(limit) in ("max", None) for limit in limits):
        with contextlib.suppress(OSError):  # EBUSY: a child has enabled it for its own children
            write_existing(mount.path / "cgroup.subtree_control", "-memory")
