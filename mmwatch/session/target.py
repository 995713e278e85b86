"""What to observe: the user's filters, resolved on this host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmwatch import units
from mmwatch.errors import MmwatchError, UsageError
from mmwatch.kernel.plan import Filter

PROCESSES_MAX = 65536
"""Entries of watched_tgids in ``bpf/maps.h``."""


@dataclass(frozen=True)
class Target:
    """What the user asked for.

    :param described: the filter for :attr:`mmwatch.model.interval.Session.filter`.
    :param notes: messages for the user about the filter.
    """

    wanted: Filter
    described: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def resolve_target(
    pids: list[int] | None = None, children: bool = False, cgroup: str | None = None, comm: str | None = None
) -> Target:
    """Check a filter against this host.

    :raises UsageError: there is no such cgroup, or no task can have this name.
    :raises MmwatchError: there is no such process.
    """
    described: dict[str, Any] = {}
    notes: list[str] = []
    tgids: list[int] = []
    for pid in pids or []:
        tgid = thread_group(pid)
        if tgid != pid:
            notes.append(f"{pid} is a thread of process {tgid}; observing the whole process")
        tgids.append(tgid)
    if tgids:
        described["pid"] = tgids
        if children:
            described["children"] = True
            tgids = with_descendants(tgids)
        if len(tgids) > PROCESSES_MAX:
            raise UsageError(
                f"{len(tgids)} processes are more than the {PROCESSES_MAX} that mmwatch can select",
                "select them by memory cgroup (-c) or by name (--comm)",
            )
    cgroup_id = None
    if cgroup is not None:
        if not cgroup:
            raise UsageError("-c '' names no cgroup", "use -c / for the root of the hierarchy")
        from mmwatch.host import cgroups

        path, cgroup_id = cgroups.resolve(cgroups.memory_mount(), cgroup)
        described["cgroup"] = units.clean(str(path))
    if comm is not None:
        if not 0 < len(os.fsencode(comm)) < 16:
            raise UsageError(
                f"no task can be named {units.clean(comm)!r}",
                "the kernel keeps the first 15 bytes of a name; give those",
            )
        described["comm"] = units.clean(comm)
    return Target(Filter(tuple(tgids), children, cgroup_id, comm), described, tuple(notes))


def thread_group(pid: int) -> int:
    """The process that ``pid``, a process or one of its threads, belongs to.

    :raises MmwatchError: there is no such process.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as status:  # the name above this line may hold any byte
            return next(int(line.split()[1]) for line in status if line.startswith(b"Tgid:"))
    except (OSError, StopIteration):
        raise MmwatchError(f"no process has PID {pid}", "ps -e lists the running processes") from None


def with_descendants(tgids: list[int]) -> list[int]:
    """These processes and all processes below them."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            parents.setdefault(parent, []).append(int(name))
    found = list(tgids)
    for tgid in found:
        found.extend(child for child in parents.get(tgid, []) if child not in found)
    return found
