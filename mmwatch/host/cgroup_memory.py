"""Limits and usage of memory cgroups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmwatch.host._files import ROOT, read_lines, read_text
from mmwatch.host.cgroups import CgroupMount, memory_mount
from mmwatch.units import ancestors, clean, pages_text

_BYTES_UNLIMITED = 1 << 62
"""Version 1 has no word for "no limit"; it prints LONG_MAX rounded down to a page (PAGE_COUNTER_MAX)."""


@dataclass(frozen=True)
class CgroupMemory:
    """The memory of one cgroup with all below it.

    :param limit_bytes: memory.max (memory.limit_in_bytes in version 1); None: no limit.
    :param high_bytes: memory.high; None: no limit, or version 1, which has no such thing.
    :param limit_hits: how often the limit was hit: ``max`` of memory.events (memory.failcnt). None if unknown.
    """

    limit_bytes: int | None
    high_bytes: int | None
    usage_bytes: int
    limit_hits: int | None


def read_memory(mount: CgroupMount, path: str) -> CgroupMemory | None:
    """Limits and usage of a cgroup; None if it is gone, or is the root, which has none.

    :param path: from the root of the hierarchy, as the file system has it (:meth:`CgroupNames.path`).
    """
    folder = mount.path / path.lstrip("/")
    if mount.version == 1:
        usage = _bytes(folder / "memory.usage_in_bytes")
        limit = _bytes(folder / "memory.limit_in_bytes")
        if usage is None or path == "/":
            return None
        return CgroupMemory(limit, None, usage, _bytes(folder / "memory.failcnt"))
    usage = _bytes(folder / "memory.current")
    if usage is None or path == "/":
        return None
    hits = [line.split()[1:] for line in read_lines(folder / "memory.events") or () if line.startswith("max ")]
    return CgroupMemory(
        _bytes(folder / "memory.max"),
        _bytes(folder / "memory.high"),
        usage,
        int(hits[0][0]) if hits and hits[0] and hits[0][0].isdecimal() else None,
    )


def _bytes(file: Path) -> int | None:
    """None for "no limit", and if there is no such number."""
    text = read_text(file) or ""
    value = int(text) if text.isascii() and text.isdecimal() else _BYTES_UNLIMITED
    return value if value < _BYTES_UNLIMITED else None


def shortage(root: Path = ROOT) -> str:
    """Where this process is short of memory, for the user: its cgroup with the least room, or the host."""
    mount = memory_mount(root)
    found = []
    for line in read_lines(root / "proc/self/cgroup") or ():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if mount is not None and ("memory" in controllers.split(",") if mount.version == 1 else not controllers):
            states = [(one, read_memory(mount, one)) for one in (path, *ancestors(path))]
            found += [(m.limit_bytes - m.usage_bytes, m, one) for one, m in states if m and m.limit_bytes is not None]
    if not found:
        return "the host has too little free memory; free some, or try again"
    _, memory, path = min(found, key=lambda one: one[0])
    used, limit = (pages_text(value, 1) for value in (memory.usage_bytes, memory.limit_bytes))
    return (
        f"cgroup {clean(path)} has a limit of {limit}, of which {used} are used; "
        "raise it, or run mmwatch in another cgroup"
    )
